"""Validators in both directions (RFC 9110 13, RFC 9111 4.3): what a visitor has already, and what the app is asked.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scopegate.caching.dates import only_date
from scopegate.caching.said import Said, values_of
from scopegate.caching.stored import Stored

CONDITIONS = (b"if-none-match", b"if-modified-since")
"""What is judged here in the app's place."""
OTHER_CONDITIONS = frozenset([b"if-match", b"if-unmodified-since"])
"""What only the app judges: they guard changes."""
_TAG = re.compile(rb'[ \t]*(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"[ \t]*(?:,|$)|[ \t]*(?:,|$)')
_MAX_TAGS = 100


def is_not_modified(stored: Stored, request: Said, now_s: float) -> bool:
    """Whether the visitor has this answer (RFC 9110 13.1.2, 13.1.3). An If-Modified-Since beside an If-None-Match
    counts for nothing."""
    if stored.status != 200:
        return False
    tags = values_of(request, b"if-none-match")
    if tags:
        return _has_tag(stored.etag, tags)
    since = values_of(request, b"if-modified-since")
    if not since or stored.modified_s is None:
        return False
    since_s = only_date(since, now_s)
    return since_s is not None and stored.modified_s <= since_s


def _has_tag(etag: bytes, values: Sequence[bytes]) -> bool:
    if len(values) == 1 and values[0] == b"*":
        return True
    wanted = opaque(etag)
    return bool(wanted) and any(opaque(tag) == wanted for tag in _tags(values))


def _tags(values: Sequence[bytes]) -> Iterator[bytes]:
    """Entity tags as they stand there, up to the first thing that is none."""
    count = 0
    for value in values:
        at = 0
        while at < len(value) and count < _MAX_TAGS:
            found = _TAG.match(value, at)
            if found is None or found.end() == at:
                break
            tag = found[0].strip(b" \t,")
            at = found.end()
            count += 1
            if tag:
                yield tag


def opaque(tag: bytes) -> bytes:
    """A tag without its weakness: how two are compared weakly (RFC 9110 8.8.3.2). Empty for what is none."""
    tag = tag[2:] if tag[:2] == b"W/" else tag
    return tag if len(tag) >= 2 and tag[:1] == b'"' and tag[-1:] == b'"' else b""


def questions(stored: Stored) -> list[bytes]:
    """The field lines that ask the app whether this is still its answer (RFC 9111 4.3.1)."""
    lines = []
    if stored.etag:
        lines.append(b"if-none-match: %b\r\n" % stored.etag)
    if stored.modified:
        lines.append(b"if-modified-since: %b\r\n" % stored.modified)
    return lines
