"""A lead that was sent before: whose claim it asks for, and the answer that it gets in place of the app's.

What counts as a repeat is decided in `leads/repeats`. Called by `intake`, for routes that offload alone.
"""

from __future__ import annotations

from typing import assert_never

from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from scopegate.edge.lines import SPACE
from scopegate.edge.verdict import Refusal, Reply
from scopegate.gateway import answering
from scopegate.gateway.exchange import Exchange
from scopegate.leads import repeats
from scopegate.leads.job import Claim, Earlier, KeptAnswer, Unreadable
from scopegate.leads.repeats import Repeat
from scopegate.policy.policy import Offload

_REPLAYED = b"idempotent-replayed: true\r\n"
_OTHER = Refusal(
    422, "idempotency_key_reused", "This Idempotency-Key was sent with another request: use a new one for a new lead."
)
_UNDER_WAY = Refusal(
    409, "lead_under_way", "The same lead was sent before, and has no answer yet.", ((b"retry-after", b"5"),)
)
_TAKEN = Refusal(409, "lead_taken", "The same lead was taken before. Its answer is not kept any more.")


def claim_of(x: Exchange, offload: Offload, body: bytes) -> Claim | Refusal | None:
    """What this request claims, None where its repeats are leads of their own; so they are where the route only
    watches."""
    if not x.plan.enforced or (offload.same_key_ms is None and offload.same_body_ms is None):
        return None
    values = [value.strip(SPACE) for name, value in x.head.fields if name.lower() == b"idempotency-key"]
    key = repeats.read_key(values)
    if isinstance(key, Unreadable):
        return Refusal(400, "bad_idempotency_key", f"Idempotency-Key cannot be taken: {key.reason}.")
    content_type = b", ".join(x.notes.get(b"content-type"))
    request = (x.target.method.encode(), x.target.raw, content_type, body)
    return repeats.claim_of(offload, _sender(x), key, request, x.shared.now_ms())


def _sender(x: Exchange) -> str:
    """Whom a key belongs to: the user, or the address of who is not signed in."""
    caller = x.caller
    return f"address {caller.group}" if caller.user is None else f"user {caller.auth} {caller.user}"


def reply(x: Exchange, claim: Claim, earlier: Earlier) -> Refusal | Reply:
    """What the later one is told."""
    match repeats.judge(claim, earlier):
        case Repeat.OTHER:
            return _OTHER
        case Repeat.UNDER_WAY:
            return _UNDER_WAY
        case Repeat.TAKEN:
            return _TAKEN
        case Repeat.ANSWERED:
            assert earlier.answer is not None
            return _again(x, earlier.answer)
        case never:
            assert_never(never)


def _again(x: Exchange, answer: KeptAnswer) -> Reply:
    notes = Noted(answer.fields.splitlines(keepends=True), RESPONSE_RULES)
    lines = answering.app_fields(x, x.plan, answer.status, notes, len(answer.body))
    return Reply(answer.status, lines + _REPLAYED + answering.limit_fields(x, x.shared.now_s()), answer.body)
