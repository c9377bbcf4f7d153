"""From a path to the one route that governs it: trees of segments, compiled once per policy.

Pure. Called by the gateway on every request and by `foresee`. The first match in file order wins, whatever the number
of routes. `*` is exactly one segment; a last `**` is any number, also none: `/api/**` governs `/api` itself. HEAD
follows GET, and no field of the request can change the method. A trailing slash does not count.

Beyond that servers read one path in several ways (`readings`), and in either case of its letters. All readings have to
meet the same route, or routes of the same strictness: such that differ in name, methods and pattern alone. Otherwise no
route is met. A route that says how its app reads paths (`reads`) has what it is met by in that reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, product
from urllib.parse import unquote

from scopegate.edge.readings import Reading, read_as, readings
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import PathStep, Route


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route governs this request. `allowed` are the methods that would match this path, sorted, HEAD among them
    where GET is; empty when no method would: 404 then, else 405 with Allow."""

    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """What a path may be read as meets rules that differ. `routes` are two of those met, None for no route; one when
    the path has more readings than are looked at. `watched` is the first of them where all that are met only watch."""

    routes: tuple[Route | None, ...]
    watched: Route | None = None

    @property
    def names(self) -> str:
        return ", ".join(route.name if route is not None else "none" for route in self.routes)


AMBIGUOUS = Refusal(400, "ambiguous_path", "The path can be read in ways that meet different rules.", close=True)


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

    __slots__ = ("_bare", "_deepest", "_has_capitals", "_known", "_methods", "_plain", "_trees", "_ways")

    def __init__(self, routes: Sequence[Route]) -> None:
        self._methods = frozenset().union(*(_with_head(route.methods or ()) for route in routes))
        self._bare = {route.name: _bare(route) for route in routes}
        self._ways = {route.reads for route in routes if route.reads is not None}
        patterns = "".join(unquote(route.pattern) for route in routes)
        self._has_capitals = patterns != patterns.lower()
        self._deepest = max((route.pattern.count("/") for route in routes), default=0)
        self._trees = _trees(routes)
        self._plain = self._trees[False, True]
        self._known: Mapping[str, Mapping[str, Route]] = {
            route.pattern: self._by_method(route.pattern) for route in routes if "*" not in route.pattern
        }

    def match(self, method: str, path: str) -> Route | NoRoute | Ambiguous:
        """The route for a path as sent (`Target.path`, without query), or what would have matched."""
        known = self._known.get(path)
        if known is not None:
            route = known.get(method)
            if route is not None:
                return route
        if "%" in path or ";" in path or "\\" in path or "//" in path or "/." in path:
            return self._judge(method, path)
        folded = path.lower()
        segments = _segments(folded, self._deepest)
        best = _first(self._plain, segments, 0, method)
        if (folded != path or self._has_capitals) and self._is_told_apart_by_case(method, path, segments, best):
            return self._judge(method, path)
        return best[1] if best is not None else NoRoute(self._allowed(path))

    def served(self, methods: Iterable[str], path: str) -> list[str]:
        """Those of the methods that a path as sent meets a route with, but for routes that a flag may hide. For what a
        client is told: no other reading of the path is looked at."""
        sent = Reading(path, "%" in path)
        met = [(method, self._read(method, sent, folded=True)) for method in methods]
        return [method for method, route in met if route is not None and not route.only_if]

    def _is_told_apart_by_case(self, method: str, path: str, folded: list[str], best: _Ranked | None) -> bool:
        """Whether a path, of these segments without case, meets another route with it."""
        most = self._deepest
        as_sent = _segments(path, most)
        if not self._has_capitals and as_sent[:most] == folded[:most]:
            return False
        return _first(self._trees[False, False], as_sent, 0, method) != best

    def _by_method(self, pattern: str) -> Mapping[str, Route]:
        """What a path meets that the policy writes out: with that it has said how it is to be read."""
        as_written = Reading(pattern, "%" in pattern)
        found = {method: self._read(method, as_written, folded=False) for method in self._methods}
        return {method: route for method, route in found.items() if route is not None}

    def _judge(self, method: str, path: str) -> Route | NoRoute | Ambiguous:
        """The route for a path that may be read in several ways."""
        return self._claimed(method, path) or self._agreed(method, path)

    def _claimed(self, method: str, path: str) -> Route | Ambiguous | None:
        """The route whose app is said to read the path so, if there is one."""
        met = [
            route
            for steps in self._ways
            for route in [self._read(method, read_as(path, steps), folded=PathStep.CASE in steps)]
            if route is not None and route.reads == steps
        ]
        return self._one_of(met) if met else None

    def _agreed(self, method: str, path: str) -> Route | NoRoute | Ambiguous:
        """What all readings meet."""
        read = readings(path)
        if read is None:
            met = self._read(method, Reading(path, "%" in path), folded=False)
            return Ambiguous((met,), met if _is_watched(met) else None)
        return self._one_of(self._met(method, read)) or NoRoute(self._allowed(path))

    def _met(self, method: str, read: Iterable[Reading]) -> Iterator[Route | None]:
        for each in read:
            yield self._read(method, each, folded=False)
            if self._has_capitals or not each.path.islower():
                yield self._read(method, each, folded=True)

    def _one_of(self, met: Iterable[Route | None]) -> Route | Ambiguous | None:
        """The first, if all are of its strictness."""
        all_met = iter(met)
        first = next(all_met)
        for route in all_met:
            if route is not first and not self._are_alike(route, first):
                is_watched = all(map(_is_watched, chain((first, route), all_met)))
                return Ambiguous((first, route), first if is_watched else None)
        return first

    def _are_alike(self, one: Route | None, other: Route | None) -> bool:
        return one is not None and other is not None and self._bare[one.name] == self._bare[other.name]

    def _read(self, method: str, reading: Reading, *, folded: bool) -> Route | None:
        path = reading.path.lower() if folded else reading.path
        best = _first(self._trees[reading.is_raw, folded], _segments(path, self._deepest), 0, method)
        return best[1] if best is not None else None

    def _allowed(self, path: str) -> tuple[str, ...]:
        sent = Reading(path, "%" in path)
        return tuple(sorted(each for each in self._methods if self._read(each, sent, folded=True) is not None))


