"""Cookies of a request by name (RFC 6265 5.4). Pure. Called by sign-in and by the limits' keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

_ESCAPED = re.compile(rb"\\([0-3][0-7][0-7]|.)", re.DOTALL)


def values_of(name: bytes, lines: Sequence[bytes]) -> set[bytes]:
    """What the Cookie fields say a cookie is. More than one value: servers differ in which one they take."""
    pairs = (pair.partition(b"=") for line in lines for pair in line.split(b";"))
    return {value.strip(b" \t") for key, _, value in pairs if key.strip(b" \t") == name}


def meant(value: bytes) -> bytes:
    """What a value is to those who decode it: quotes with what is escaped between them (Python, Java), per cent and
    plus (PHP, Express). Whatever a visitor writes for one session is one value; that two become one does no harm."""
    if len(value) > 1 and value[:1] == b'"' == value[-1:]:
        value = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]) if len(found[1]) == 3 else found[1], value[1:-1])
    return unquote_to_bytes(value.replace(b"+", b" "))
