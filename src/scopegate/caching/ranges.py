"""Parts of an answer that is kept whole (RFC 9110 14): which bytes a Range means, and how several are written.

Pure. What is malformed, or would cost more than the whole, is answered with the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scopegate.caching.dates import only_date
from scopegate.caching.said import Said, lines_without, values_of
from scopegate.caching.stored import Stored

MAX_RANGES = 16
BytePart = tuple[int, int]
"""First byte and last, both within the body."""
UNSATISFIABLE: tuple[BytePart, ...] = ()
_SPEC = re.compile(rb"([0-9]{0,15})-([0-9]{0,15})")


def asks_for_parts(request: Said) -> bool:
    return b"range" in request


def parts_of(stored: Stored, request: Said, now_s: float) -> Sequence[BytePart] | None:
    """The parts that a request asks for, in its order; UNSATISFIABLE where the body has none of them, None where it
    gets the whole."""
    values = values_of(request, b"range")
    if len(values) != 1 or stored.status != 200 or not _still_holds(stored, request, now_s):
        return None
    unit, _, listed = values[0].partition(b"=")
    if unit.strip(b" \t").lower() != b"bytes":
        return None
    size = len(stored.body)
    found: list[BytePart] = []
    specs = [spec.strip(b" \t") for spec in listed.split(b",", MAX_RANGES + 1)]
    if len(specs) > MAX_RANGES:
        return None
    for spec in specs:
        part = _part(spec, size)
        if part is None:
            return None
        if part[0] <= part[1]:
            found.append(part)
    if not found:
        return UNSATISFIABLE
    if sum(last - first + 1 for first, last in found) > size:
        return None  # overlapping: the whole is less (RFC 9110 14.2)
    return found


def _part(spec: bytes, size: int) -> BytePart | None:
    """(1, 0) for a part beyond the end; None for what is no part."""
    match = _SPEC.fullmatch(spec)
    if match is None or (not match[1] and not match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size - 1) if length else (1, 0)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    return (first, last) if first < size else (1, 0)


def _still_holds(stored: Stored, request: Said, now_s: float) -> bool:
    """If-Range (RFC 9110 13.1.5): the same tag, a strong one, or the same date to the second."""
    values = values_of(request, b"if-range")
    if not values:
        return True
    value = values[0] if len(values) == 1 else b""
    if value[:1] == b'"':
        return value == stored.etag
    said_s = only_date([value], now_s)
    return said_s is not None and said_s == stored.modified_s and value == stored.modified


def content_range(part: BytePart, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (part[0], part[1], size)


def multipart(stored: Stored, parts: Sequence[BytePart], boundary: bytes) -> bytes:
    """The body of a multipart/byteranges answer (RFC 9110 14.6). `boundary` must not occur in what is kept."""
    types = [line for line in stored.notes.passed if line[:13].lower() == b"content-type:"]
    size = len(stored.body)
    pieces: list[bytes] = []
    for part in parts:
        pieces.append(b"--%b\r\n%bcontent-range: %b\r\n\r\n" % (boundary, b"".join(types), content_range(part, size)))
        pieces.append(stored.body[part[0] : part[1] + 1])
        pieces.append(b"\r\n")
    pieces.append(b"--%b--\r\n" % boundary)
    return b"".join(pieces)


def lines_of_parts(stored: Stored, *, several: bool) -> list[bytes]:
    """The field lines for a 206."""
    cut = frozenset([b"content-type", b"content-range"]) if several else frozenset([b"content-range"])
    return lines_without(stored.notes.passed, cut)