def _is_watched(route: Route | None) -> bool:
    return route is not None and not route.mode.refuses


def _bare(route: Route) -> Route:
    """What of a route is its strictness: all that happens to a request, and not how it came to be met."""
    return replace(route, name="", methods=None, pattern="", line=0, reads=None, hosts=frozenset(), only_if=())


def compile_routes(routes: Sequence[Route]) -> RouteTable:
    """A table of these routes, in file order. Patterns are `/`-separated: literals, `*`, and `**` as the last."""
    return RouteTable(routes)


def _trees(routes: Sequence[Route]) -> Mapping[tuple[bool, bool], _Node]:
    """By whether escapes stand as they were sent, and whether case is dropped: patterns are spelt like the reading."""
    trees: dict[tuple[bool, bool], _Node] = {}
    made: dict[tuple[str, ...], _Node] = {}
    for is_raw, is_folded in product((False, True), repeat=2):
        spell = partial(_spelt, is_raw=is_raw, is_folded=is_folded)
        spelt = tuple(spell(route.pattern) for route in routes)
        if spelt not in made:
            made[spelt] = _tree(routes, spell)
        trees[is_raw, is_folded] = made[spelt]
    return trees


def _spelt(written: str, *, is_raw: bool, is_folded: bool) -> str:
    text = written if is_raw else unquote(written)
    return text.lower() if is_folded else text


def _tree(routes: Sequence[Route], spell: Callable[[str], str]) -> _Node:
    root = _Node()
    for rank, route in enumerate(routes):
        _insert(root, rank, route, spell)
    return root


def _insert(root: _Node, rank: int, route: Route, spell: Callable[[str], str]) -> None:
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
            node = node.literals.setdefault(spell(written), _Node())
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


def _segments(path: str, most: int) -> list[str]:
    """What is compared: segments without the empty one that a trailing slash makes. Of more than `most`, which no
    pattern has, the rest is one."""
    segments = path.split("/", most + 1)
    del segments[0]
    if segments and not segments[-1]:
        segments.pop()
    return segments


def _with_head(methods: Sequence[str] | frozenset[str]) -> frozenset[str]:
    return frozenset(methods) | {"HEAD"} if "GET" in methods else frozenset(methods)
