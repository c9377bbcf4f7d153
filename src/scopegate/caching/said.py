"""What a message's field lines say, by name: as much as a cache has to look at.

Pure. Names in lower case; values as sent, without the space around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scopegate.edge.lines import SPACE

Said = Mapping[bytes, Sequence[bytes]]

_NOTHING: tuple[bytes, ...] = ()


def said_of(lines: Iterable[bytes]) -> Said:
    """`lines` each have a name, a colon and a CRLF."""
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        found.setdefault(name.lower(), []).append(value.strip(b" \t\r\n"))
    return found


def values_of(said: Said, name: bytes) -> Sequence[bytes]:
    return said.get(name, _NOTHING)


def members_of(said: Said, name: bytes) -> list[bytes]:
    """The members of a list that may stand in several fields, without the empty ones."""
    parts = (part.strip(SPACE) for value in values_of(said, name) for part in value.split(b","))
    return [part for part in parts if part]


def lines_without(lines: Iterable[bytes], names: frozenset[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in names]
