"""Who asks at the admin port: tokens, sessions of browsers, names that an identity proxy vouches for. Makes no answer.

A session is a sealed cookie: whoever holds the key of this installation's tokens can read it, so it survives a restart,
and ends for everybody when a token changes. Signing out ends one in this process at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from scopegate import jsontext
from scopegate.clock import Clock
from scopegate.edge.caller import is_trusted

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from scopegate.policy.policy import IdentityProxy

COOKIE = "scopegate_session"
SESSION_S = 12 * 3600
MAX_NAME_CHARS = 80
MAX_ENDED = 1000
WRONG_TRIES = 10
WRONG_TRIES_SPAN_S = 60.0
MAX_ADDRESSES = 10_000


class ConsoleRole(StrEnum):
    """A viewer changes nothing."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who may be here. `name` is what the audit calls them; `by`: how that is known (`token`, `session`,
    `identity`, `machine`); `session` is what an anti-forgery token is bound to."""

    name: str
    role: ConsoleRole
    by: str
    session: str = ""

    @property
    def may_act(self) -> bool:
        return self.role is ConsoleRole.OPERATOR


HERE = Who("this machine", ConsoleRole.OPERATOR, "machine")
"""Without a token only loopback is served, and everything to it."""


class WrongTries:
    """Wrong tokens per address: at most 10 in any minute, then nothing from there is looked at until one is a minute
    old. Holds 10,000 addresses; beyond that the one that erred longest ago is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: dict[str, deque[float]] = {}

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again, 0 when it may now."""
        tries = self._tries.get(address)
        if tries is None or len(tries) < WRONG_TRIES:
            return 0.0
        return max(0.0, tries[0] + WRONG_TRIES_SPAN_S - self._clock.monotonic_s())

    def add(self, address: str) -> None:
        tries = self._tries.pop(address, None) or deque(maxlen=WRONG_TRIES)
        tries.append(self._clock.monotonic_s())
        self._tries[address] = tries
        if len(self._tries) > MAX_ADDRESSES:
            del self._tries[next(iter(self._tries))]


class Credentials:
    """What opens the admin port. Without `token` (`is_open`) nobody needs any."""

    def __init__(
        self,
        token: SecretStr | None,
        clock: Clock,
        read_token: SecretStr | None = None,
        viewer_token: SecretStr | None = None,
    ) -> None:
        self._clock = clock
        self._operator, self._reader, self._viewer = _digest(token), _digest(read_token), _digest(viewer_token)
        self.is_open = token is None
        self.tries = WrongTries(clock)
        kept = b"".join(digest or b"" for digest in (self._operator, self._viewer))
        self._key = hashlib.sha256(b"scopegate session" + (kept or secrets.token_bytes(32))).digest()
        self._ended: dict[str, None] = {}

    # ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def role_of(self, token: str) -> ConsoleRole | None:
        claimed = digest_of(token)
        if _is(claimed, self._operator):
            return ConsoleRole.OPERATOR
        return ConsoleRole.VIEWER if _is(claimed, self._viewer) else None

    def is_reader(self, token: str) -> bool:
        """The app's own, for results alone."""
        return _is(digest_of(token), self._reader)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, name: str, role: ConsoleRole) -> str:
        """The cookie of a new session."""
        said = {"n": name, "r": role.value, "t": self._clock.now_ms() // 1000, "i": secrets.token_urlsafe(9)}
        packed = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
        return f"{packed}.{self._seal(packed)}"

    def of_session(self, cookie: str) -> Who | None:
        """Of one that is ours and has not ended."""
        packed, _, seal = cookie.partition(".")
        if not hmac.compare_digest(seal.encode("utf-8", "replace"), self._seal(packed).encode()):
            return None
        said: Any = jsontext.parse(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), max_depth=2)
        is_over = self._clock.now_ms() // 1000 >= said["t"] + SESSION_S
        if is_over or seal in self._ended:
            return None
        return Who(said["n"], ConsoleRole(said["r"]), "session", seal)

    def end(self, who: Who) -> None:
        """The session is over, wherever its cookie has got to."""
        self._ended[who.session] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]

    def _seal(self, packed: str) -> str:
        return hmac.new(self._key, packed.encode("utf-8", "replace"), "sha256").hexdigest()

    # ── forms ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def form_token(self, who: Who) -> str:
        """What a form of ours carries: no other site can know it."""
        return hmac.new(self._key, f"form {who.by} {who.name} {who.session}".encode(), "sha256").hexdigest()

    def is_form_token(self, who: Who, claimed: str) -> bool:
        return hmac.compare_digest(claimed.encode("utf-8", "replace"), self.form_token(who).encode())


def vouched(identity: IdentityProxy | None, peer: str, headers: Headers) -> Who | None:
    """Whom the proxy at `peer` names; None where it names nobody the policy knows, or may not."""
    if identity is None or not is_trusted(peer, identity.proxies):
        return None
    names = headers.getlist(identity.field)
    if len(names) != 1 or not _is_name(name := names[0].strip()):
        return None
    if name in identity.operators:
        return Who(name, ConsoleRole.OPERATOR, "identity", name)
    return (
        Who(name, ConsoleRole.VIEWER, "identity", name) if name in identity.viewers or "*" in identity.viewers else None
    )


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable()


def _digest(token: SecretStr | None) -> bytes | None:
    return None if token is None else digest_of(token.get_secret_value())


def digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _is(claimed: bytes, digest: bytes | None) -> bool:
    return digest is not None and hmac.compare_digest(claimed, digest)
