"""What a proven token says: its JSON, its times, whom it is meant for, and the claims that may travel on.

Pure: signatures and keys are `gateway/identity`'s, its only caller. No token and no claim appears in a refusal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scopegate import jsontext
from scopegate.edge.verdict import Refusal

MAX_USER_CHARACTERS = 255
MAX_CLAIMS = 32
MAX_DEPTH = 64
MAX_CLAIM_CHARACTERS = 256
MAX_CLAIMS_CHARACTERS = 2048
"""All names and values together: they travel in one header field."""

_END_OF_TIME_S = 1e12
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OF_THE_TOKEN = frozenset({"sub", "exp", "nbf", "iat", "jti"})


class Identity(NamedTuple):
    """A proven visitor. `user` is the token's `sub`: 1 to 255 characters, perhaps beyond ASCII, no controls. `claims`
    are its scalar claims as text, bounded in number and length; `true`/`false` and numbers as JSON writes them."""

    user: str
    claims: tuple[tuple[str, str], ...]


def unauthenticated(detail: str, challenge: bytes = b'Bearer error="invalid_token"') -> Refusal:
    """401 with the challenge it must carry (RFC 9110 11.6.1, RFC 6750 3)."""
    return Refusal(401, "unauthenticated", detail, ((b"www-authenticate", challenge),))


BAD_CLAIMS = unauthenticated("The sign-in token lacks a claim, or holds one in a wrong form.")
_BAD_ISSUER = unauthenticated("The sign-in token comes from another issuer.")
_BAD_AUDIENCE = unauthenticated("The sign-in token is meant for another audience.")
_EXPIRED = unauthenticated("The sign-in token has expired.")
_TOO_EARLY = unauthenticated("The sign-in token is not valid yet.")
_NOT_ENOUGH = ((b"www-authenticate", b'Bearer error="insufficient_scope"'),)
_FORBIDDEN = Refusal(403, "forbidden", "This identity may not do that.", _NOT_ENOUGH)


@dataclass(frozen=True, slots=True)
class Proven:
    """A token with a good signature, in the terms of a rule. `meets` tells whether `require` is met; times are Unix
    seconds."""

    not_before_s: float
    expires_s: float
    meets: bool
    identity: Identity

    def at(self, now_s: float, leeway_s: float) -> Identity | Refusal:
        """Who is asking, at this moment. A token is dead in the second it names."""
        if now_s >= self.expires_s + leeway_s:
            return _EXPIRED
        if now_s < self.not_before_s - leeway_s:
            return _TOO_EARLY
        return self.identity if self.meets else _FORBIDDEN


def judge_claims(
    claims: Mapping[str, Any], issuer: str | None, audience: str | None, require: Mapping[str, str]
) -> Proven | Refusal:
    """The claims of a token with a good signature; `exp` and `sub` must be there. RFC 7519 4.1, RFC 8725 3.8-3.10.

    Valid from the later of `nbf` and `iat`. `require` is kept for `Proven.at`: an expired token is 401, not 403.
    """
    user, expires, begins = claims.get("sub"), claims.get("exp"), [claims.get(name, 0) for name in ("nbf", "iat")]
    if not (_is_time(expires) and all(_is_time(begin) for begin in begins)):
        return BAD_CLAIMS
    if not isinstance(user, str) or not 1 <= len(user) <= MAX_USER_CHARACTERS or _CONTROL.search(user):
        return BAD_CLAIMS
    if issuer is not None and claims.get("iss") != issuer:
        return _BAD_ISSUER
    if not _is_meant_for(audience, claims.get("aud")):
        return _BAD_AUDIENCE
    meets = all(_has(claims, name, value) for name, value in require.items())
    return Proven(max(begins), float(claims["exp"]), meets, Identity(user, _bounded(claims)))


def json_object(text: bytes) -> dict[str, Any]:
    """A JSON object, every name in it once: of two claims or two `alg` the app might read the other one (RFC 7515 4,
    RFC 7519 4). Raises ValueError."""
    value = jsontext.parse_as_written(text, max_depth=MAX_DEPTH, real=float)  # an infinite number is no time
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    return value


def _is_time(value: object) -> bool:
    """Whether it is a date in Unix seconds: infinities and numbers beyond any date are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _END_OF_TIME_S


def _is_meant_for(audience: str | None, claimed: object) -> bool:
    """A token that names an audience is for nobody else, also when the rule names none (RFC 7519 4.1.3)."""
    named = claimed if isinstance(claimed, list) else [claimed]
    return audience in named if audience is not None else claimed is None


def _has(claims: Mapping[str, Any], name: str, value: str) -> bool:
    """Whether a claim is the value, or a list that holds it; `scope` is a list with spaces (RFC 8693 4.2)."""
    claimed = claims.get(name)
    if name == "scope" and isinstance(claimed, str):
        return value in claimed.split(" ")
    return any(_text(item) == value for item in (claimed if isinstance(claimed, list) else [claimed]))


def _text(value: object) -> str | None:
    """A scalar as text; None for what is none."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int | float) and abs(value) < math.inf else None


def _bounded(claims: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The scalar claims about the visitor, in the token's order; what is too long or holds a control is left out."""
    kept: list[tuple[str, str]] = []
    room = MAX_CLAIMS_CHARACTERS
    for name, value in claims.items():
        text = _text(value)
        if text is None or name in _OF_THE_TOKEN or _CONTROL.search(name + text):
            continue
        if max(len(name), len(text)) > MAX_CLAIM_CHARACTERS or len(name) + len(text) > room:
            continue
        kept.append((name, text))
        room -= len(name) + len(text)
    return tuple(kept[:MAX_CLAIMS])
