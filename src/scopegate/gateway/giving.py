"""An answer that is kept, given to a visitor: whole, its head alone, parts of it, or the word that they have it.

Nothing is fetched here. Called by `caching`, `filler` and `fill`.
"""

from __future__ import annotations

from collections.abc import Sequence

from scopegate.caching.cache_status import hit_lines
from scopegate.caching.ranges import BytePart, content_range, lines_of_parts, multipart, parts_of
from scopegate.caching.said import Said, lines_without
from scopegate.caching.stored import Stored
from scopegate.caching.validation import is_not_modified
from scopegate.edge.field_rules import RESPONSE_RULES
from scopegate.edge.headers import Noted
from scopegate.gateway import answering
from scopegate.gateway.exchange import Exchange
from scopegate.metrics.labels import CacheOutcome

_ONE_WRITE_BYTES = 64 * 1024
_NOT_IN_304 = frozenset(
    b"content-type content-length content-encoding content-language content-range content-disposition".split()
)
_WITH_A_TAG = frozenset([b"last-modified"])
"""What a 304 need not repeat of what it speaks of (RFC 9110 15.4.5)."""


def note(x: Exchange, outcome: CacheOutcome) -> None:
    """Counted by route, and told in the log."""
    x.cache_word = outcome.value
    x.met.tally.cache(outcome.value)


def give(x: Exchange, request: Said, stored: Stored, outcome: CacheOutcome, lines: bytes = b"") -> None:
    """All of the exchange that is left. `lines` tell how the answer was come by, else it is a hit."""
    now_s = x.shared.now_s()
    note(x, outcome)
    if not lines:
        lines = hit_lines(stored, now_s, collapsed=outcome is CacheOutcome.COLLAPSED)
    if (b"if-none-match" in request or b"if-modified-since" in request) and is_not_modified(stored, request, now_s):
        give_not_modified(x, stored, lines)
        return
    if b"range" in request and x.method == "GET":
        parts = parts_of(stored, request, now_s)
        if parts is not None:
            _give_parts(x, stored, parts, lines)
            return
    _write(x, stored.status, stored.notes, stored.body, lines)


def give_not_modified(x: Exchange, stored: Stored, lines: bytes) -> None:
    cut = _NOT_IN_304 | _WITH_A_TAG if stored.etag else _NOT_IN_304
    kept = Noted(lines_without(stored.notes.passed, cut), RESPONSE_RULES)
    _write(x, 304, kept, b"", lines)


def _give_parts(x: Exchange, stored: Stored, parts: Sequence[BytePart], lines: bytes) -> None:
    size = len(stored.body)
    if not parts:
        kept = lines_without(stored.notes.passed, _NOT_IN_304)
        kept.append(b"content-range: bytes */%d\r\n" % size)
        _write(x, 416, Noted(kept, RESPONSE_RULES), b"", lines)
        return
    if len(parts) == 1:
        kept = lines_of_parts(stored, several=False)
        kept.append(b"content-range: %b\r\n" % content_range(parts[0], size))
        body = stored.body[parts[0][0] : parts[0][1] + 1]
    else:
        boundary = b"scopegate-%b" % x.shared.next_request_id()
        kept = lines_of_parts(stored, several=True)
        kept.append(b"content-type: multipart/byteranges; boundary=%b\r\n" % boundary)
        body = multipart(stored, parts, boundary)
    _write(x, 206, Noted(kept, RESPONSE_RULES), body, lines)


def begin(x: Exchange, stored: Stored, length: int, lines: bytes) -> None:
    """The head of an answer whose body follows: `length` bytes, CHUNKED or UNTIL_EOF."""
    if x.shared.draining:
        x.keep_alive = False
    x.status = stored.status
    x.answer_begun = True
    x.client.write(answering.stored_head(x, x.plan, stored.status, stored.notes, length, x.shared, lines))


def _write(x: Exchange, status: int, notes: Noted, body: bytes, lines: bytes) -> None:
    if x.shared.draining:
        x.keep_alive = False
    x.status = status
    x.answer_begun = True
    length = len(body)
    head = answering.stored_head(x, x.plan, status, notes, length, x.shared, lines)
    if x.method == "HEAD":
        x.client.write(head)
    else:
        x.bytes_out = length
        if length <= _ONE_WRITE_BYTES:
            x.client.write(head + body)
        else:
            x.client.write(head)
            x.client.write(body)
    x.finish()
