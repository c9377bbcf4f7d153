"""The same lead sent again: which requests count as one, and what the later one is told.

Pure. The first holds a claim as long as the offload says: on its Idempotency-Key where it has one, else on its body
where the policy asks for that. A claim belongs to its sender, so nobody meets another's. What the statuses mean follows
draft-ietf-httpapi-idempotency-key-header-07; a key is taken quoted, as it has it, and bare, as most clients send it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from scopegate.leads.job import Claim, Earlier, KeptAnswer, OrderState, Unreadable
from scopegate.policy.policy import Offload

MAX_KEPT_BYTES: Final = 64 * 1024
"""A longer answer is not kept: its repeat hears that the lead was taken."""
KEPT_FIELDS: Final = (b"content-type", b"content-language", b"location", b"link")
"""What of an answer's fields is given again: what says what the body is and where the lead is, and no cookie."""

_BARE = re.compile(rb"[!#-+\--~]{1,255}")
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')
_ESCAPED = re.compile(rb'\\(["\\])')


class Repeat(StrEnum):
    """What is told to a request that asks for a claim which an earlier one holds."""

    ANSWERED = "answered"
    """The first answer, again."""
    UNDER_WAY = "under_way"
    """Nobody knows yet what becomes of the first."""
    TAKEN = "taken"
    """The first was taken, and its answer is not there any more."""
    OTHER = "other"
    """The key was given to another request."""


def read_key(values: Sequence[bytes]) -> str | Unreadable | None:
    """The Idempotency-Key of a request with these values of the field; None where there is none. A String of RFC 9651
    without parameters, or bare: visible ASCII without quotes, backslash and comma; 1 to 255 characters."""
    if not values:
        return None
    if len(values) > 1:
        return Unreadable("there are several")
    quoted = _QUOTED.fullmatch(values[0])
    if quoted is not None:
        return _ESCAPED.sub(rb"\1", quoted[1]).decode("ascii")
    if b"\\" in values[0] or _BARE.fullmatch(values[0]) is None:
        return Unreadable("it is not 1 to 255 visible ASCII characters, quoted or bare")
    return values[0].decode("ascii")


def claim_of(offload: Offload, sender: str, key: str | None, request: Iterable[bytes], now_ms: int) -> Claim | None:
    """The claim of a request, None where its repeat is a lead of its own. `sender` is one word for who asks; `request`
    is what has to be the same in a repeat, its body last."""
    parts = [hashlib.sha256(part).hexdigest() for part in request]
    body = _digest(*parts)
    if key is not None and offload.same_key_ms is not None:
        return Claim(_digest(offload.name, sender, "key", key), body, now_ms + offload.same_key_ms)
    if key is None and offload.same_body_ms is not None:
        return Claim(_digest(offload.name, sender, "body", body), body, now_ms + offload.same_body_ms)
    return None


def _digest(*words: str) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def judge(claim: Claim, earlier: Earlier) -> Repeat:
    """What `earlier`, which holds this claim, means for who asks for it."""
    if claim.body != earlier.claim.body:
        return Repeat.OTHER
    if earlier.state in (OrderState.PENDING, OrderState.UNKNOWN):
        return Repeat.UNDER_WAY
    return Repeat.TAKEN if earlier.answer is None else Repeat.ANSWERED


def kept(status: int, lines: Iterable[bytes], body: bytes) -> KeptAnswer | None:
    """What is kept of an answer with these field lines; None of one that is too long."""
    fields = b"".join(line for line in lines if line.partition(b":")[0].lower() in KEPT_FIELDS)
    return KeptAnswer(status, fields, body) if len(fields) + len(body) <= MAX_KEPT_BYTES else None
