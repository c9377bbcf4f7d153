"""Which routes an earlier route hides. Matching here is that of `edge/routes`, one layer up, asked about whole routes
instead of requests: case, trailing slash and escapes do not count, HEAD follows GET.

Pure. Called by `sections/routes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias
from urllib.parse import unquote

from scopegate.policy.addresses import covers_host
from scopegate.policy.spelling import RequestLine

_End: TypeAlias = tuple[frozenset[str] | None, Sequence[str], int]
"""Methods, hosts and line of a route."""


class Covers:
    """The routes seen so far as a tree of segments: finding one that covers another costs the length of its path."""

    def __init__(self) -> None:
        self._branches: dict[str, Covers] = {}
        self._ends: list[_End] = []

    def add(self, match: RequestLine, hosts: Sequence[str], line: int) -> None:
        node = self
        for segment in _segments(match.path):
            node = node._branches.setdefault(segment, Covers())
        methods = match.methods and (match.methods | {"HEAD"} if "GET" in match.methods else match.methods)
        node._ends.append((methods, hosts, line))

    def line_of(self, match: RequestLine, hosts: Sequence[str] = ()) -> int | None:
        """The line of the first route that takes every request `match` matches on these hosts (none: any), or None."""
        lines = (
            line
            for methods, taken, line in self._over(_segments(match.path))
            if (methods is None or (match.methods is not None and match.methods <= methods)) and _cover(taken, hosts)
        )
        return min(lines, default=None)

    def _over(self, path: list[str]) -> Iterator[_End]:
        if "**" in self._branches:
            yield from self._branches["**"]._ends
        if not path:
            yield from self._ends
        elif path[0] != "**":
            for branch in {"*", path[0]} & self._branches.keys():
                yield from self._branches[branch]._over(path[1:])


def _cover(wider: Sequence[str], narrower: Sequence[str]) -> bool:
    if not wider or not narrower:
        return not wider
    return all(any(covers_host(each, host) for each in wider) for host in narrower)


def _segments(path: str) -> list[str]:
    return [unquote(segment).lower() for segment in path.strip("/").split("/")] if path.strip("/") else []
