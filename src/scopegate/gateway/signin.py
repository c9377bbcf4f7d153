"""The pipeline's sign-in step: ask `identity`, tell the app who it is in fields that no client can send.

`X-Scopegate-User` is the token's subject, percent-encoded; `X-Scopegate-Claims` is a JSON object of its scalar claims,
ASCII only. With `sign_with`, `X-Scopegate-Signature` binds both to this request, so that an app which can also be
reached around the gateway knows who speaks; `X-Scopegate-Target` is the target as it was signed, for frameworks that
tell only what they made of it. All these names are cut from every incoming request (`edge/field_rules`).
`docs/identity.md` tells apps how to check.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from scopegate.edge.claims import Identity
from scopegate.edge.verdict import Caller, Refusal
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.policy.policy import Auth

if TYPE_CHECKING:
    from scopegate.gateway.identity import Identities


class SignIn:
    """Checks a request against an `auth` of the policy."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def check(self, x: Exchange, auth: Auth) -> Outcome:
        authorization, cookies = x.notes.get(b"authorization"), x.notes.get(b"cookie")
        answer = self._identities.check_now(auth, authorization, cookies)
        if answer is None:
            checking = asyncio.ensure_future(self._identities.check(auth, authorization, cookies))
            return Pending(checking, partial(_checked, auth))
        return _take(auth, x, answer)

    async def close(self) -> None:
        await self._identities.close()


def _checked(auth: Auth, x: Exchange, future: asyncio.Future[Identity | Refusal]) -> Outcome:
    return _take(auth, x, future.result())


def _take(auth: Auth, x: Exchange, answer: Identity | Refusal) -> Outcome:
    plan = x.plan
    if isinstance(answer, Refusal):
        if plan.enforced:
            x.stranger = answer
            return None
        plan.tally.watch(answer.code)
        return None
    x.caller = Caller(x.caller.address, x.caller.group, answer.user, answer.claims, auth.name)
    user, claims = identity_values(answer)
    x.identity = b"x-scopegate-user: %b\r\nx-scopegate-claims: %b\r\n" % (user, claims)
    if auth.sign_with is not None:
        key = auth.sign_with.get_secret_value().encode()
        target = x.target.raw
        signed = signature(key, int(x.shared.now_s()), x.request_id, x.method, target, user, claims)
        x.identity += b"x-scopegate-target: %b\r\nx-scopegate-signature: %b\r\n" % (target, signed)
    return None


def identity_values(identity: Identity) -> tuple[bytes, bytes]:
    """The values of X-Scopegate-User and X-Scopegate-Claims: printable ASCII, no line breaks."""
    claims = json.dumps(dict(identity.claims), separators=(",", ":"))
    return quote(identity.user, safe="@:+|=,/").encode(), claims.encode()


def signature(
    key: bytes, now_s: int, request_id: bytes, method: str, target: bytes, user: bytes, claims: bytes
) -> bytes:
    """The value of X-Scopegate-Signature: `t=<Unix seconds>,v1=<HMAC-SHA256 in hex>` over seven lines. No part can hold
    a line break, so no two requests sign the same text."""
    text = b"v1\n%d\n%b\n%b\n%b\n%b\n%b" % (now_s, request_id, method.encode(), target, user, claims)
    return b"t=%d,v1=%b" % (now_s, hmac.digest(key, text, "sha256").hex().encode())
