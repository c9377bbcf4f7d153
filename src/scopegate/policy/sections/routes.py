"""`routes`: which requests are let through, under which of the rules that the other sections define.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field

from scopegate.policy.addresses import covers_host, parse_route_host
from scopegate.policy.draft import Draft, Way
from scopegate.policy.faults import closest
from scopegate.policy.kinds import Choice, Name, Names, Shape, as_list, option, parsed, required, section, written
from scopegate.policy.reach import Covers
from scopegate.policy.sections import bodies
from scopegate.policy.sections.auth import Auth, AuthShape
from scopegate.policy.sections.bodies import BodyRule, BodyShape, Buffer
from scopegate.policy.sections.cache import CacheRule, RouteCacheShape
from scopegate.policy.sections.cors import NO_CORS, Cors
from scopegate.policy.sections.flags import FeatureFlag
from scopegate.policy.sections.headers import NO_HEADERS, STANDARD_HEADERS, AnswerFields
from scopegate.policy.sections.modes import Mode
from scopegate.policy.sections.names import twice, unknown
from scopegate.policy.sections.offloads import Offload
from scopegate.policy.sections.server import Server, ServerShape
from scopegate.policy.sections.streams import StreamRule, StreamShape
from scopegate.policy.sections.tiers import BUILT_IN, NO_TIER, Tier, TierShape
from scopegate.policy.sections.upstreams import Upstream
from scopegate.policy.sidefiles import SideFiles
from scopegate.policy.spelling import RequestLine, is_json_type, parse_match
from scopegate.policy.tree import Fault, Loc

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})

# Values


class PathStep(StrEnum):
    """What a server may do to a path before it looks for a handler: drop `;parameters`, take `%2F` and backslashes for
    slashes, decode other escapes, merge `//`, resolve dot segments, ignore letter case."""

    PARAMETERS = "parameters"
    SLASHES = "slashes"
    ESCAPES = "escapes"
    DOUBLES = "doubles"
    DOTS = "dots"
    CASE = "case"


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` is None for ANY. `pattern` is as written: literal segments, `*` for one, a last `**` for any number.
    All of `tiers` count, in one step. `body` is always set: the route's own rule or the server's default. `line` is
    where the route stands in the file. Without `websocket` no upgrade passes; without `events` event streams are
    answers like any other. `reads` are the steps by which the app here reads a path; None where nobody knows, and every
    known reading counts. `hosts`, in lower case, are those it is for, `*.example.com` all below one; empty for any.
    `told` are flags that the app is told of; the route exists where those of `only_if` have these variants; `by_flag`
    is the flag that changes it, and `variations` are the routes that it is for some variants instead."""

    name: str
    methods: frozenset[str] | None
    pattern: str
    tiers: tuple[Tier, ...]
    auth: Auth | None
    body: BodyRule
    offload: Offload | None
    mode: Mode
    upstream: Upstream
    line: int
    websocket: StreamRule | None = None
    events: StreamRule | None = None
    answer_fields: AnswerFields | None = None
    cors: Cors | None = None
    reads: frozenset[PathStep] | None = None
    hosts: frozenset[str] = frozenset()
    cache: CacheRule | None = None
    told: tuple[FeatureFlag, ...] = ()
    only_if: tuple[tuple[FeatureFlag, str], ...] = ()
    by_flag: FeatureFlag | None = None
    variations: Mapping[str, Route] = field(default_factory=dict)


# Shape


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Named:
    """What routes name, by its names."""

    upstreams: Mapping[str, Upstream]
    tiers: Mapping[str, Tier]
    auths: Mapping[str, Auth]
    headers: Mapping[str, AnswerFields]
    cors: Mapping[str, Cors]
    offloads: Mapping[str, Offload]
    flags: Mapping[str, FeatureFlag]


Match: TypeAlias = Annotated[RequestLine, parsed(parse_match), written("POST /api/leads")]


RouteHost: TypeAlias = Annotated[str, parsed(parse_route_host), written("app.example.com")]
Hosts: TypeAlias = Annotated[
    list[RouteHost], BeforeValidator(as_list, json_schema_input_type=RouteHost | list[RouteHost])
]


