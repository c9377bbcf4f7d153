"""Cache-Control read as RFC 9111 5.2 has it, and CDN-Cache-Control as RFC 9213 has it.

Pure. A directive that nobody can read counts for what keeps answers apart: a lifetime that is no number is none, and
`no-store` or `private` in a part that is malformed forbids to store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MAX_SECONDS = 2**31
"""More than that is as good as forever (RFC 9111 1.2.2)."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*|\"[^\"]*\"")
_NAMES = re.compile(rb"[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*)*")
_QUOTE, _COMMA_BYTE, _BACKSLASH = b'",\\'
_FORBIDDING = (b"no-store", b"private", b"no-cache")


class Directives:
    """Of one message. Names are in lower case; of a name that came several times all values are kept."""

    __slots__ = ("_found", "is_doubtful")

    def __init__(self, found: dict[bytes, list[bytes]], is_doubtful: bool) -> None:
        self._found = found
        self.is_doubtful = is_doubtful
        """Whether something that may have been meant to forbid could not be read."""

    def has(self, name: bytes) -> bool:
        return name in self._found

    def is_bare(self, name: bytes) -> bool:
        """Whether it came without a value."""
        return b"" in self._found.get(name, [])

    def seconds(self, name: bytes) -> int | None:
        """The least of its values, 0 where one is no number; None where it is not there."""
        values = self._found.get(name)
        return None if values is None else min(map(_seconds, values))

    def forbids_whole(self, name: bytes) -> bool:
        """Whether it speaks of the whole answer: `no-cache`, and not `no-cache="set-cookie"`."""
        values = self._found.get(name)
        return values is not None and not all(_NAMES.fullmatch(_unquoted(value)) for value in values)

    def names(self, name: bytes) -> frozenset[bytes]:
        """The fields it speaks of, in lower case."""
        return frozenset(
            each.strip(b" \t").lower() for value in self._found.get(name, []) for each in _unquoted(value).split(b",")
        ) - {b""}

    def __bool__(self) -> bool:
        return bool(self._found)


NOTHING_SAID = Directives({}, False)


def read_directives(values: Sequence[bytes]) -> Directives:
    """Those of all Cache-Control fields of a message, in order."""
    if not values:
        return NOTHING_SAID
    found: dict[bytes, list[bytes]] = {}
    is_doubtful = False
    for part in _parts(values):
        name, _, value = part.partition(b"=")
        if _TOKEN.fullmatch(name) is not None:
            found.setdefault(name.lower(), []).append(value)
            if _VALUE.fullmatch(value) is not None:
                continue
        lower = part.lower()
        is_doubtful = is_doubtful or any(word in lower for word in _FORBIDDING)
    return Directives(found, is_doubtful)


def _parts(values: Sequence[bytes]) -> Iterator[bytes]:
    """What commas part, those in quoted strings left alone. A string that never ends is none."""
    for value in values:
        parts = _split(value) if b'"' in value else value.split(b",")
        yield from filter(None, (part.strip(b" \t") for part in parts))


def _split(value: bytes) -> list[bytes]:
    parts: list[bytes] = []
    start = at = 0
    opened = -1
    while at < len(value):
        byte = value[at]
        if opened >= 0 and byte == _BACKSLASH:
            at += 1
        elif byte == _QUOTE:
            opened = -1 if opened >= 0 else at
        elif byte == _COMMA_BYTE and opened < 0:
            parts.append(value[start:at])
            start = at + 1
        at += 1
    if opened < 0:
        return [*parts, value[start:]]
    return [*parts, *value[start:].split(b",")]


def _unquoted(value: bytes) -> bytes:
    return value[1:-1] if len(value) >= 2 and value[:1] == b'"' and value[-1:] == b'"' else value


def _seconds(value: bytes) -> int:
    digits = _unquoted(value)
    if not digits.isdigit():
        return 0
    return min(int(digits), MAX_SECONDS) if len(digits) <= 15 else MAX_SECONDS


# ── a targeted field: a dictionary of structured fields (RFC 9651 3.2) ───────────────────────────────────────────────

_KEY = rb"[a-z*][a-z0-9_.*-]*"
_ITEM = (
    rb"(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?"  # a number
    rb'|"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'  # a string
    rb"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"  # a token
    rb"|:[A-Za-z0-9+/=]*:|\?[01]|@-?[0-9]{1,15})"  # bytes, a boolean, a date
)
_PARAMETERS = rb"(?:;[ ]*%b(?:=%b)?)*" % (_KEY, _ITEM)
_LIST = rb"\([ ]*(?:%b%b(?:[ ]+%b%b)*)?[ ]*\)" % (_ITEM, _PARAMETERS, _ITEM, _PARAMETERS)
_MEMBER = re.compile(rb"(%b)(?:=(%b|%b))?%b" % (_KEY, _ITEM, _LIST, _PARAMETERS))
_COMMA = re.compile(rb"[ \t]*,[ \t]*")
_INTEGER = re.compile(rb"-?[0-9]{1,15}")
_TIMES = frozenset([b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error"])


def read_targeted(values: Sequence[bytes]) -> Directives | None:
    """Those of CDN-Cache-Control, None where it says nothing: it is missing, empty or no dictionary, and then
    Cache-Control counts. Of a key that comes twice the last counts; one of another type than it has is left out (RFC
    9213 2.1)."""
    text = b", ".join(values).strip(b" ")
    found: dict[bytes, list[bytes]] = {}
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return None
        name, value = member[1], member[2]
        at = member.end()
        if name in _TIMES and (value is None or _INTEGER.fullmatch(value) is None):
            found.pop(name, None)
        elif value != b"?0":
            found[name] = [b"" if value is None or value == b"?1" else value]
        else:
            found.pop(name, None)
        if at < len(text):
            comma = _COMMA.match(text, at)
            if comma is None or comma.end() == len(text):
                return None
            at = comma.end()
    return Directives(found, False) if found else None
