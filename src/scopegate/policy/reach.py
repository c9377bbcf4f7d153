"""Which routes an earlier route hides. Matching here is that of `edge/routes`, one layer up, asked about whole routes
instead of requests: case, trailing slash and escapes do not count, HEAD follows GET.

Pure. Called by `sections/routes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from scopegate.policy.spelling import RequestLine


class Covers:
    """The routes seen so far as a tree of segments: finding one that covers another costs the length of its path."""

    def __init__(self) -> None:
        self._branches: dict[str, Covers] = {}
        self._ends: list[tuple[frozenset[str] | None, int]] = []

    def add(self, match: RequestLine, line: int) -> None:
        node = self
        for segment in _segments(match.path):
            node = node._branches.setdefault(segment, Covers())
        methods = match.methods and (match.methods | {"HEAD"} if "GET" in match.methods else match.methods)
        node._ends.append((methods, line))

    def line_of(self, match: RequestLine) -> int | None:
        """The line of the first route that takes every request `match` matches, or None."""
        lines = (
            line
            for methods, line in self._over(_segments(match.path))
            if methods is None or (match.methods is not None and match.methods <= methods)
        )
        return min(lines, default=None)

    def _over(self, path: list[str]) -> Iterator[tuple[frozenset[str] | None, int]]:
        if "**" in self._branches:
            yield from self._branches["**"]._ends
        if not path:
            yield from self._ends
        elif path[0] != "**":
            for branch in {"*", path[0]} & self._branches.keys():
                yield from self._branches[branch]._over(path[1:])


def _segments(path: str) -> list[str]:
    return [unquote(segment).lower() for segment in path.strip("/").split("/")] if path.strip("/") else []