class VariationShape(Shape):
    upstream: Name | None = option(None, "A name out of `upstreams`.")
    tier: Names | None = option(None, "As the route's `tier`.", min_length=1, max_length=4)

    def build(self, route: Route, named: Named) -> Route:
        tiers = route.tiers if self.tier is None else _tiers_of(self.tier, named)
        upstream = route.upstream if self.upstream is None else named.upstreams[self.upstream]
        return replace(route, upstream=upstream, tiers=tiers)


class RouteShape(Shape):
    name: Name = required("The route's name in metrics, logs and promises.")
    match: Match = required("METHOD /path; `*` is one segment, a last `**` any number, ANY every method.")
    tier: Names = required(
        "A name out of `tiers`, one of strict, moderate, lenient, or `none`; of a list all count.",
        min_length=1,
        max_length=4,
    )
    auth: Name | None = option(None, "A name out of `auth`: who may pass.")
    body: BodyShape = section(BodyShape, "What a body may be.")
    headers: Name = option("standard", "A name out of `headers`, or `none`: security fields of its answers.")
    cors: Name | None = option(None, "A name out of `cors`: which other origins may use it. Left out: none.")
    websocket: StreamShape | None = option(
        None, "Lets WebSocket connections pass, within these bounds. Left out: none pass."
    )
    events: StreamShape | None = option(
        None, "Bounds for server-sent events. Left out: they are answers like any other."
    )
    cache: RouteCacheShape | None = option(None, "What is kept of its answers. Left out: nothing.")
    offload: Name | None = option(None, "A name out of `offloads`: the work that leaves the request.")
    mode: Choice[Mode] = option("enforce", "`watch` decides and counts, and never refuses.")
    reads: list[Choice[PathStep]] | None = option(
        None, "What the app does to a path before it routes; [] is nothing. Left out: unknown, all readings must agree."
    )
    upstream: Name | None = option(None, "A name out of `upstreams`. May be left out where there is one.")
    hosts: Hosts = option([], "The hosts it is for: app.example.com, or *.example.com for all below. Left out: any.")

    flags: list[Name] = option([], "Flags whose variants the app is told, in X-Scopegate-Flags.", max_length=50)
    only_if: dict[Name, Name] = option(
        {}, "Flags and the variants that they must have: else the next route that matches is taken.", max_length=8
    )
    by_flag: dict[Name, dict[Name, VariationShape]] = option(
        {}, "One flag, and what the route has otherwise for some of its variants.", max_length=1
    )

    def build(self, named: Named, server: Server, beside: SideFiles, line: int) -> Route:
        route = self._build(named, server, beside, line)
        for flag, variations in self.by_flag.items():
            varied = {variant: shape.build(route, named) for variant, shape in variations.items()}
            route = replace(route, by_flag=named.flags[flag], variations=MappingProxyType(varied))
        return route

    def tier_names(self) -> Iterator[str]:
        """Of every tier that it may have."""
        yield from self.tier
        for variations in self.by_flag.values():
            for variation in variations.values():
                yield from variation.tier or ()

    def _build(self, named: Named, server: Server, beside: SideFiles, line: int) -> Route:
        upstream = next(iter(named.upstreams)) if self.upstream is None else self.upstream
        return Route(
            name=self.name,
            methods=self.match.methods,
            pattern=self.match.path,
            tiers=_tiers_of(self.tier, named),
            auth=_chosen(named.auths, self.auth),
            body=self.body.build(server.limits.body_bytes, beside),
            offload=_chosen(named.offloads, self.offload),
            mode=self.mode if server.mode.refuses else server.mode,
            upstream=named.upstreams[upstream],
            line=line,
            websocket=None if self.websocket is None else self.websocket.build(),
            events=None if self.events is None else self.events.build(),
            answer_fields=named.headers.get(self.headers),
            cors=None if self.cors is None else named.cors.get(self.cors),
            reads=None if self.reads is None else frozenset(self.reads),
            hosts=frozenset(self.hosts),
            cache=None if self.cache is None else self.cache.build(),
            told=tuple(named.flags[name] for name in self.flags),
            only_if=tuple((named.flags[name], variant) for name, variant in self.only_if.items()),
        )


