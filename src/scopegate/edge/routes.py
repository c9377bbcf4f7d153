"""From a canonical path to the one route that governs it: a tree of segments, compiled once per policy.

Pure. Called by the gateway on every request and by `explain`. The first match in file order wins, whatever the
number of routes; a route matches by these rules, each on the side of the stricter reading:

- `*` is exactly one segment; a last `**` is any number, also none: `/api/**` governs `/api` itself.
- A trailing slash does not count: `/api/leads/` meets the policy of `/api/leads`.
- Letter case does not count: some frameworks ignore it (Express), so `/API/leads` meets the policy of `/api/leads`.
- Escapes do not count: `/users/%40me` meets the policy of `/users/@me`, as frameworks that decode first would serve it.
- HEAD follows GET. No field of the request can change the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from scopegate.policy.policy import Route


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route governs this request. `allowed` are the methods that would match this path, sorted, HEAD among them
    where GET is; empty when no method would: 404 then, else 405 with Allow."""

    allowed: tuple[str, ...]


_Ranked = tuple[int, Route]
"""A route and its place in the file."""


@dataclass(slots=True)
class _Choice:
    """The first of the routes that share a pattern, per method. `named` holds the methods some route names;
    any other method gets `other`, the first route for ANY."""

    named: dict[str, _Ranked] = field(default_factory=dict)
    other: _Ranked | None = None

    def add(self, rank: int, route: Route) -> None:
        """Routes come in file order: the first one stays."""
        if route.methods is None:
            self.other = self.other or (rank, route)
            return
        if self.other is not None:
            return  # an earlier ANY takes everything
        for method in _with_head(route.methods):
            self.named.setdefault(method, (rank, route))

    def of(self, method: str) -> _Ranked | None:
        """A route that names the method stands before the one for ANY, or `add` would have left it out."""
        return self.named.get(method) or self.other


@dataclass(slots=True)
class _Node:
    """One place in the tree: what a path that ends here meets (`ends`), and one that goes on (`rest`)."""

    literals: dict[str, _Node] = field(default_factory=dict)
    star: _Node | None = None
    ends: _Choice | None = None
    rest: _Choice | None = None


class RouteTable:
    """The routes of one policy. Immutable after `compile_routes`; holds nothing a client can make grow."""

    __slots__ = ("_exact", "_methods", "_root")

    def __init__(self, root: _Node, methods: frozenset[str], literal_paths: Sequence[str]) -> None:
        self._root = root
        self._methods = methods
        self._exact: Mapping[str, Mapping[str, Route]] = {
            path: {method: route for method in methods if (route := self._walk(method, path)) is not None}
            for path in literal_paths
        }

    def match(self, method: str, path: str) -> Route | NoRoute:
        """The route for a canonical path (`Target.path`, without query), or what would have matched."""
        exact = self._exact.get(path)
        if exact is not None:
            route = exact.get(method)
            if route is not None:
                return route
        found = self._walk(method, path)
        return found if found is not None else NoRoute(self._allowed(path))

    def _walk(self, method: str, path: str) -> Route | None:
        best = _first(self._root, _segments(path), 0, method)
        return best[1] if best is not None else None

    def _allowed(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(method for method in self._methods if self._walk(method, path) is not None))


def compile_routes(routes: Sequence[Route]) -> RouteTable:
    """A table of these routes, in file order. Patterns are `/`-separated: literals, `*`, and `**` as the last."""
    root = _Node()
    for rank, route in enumerate(routes):
        _insert(root, rank, route)
    methods = frozenset().union(*(_with_head(route.methods or ()) for route in routes))
    literal = [route.pattern for route in routes if "*" not in route.pattern]
    return RouteTable(root, methods, literal)


def _insert(root: _Node, rank: int, route: Route) -> None:
    assert route.pattern.startswith("/"), route.pattern
    node = root
    for written in route.pattern.strip("/").split("/") if route.pattern.strip("/") else ():
        if written == "**":
            node.rest = node.rest or _Choice()
            node.rest.add(rank, route)
            return
        if written == "*":
            node.star = node.star or _Node()
            node = node.star
        else:
            node = node.literals.setdefault(_folded(written), _Node())
    node.ends = node.ends or _Choice()
    node.ends.add(rank, route)


def _first(node: _Node, segments: Sequence[str], depth: int, method: str) -> _Ranked | None:
    """The earliest route at or below `node` for the segments from `depth` on. Never deeper than the longest pattern."""
    best: _Ranked | None = None
    while True:
        if node.rest is not None:
            best = _earlier(best, node.rest.of(method))
        if depth == len(segments):
            return _earlier(best, node.ends.of(method)) if node.ends is not None else best
        literal = node.literals.get(segments[depth])
        depth += 1
        if node.star is not None:
            best = _earlier(best, _first(node.star, segments, depth, method))
        if literal is None:
            return best
        node = literal


def _earlier(one: _Ranked | None, other: _Ranked | None) -> _Ranked | None:
    if one is None or other is None:
        return one or other
    return one if one[0] < other[0] else other


def _segments(path: str) -> list[str]:
    """What is compared: folded segments, without the empty one a trailing slash makes."""
    segments = _folded(path).split("/")
    del segments[0]
    if segments and not segments[-1]:
        segments.pop()
    return segments


def _folded(text: str) -> str:
    """Escapes decoded once and case dropped. A canonical path holds no encoded slash, so segments stay apart."""
    return (unquote(text) if "%" in text else text).lower()


def _with_head(methods: Sequence[str] | frozenset[str]) -> frozenset[str]:
    return frozenset(methods) | {"HEAD"} if "GET" in methods else frozenset(methods)
