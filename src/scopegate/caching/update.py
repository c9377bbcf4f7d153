"""What a 304 of the app changes of the answer that is kept (RFC 9111 3.2, 4.3.4).

Pure.
"""

from __future__ import annotations

from scopegate.caching.said import lines_without, said_of, values_of
from scopegate.caching.storable import CacheRequest, Unstorable, judge
from scopegate.caching.stored import Stored
from scopegate.caching.validation import opaque
from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from scopegate.policy.policy import CacheRule

_OF_THE_BODY = frozenset([b"content-length", b"content-encoding", b"content-range", b"transfer-encoding"])
"""What tells how the stored bytes are to be read: the app's word of now is of other bytes."""


def is_about(stored: Stored, notes: Noted) -> bool:
    """Whether a 304 with these fields can mean the stored answer: one that carries another tag does not."""
    tags = values_of(said_of(notes.passed), b"etag")
    return not tags or not stored.etag or (len(tags) == 1 and opaque(tags[0]) == opaque(stored.etag))


def updated(
    stored: Stored, asked: CacheRequest, notes: Noted, rule: CacheRule, now_s: float, date: bytes
) -> tuple[Stored, Unstorable | None]:
    """The stored answer with the fields of a 304 that came at `now_s`, and why it may not be kept any longer, if so."""
    fresh = lines_without(notes.passed, _OF_THE_BODY)
    names = frozenset(line[: line.index(b":")].lower() for line in fresh)
    kept = lines_without(stored.notes.passed, names | {b"date"})
    if b"date" not in names:
        kept.append(b"date: %b\r\n" % date)
    lines = [*kept, *fresh]
    found = judge(asked, stored.status, Noted(lines, RESPONSE_RULES), len(stored.body), rule, now_s, date)
    if isinstance(found, Unstorable):
        given = Stored(
            stored.url,
            stored.status,
            Noted(lines_without(lines, frozenset([b"age", b"cache-status"])), RESPONSE_RULES),
            stored.body,
            born_s=now_s,
            freshness=stored.freshness,
            vary=stored.vary,
            selected=stored.selected,
            etag=stored.etag,
            modified=stored.modified,
            modified_s=stored.modified_s,
            tags=stored.tags,
            is_implicit=stored.is_implicit,
            seen=asked.seen,
        )
        return given, found
    found.body = stored.body
    return found, None