class GroupShape(Shape):
    """Routes of the same hosts. For editors: `policy/groups` reads them."""

    hosts: Annotated[Hosts, Field(min_length=1)] = required("The hosts that all its routes are for.")
    routes: list[RouteShape] = required("Its routes, as they stand outside groups.", min_length=1)


Routes: TypeAlias = Annotated[
    list[RouteShape], BeforeValidator(lambda listed: listed, json_schema_input_type=list[RouteShape | GroupShape])
]


def _tiers_of(names: Sequence[str], named: Named) -> tuple[Tier, ...]:
    return tuple(named.tiers[name] for name in names if name != NO_TIER)


def _chosen(known: Mapping[str, T], name: str | None) -> T | None:
    return None if name is None else known[name]


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    yield from _references(draft)
    yield from twice(draft.texts(("routes", int, "name")), "route", draft)
    yield from _upstream_chosen(draft)
    routes, server = draft.listed("routes", RouteShape), draft.one("server", ServerShape)
    most_bytes = 0 if server is None else server.limits.body
    for index, route in routes.items():
        loc = ("routes", index)
        yield from _tiers(route, (*loc, "tier"), draft)
        yield from _offload(route, loc, draft)
        yield from bodies.checks(route.body, most_bytes, (*loc, "body"), draft)
        yield from _streams(route, loc, draft)
        yield from _hosts(route, loc, server, draft)
        yield from _cache(route, loc, draft)
    yield from _unused(draft)
    yield from _unreachable(routes, draft)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A key of routes that names an entry of a section, what such an entry is called, and names that need none."""

    key: str
    section: str
    kind: str
    words: frozenset[str] = frozenset()
    lists: bool = False
    """Whether a list of names may stand there."""
    varies: bool = False
    """Whether it may stand in `by_flag` too."""

    @property
    def ways(self) -> tuple[Way, ...]:
        ways: list[Way] = [("routes", int, self.key)]
        if self.varies:
            ways.append(("routes", int, "by_flag", str, str, self.key))
        return (*ways, *((*way, int) for way in ways)) if self.lists else tuple(ways)


_REFERENCES = (
    _Reference("tier", "tiers", "tier", frozenset({*BUILT_IN, NO_TIER}), lists=True, varies=True),
    _Reference("auth", "auth", "auth"),
    _Reference("headers", "headers", "set of headers", frozenset({STANDARD_HEADERS, NO_HEADERS})),
    _Reference("cors", "cors", "cors rule", frozenset({NO_CORS})),
    _Reference("offload", "offloads", "offload"),
    _Reference("upstream", "upstreams", "upstream", varies=True),
)


def _references(draft: Draft) -> Iterator[Fault]:
    """Names that nothing defines."""
    for one in _REFERENCES:
        for way in one.ways:
            yield from unknown(way, one.kind, {*draft.names(one.section), *one.words}, draft)


def _unused(draft: Draft) -> Iterator[Fault]:
    """Definitions that no route names. Where a route names nothing that exists, who knows what it means."""
    for one in _REFERENCES:
        names, used = draft.names(one.section), _used(one, draft)
        if used - {*names, *one.words}:
            continue
        for name in names:
            if name not in used | {NO_TIER, NO_HEADERS, NO_CORS}:
                yield draft.warning_at_key((one.section, name), "no route uses it")


def _used(reference: _Reference, draft: Draft) -> set[str]:
    """The names that routes use. With a single upstream every route uses it, and one that names no headers uses the
    standard ones."""
    used = {name for way in reference.ways for _, name in draft.texts(way)}
    if reference.key == "upstream" and not used:
        return set(draft.names("upstreams"))
    if reference.key == "headers" and any("headers" not in entry for _, entry in _entries(draft)):
        return used | {STANDARD_HEADERS}
    return used


def _entries(draft: Draft) -> Iterator[tuple[Loc, Mapping[str, object]]]:
    """The routes that are sections at all, whatever else is wrong with them."""
    return ((loc, entry) for loc, entry in draft.found(("routes", int)) if isinstance(entry, Mapping))


def _upstream_chosen(draft: Draft) -> Iterator[Fault]:
    names = draft.names("upstreams")
    for loc, entry in _entries(draft):
        if len(names) > 1 and "upstream" not in entry:
            yield draft.problem(loc, f"`upstream` is missing: there are {len(names)}, say which one")


def _tiers(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    """A tier once, none alone, and no claim that nobody shows."""
    if len(set(route.tier)) < len(route.tier):
        yield draft.problem(loc, "names a tier twice")
    if NO_TIER in route.tier and len(route.tier) > 1:
        yield draft.problem(loc, "means no limit and a limit: `none` stands alone")
    auth = draft.named("auth", AuthShape).get(route.auth) if route.auth is not None else None
    for name in route.tier:
        tier = draft.named("tiers", TierShape).get(name)
        for claim in () if tier is None else tier.claims():
            if route.auth is None:
                yield draft.problem(
                    loc, f"tier {name} counts by claim:{claim}, and the route has no `auth` to prove it"
                )
            elif auth is not None and claim not in auth.known_claims():
                hint = closest(claim, auth.known_claims())
                what = f"tier {name} counts by claim:{claim}, which auth {route.auth} does not know: add it to `claims`"
                yield draft.problem(loc, what, hint)


def _offload(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if route.offload is None:
        return
    methods, accepted = route.match.methods, route.body.accepted
    if methods is None or not methods <= BODY_METHODS:
        what = "an offload reads the request's body: match POST, PUT or PATCH alone"
        yield draft.problem((*loc, "match"), what)
    if not accepted or not all(is_json_type(media) for media in accepted):
        found = draft.tree.locate((*loc, "body", "types"))
        yield draft.problem(found.loc, "an offload reads JSON: write body: {types: [application/json]}")
    if route.body.buffer is Buffer.OFF:
        what = "an offload writes the body down before the app hears of it: it cannot be passed on as it comes"
        yield draft.problem((*loc, "body", "buffer"), what)


def _streams(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    methods = route.match.methods
    if route.websocket is not None and methods is not None and "GET" not in methods:
        what = "a WebSocket opens with GET, which this route does not match"
        yield draft.problem_at_key((*loc, "websocket"), what)
    for key, stream in (("websocket", route.websocket), ("events", route.events)):
        if stream is not None and route.offload is not None:
            what = "cannot stand with `offload`, which waits for the whole answer"
            yield draft.problem_at_key((*loc, key), what)


def _cache(route: RouteShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if route.cache is None:
        return
    methods = route.match.methods
    if methods is not None and "GET" not in methods:
        yield draft.problem_at_key((*loc, "cache"), "only answers to GET are kept, which this route does not match")
    if route.events is not None:
        yield draft.problem_at_key((*loc, "cache"), "cannot stand with `events`: a stream has no end to be kept")
    if route.cache.ttl is not None and route.cache.heuristic is not None:
        what = "says it twice how long an answer is fresh: `ttl` or `heuristic`"
        yield draft.problem_at_key((*loc, "cache"), what)


def _hosts(route: RouteShape, loc: Loc, server: ServerShape | None, draft: Draft) -> Iterator[Fault]:
    """Hosts that `server.hosts` lets nobody ask for."""
    if server is None or server.hosts is None:
        return
    served = [each if each.endswith("]") else each.partition(":")[0] for each in server.hosts]
    for index, host in enumerate(route.hosts):
        if not any(covers_host(host, each) for each in served):
            where = draft.tree.locate((*loc, "hosts", index)).loc
            yield draft.problem(where, f"{draft.said(where)} is not served: `server.hosts` names no such host")


def _unreachable(routes: Mapping[int, RouteShape], draft: Draft) -> Iterator[Fault]:
    """A route that one earlier route covers whole. Matching is that of `edge/routes`: case, trailing slash and
    escapes do not count, HEAD follows GET."""
    earlier = Covers()
    for index, route in routes.items():
        loc = ("routes", index)
        line = earlier.line_of(route.match, route.hosts)
        if line is not None:
            yield draft.warning(loc, f"never reached: the route on line {line} takes all of it")
        earlier.add(route.match, route.hosts, draft.tree.at(loc).line)
