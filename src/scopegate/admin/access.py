"""Who may use the admin port. Every answer of the port passes here; no page or number lives here.

With a token, everything but the probes needs it: as `Authorization: Bearer` (scripts, Prometheus), or as the password
of HTTP Basic (browsers; any user name). A second one, for the app, reads results and nothing else. Without the first,
only this machine is served, under a loopback name: a page that points its own name at 127.0.0.1 (DNS rebinding) is
refused by its Host. A change needs the Bearer token, or a browser's word that our own page asked for it.
`admin_problems` refuses to start on a public address without a token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import deque
from ipaddress import IPv6Address, ip_address
from typing import Literal

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scopegate.admin.answers import FIXED_FIELDS, problem
from scopegate.clock import Clock
from scopegate.errors import Problem
from scopegate.leads.webhook import SIGNATURE_FIELD
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import AdminRefusal
from scopegate.policy.policy import Policy

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Probes carry no credentials; they tell names of checks and nothing else."""

RESULTS = "/api/results/"
PURGES = "/api/cache/purge"
"""Where a signed request needs no token: who answers there has to check the signature."""
"""What the token of the app opens."""

WRONG_TRIES = 10
WRONG_TRIES_SPAN_S = 60.0
MAX_ADDRESSES = 10_000

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Proof = Literal["none", "wrong", "basic", "bearer", "reader"]


def admin_problems(token: SecretStr | None, policy: Policy, read_token: SecretStr | None = None) -> list[Problem]:
    """Why the admin port must not open as configured; empty when it may."""
    if read_token is not None and token is None:
        return [
            Problem("SCOPEGATE_READ_TOKEN", "", "set without SCOPEGATE_ADMIN_TOKEN, which shuts the port for others")
        ]
    if read_token is not None and read_token == token:
        return [Problem("SCOPEGATE_READ_TOKEN", "", "the same as SCOPEGATE_ADMIN_TOKEN, which opens everything")]
    host = policy.admin.listen.host
    if token is not None or is_loopback(host):
        return []
    what = f"not set, and the admin port listens on {host}: only a loopback address may do without a token"
    return [Problem("SCOPEGATE_ADMIN_TOKEN", "", what)]


def is_loopback(host: str) -> bool:
    """True for `localhost` and for loopback addresses, IPv4-mapped ones too. No name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


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


class Access:
    """ASGI middleware around the whole admin application."""

    def __init__(
        self, app: ASGIApp, token: SecretStr | None, clock: Clock, read_token: SecretStr | None = None
    ) -> None:
        self._app = app
        self._digest = _digest(token)
        self._read_digest = _digest(read_token)
        self._tries = WrongTries(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:  # no WebSocket here
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(FIXED_FIELDS)
            await send(message)

        refused = None if scope["path"] in OPEN_PATHS else self._judge(scope)
        await (refused or self._app)(scope, receive, send_armoured)

    def _judge(self, scope: Scope) -> ASGIApp | None:
        """The refusal, None when the request may pass."""
        headers, address = Headers(scope=scope), _address(scope)
        if scope["path"] == PURGES and SIGNATURE_FIELD in headers:
            return None
        if self._digest is None:
            return self._judge_local(scope, headers, address)
        if wait_s := self._tries.wait_s(address):
            return _refuse(429, "too_many_tries", "Too many wrong tokens.", {"retry-after": str(int(wait_s) + 1)})
        proof = self._proof(headers)
        if proof == "wrong":
            self._tries.add(address)
        if proof in ("none", "wrong"):
            challenge = {"www-authenticate": 'Bearer realm="scopegate", Basic realm="scopegate", charset="UTF-8"'}
            reason: AdminRefusal = "no_token" if proof == "none" else "wrong_token"
            return _refuse(401, reason, "The admin token is needed.", challenge)
        if proof == "reader":
            return _judge_reader(scope)
        return None if proof == "bearer" else _judge_change(scope, headers)

    def _judge_local(self, scope: Scope, headers: Headers, address: str) -> ASGIApp | None:
        if not is_loopback(address):
            return _refuse(403, "not_loopback", "Without an admin token only this machine is served.")
        if not is_loopback(_host_name(headers.get("host", ""))):
            return _refuse(421, "host", "Without an admin token the port answers to loopback names only.")
        return _judge_change(scope, headers)

    def _proof(self, headers: Headers) -> Proof:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._of_bearer(credentials.strip())
        if scheme.lower() == "basic":
            claimed = _digest_of(_basic_password(credentials.strip()))
            return "basic" if hmac.compare_digest(claimed, self._digest or b"") else "wrong"
        return "none"

    def _of_bearer(self, token: str) -> Proof:
        claimed = _digest_of(token)
        if hmac.compare_digest(claimed, self._digest or b""):
            return "bearer"
        return "reader" if hmac.compare_digest(claimed, self._read_digest or b"") else "wrong"


def _digest(token: SecretStr | None) -> bytes | None:
    return None if token is None else _digest_of(token.get_secret_value())


def _digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _judge_reader(scope: Scope) -> ASGIApp | None:
    if scope["path"].startswith(RESULTS) and scope["method"] in _SAFE_METHODS:
        return None
    return _refuse(403, "results_only", f"This token reads {RESULTS} and nothing else.")


def _judge_change(scope: Scope, headers: Headers) -> ASGIApp | None:
    """Fetch Metadata where the browser sends it, else Origin; neither means no browser page of ours asked."""
    if scope["method"] in _SAFE_METHODS:
        return None
    site = headers.get("sec-fetch-site")
    if site is not None:
        allowed = site == "same-origin"
    else:
        allowed = headers.get("origin") == f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
    if allowed:
        return None
    return _refuse(
        403, "cross_site", "A change needs the token as Bearer, or a same-origin Origin or Sec-Fetch-Site field."
    )


def _refuse(status: int, reason: AdminRefusal, detail: str, fields: dict[str, str] | None = None) -> ASGIApp:
    metrics.ADMIN_REFUSALS.labels(reason).inc()
    return problem(status, reason, detail, fields)


def _address(scope: Scope) -> str:
    """The peer as the limit of tries counts it: IPv6 by /64. Empty for a peer without an address."""
    client = scope.get("client")
    if not client:
        return ""
    try:
        address = ip_address(client[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


def _host_name(host: str) -> str:
    """The name in a Host field, without port and brackets; empty when it is no such thing."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or port[1:].isdecimal()) else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdecimal() else ""


def _basic_password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
