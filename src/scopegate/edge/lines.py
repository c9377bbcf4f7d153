"""A head's field lines as they were sent, each with its line's end, and the names and values in them.

Pure. They come from a parser that took the head: every line has a name, a colon and a CRLF, and none is folded.
"""

from __future__ import annotations

from collections.abc import Iterable

from scopegate.types import Fields

SPACE = b" \t"
"""What may stand around a value (OWS, RFC 9110 5.6.3)."""


def field_of(line: bytes) -> tuple[bytes, bytes]:
    """Name and value. What stands after a value stays."""
    colon = line.index(b":")
    return line[:colon], line[colon + 1 : -2].lstrip(SPACE)


def lines_of(fields: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Fields as they are written."""
    return [b"%b: %b\r\n" % field for field in fields]


def fields_of(lines: Iterable[bytes]) -> Fields:
    return [field_of(line) for line in lines]
