"""The pipeline's sign-in step: ask `identity`, tell the app who it is in fields that no client can send.

`X-Scopegate-User` is the token's subject, percent-encoded; `X-Scopegate-Claims` is a JSON object of its scalar claims,
ASCII only. Both names are cut from every incoming request (`edge/headers`).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from scopegate.edge.claims import Identity
from scopegate.edge.verdict import Refusal
from scopegate.gateway.exchange import Exchange, Pending
from scopegate.policy.policy import Auth

if TYPE_CHECKING:
    from scopegate.gateway.exchange import Outcome
    from scopegate.gateway.identity import Identities


class SignIn:
    """Checks a request against an `auth` of the policy."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def check(self, x: Exchange, auth: Auth) -> Outcome:
        authorization, cookies = x.notes.get(b"authorization"), x.notes.get(b"cookie")
        answer = self._identities.check_now(auth, authorization, cookies)
        if answer is None:
            return Pending(asyncio.ensure_future(self._identities.check(auth, authorization, cookies)), _checked)
        return _take(x, answer)

    async def close(self) -> None:
        await self._identities.close()


def _checked(x: Exchange, future: asyncio.Future[Identity | Refusal]) -> Outcome:
    return _take(x, future.result())


def _take(x: Exchange, answer: Identity | Refusal) -> Outcome:
    plan = x.plan
    assert plan is not None
    if isinstance(answer, Refusal):
        if plan.enforced:
            return answer
        plan.tally.refuse(f"would_{answer.code}")
        return None
    x.caller = replace(x.caller, user=answer.user, claims=answer.claims)
    x.identity = identity_fields(answer)
    return None


def identity_fields(identity: Identity) -> bytes:
    """Ready-made field lines for the app."""
    claims = json.dumps(dict(identity.claims), separators=(",", ":"))
    return f"x-scopegate-user: {quote(identity.user, safe='@:+|=,/')}\r\nx-scopegate-claims: {claims}\r\n".encode()
