"""A policy as this process serves it: the frozen snapshot, with what each route needs ready at hand.

Built once per load by `app`, read by the pipeline; a request keeps the ruleset it began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from scopegate.edge.answer_fields import NO_ROUTE, SecurityLines
from scopegate.edge.bodies import compile_bodies
from scopegate.edge.cors import CrossOrigin
from scopegate.edge.field_rules import REQUEST_RULES, request_rules
from scopegate.edge.hosts import RoutesByHost
from scopegate.edge.routes import Ambiguous, NoRoute, RouteTable, compile_routes
from scopegate.gateway.cacheplan import CachePlan, cache_plan
from scopegate.gateway.counting import RouteCount, counts_of, fields_of
from scopegate.gateway.flagging import FlagSet, RouteFlags
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.responses import LIMIT_FIELDS
from scopegate.gateway.tallies import Latencies, RouteTally
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import HostUse, Policy, Route, Upstream

_NONE: frozenset[str] = frozenset()
_MAX_TABLES = 64
"""Of routes without those that flags hide, as many are kept as there are combinations, up to so many."""


class Stray:
    """What a request has that met no route: what is counted of it, and the fields of its answer."""

    cors = None

    def __init__(self) -> None:
        self.name = metrics.NO_ROUTE
        self.security = NO_ROUTE
        self.tally = RouteTally(metrics.NO_ROUTE)


class RoutePlan:
    """One route, ready to serve."""

    __slots__ = (
        "auth",
        "bodies",
        "buffer",
        "cache",
        "cors",
        "count",
        "enforced",
        "events",
        "flags",
        "idle_s",
        "max_body_bytes",
        "name",
        "offload",
        "only_if",
        "pool",
        "response_s",
        "route",
        "security",
        "tally",
        "types",
        "upstream_latencies",
        "variations",
        "websocket",
    )

    def __init__(
        self,
        route: Route,
        pool: UpstreamPool,
        count: RouteCount | None,
        latencies: Latencies,
        server_body_bytes: int,
        cache: CachePlan | None = None,
    ) -> None:
        self.route = route
        self.name = route.name
        self.pool = pool
        self.count = count
        self.flags: RouteFlags | None = None
        self.variations: dict[str, RoutePlan] = {}
        self.only_if = bool(route.only_if)
        self.auth = route.auth
        self.offload = route.offload
        self.cache = cache
        self.enforced = route.mode.refuses
        self.max_body_bytes = route.body.max_bytes if self.enforced else max(route.body.max_bytes, server_body_bytes)
        self.bodies = compile_bodies(route.body)
        self.buffer = route.body.buffer
        self.types = route.body.types if self.bodies is None else frozenset[str]()  # else they see to it
        self.websocket = route.websocket
        self.events = route.events
        self.security = SecurityLines(route.answer_fields)
        told = LIMIT_FIELDS if route.tiers else ()
        self.cors = CrossOrigin(route.cors, told) if route.cors is not None else None
        self.upstream_latencies = latencies
        self.response_s = route.upstream.timeouts.response_s
        self.idle_s = route.upstream.timeouts.idle_s
        self.tally = RouteTally(route.name, [tier.name for tier in route.tiers if tier.mode.refuses])


class Ruleset:
    """The policy in force with its plans. `stray` counts what met no route."""

    def __init__(self, policy: Policy, pool_for: Callable[[Upstream], UpstreamPool], secret: bytes = b"") -> None:
        """`secret`: what limits' keys are hashed with."""
        self.policy = policy
        self.hosts = policy.server.hosts
        self.trusted = policy.server.trusted_proxies
        self.address_from = policy.server.address_from
        self.hears_of_host = bool(policy.server.forwarded_host)
        self.serves_told_host = HostUse.HOSTS in policy.server.forwarded_host
        self.tells_host_on = HostUse.APP in policy.server.forwarded_host
        self.limits = policy.server.limits
        self.timeouts = policy.server.timeouts
        self.stray = Stray()
        self._table: RouteTable = compile_routes(policy.routes)
        self._by_host = RoutesByHost(policy.routes) if any(route.hosts for route in policy.routes) else None
        counted = fields_of(policy)
        self.fields = request_rules(counted) if counted else REQUEST_RULES
        counts = counts_of(policy, secret)
        self._latencies = {name: Latencies(metrics.UPSTREAM_SECONDS.labels(name)) for name in policy.upstreams}
        self._plans = {
            route.name: RoutePlan(
                route,
                pool_for(route.upstream),
                counts.get(route.name),
                self._latencies[route.upstream.name],
                policy.server.limits.body_bytes,
                cache_plan(route, policy),
            )
            for route in policy.routes
        }

        self.flags = FlagSet(policy)
        for route in policy.routes:
            plan = self._plans[route.name]
            plan.flags = self.flags.of_route(route)
            plan.variations = self._varied(policy, route, pool_for, secret)
        self.hides = any(route.only_if for route in policy.routes)
        self._without: dict[frozenset[str], RoutesByHost] = {}
        self.pools = frozenset(plan.pool for plan in self._every_plan())

    def _varied(
        self, policy: Policy, route: Route, pool_for: Callable[[Upstream], UpstreamPool], secret: bytes
    ) -> dict[str, RoutePlan]:
        """The plans that it has for variants of its flag."""
        made: dict[str, RoutePlan] = {}
        for variant, varied in route.variations.items():
            count = counts_of(replace(policy, routes=(varied,)), secret).get(route.name)
            made[variant] = RoutePlan(
                varied,
                pool_for(varied.upstream),
                count,
                self._latencies[varied.upstream.name],
                policy.server.limits.body_bytes,
                cache_plan(varied, policy),
            )
        return made

    def match(
        self, method: str, path: str, host: str, hidden: frozenset[str] = _NONE
    ) -> RoutePlan | NoRoute | Ambiguous:
        """The plan for a path as sent to a host, as if the routes that are `hidden` were not there."""
        table = self._tables_without(hidden).of(host) if hidden else self._table_of(host)
        found = table.match(method, path)
        return self._plans[found.name] if isinstance(found, Route) else found

    def served(self, methods: Iterable[str], path: str, host: str) -> list[str]:
        """See `RouteTable.served`."""
        return self._table_of(host).served(methods, path)

    def _table_of(self, host: str) -> RouteTable:
        return self._table if self._by_host is None else self._by_host.of(host)

    def _tables_without(self, hidden: frozenset[str]) -> RoutesByHost:
        tables = self._without.get(hidden)
        if tables is None:
            if len(self._without) >= _MAX_TABLES:
                self._without.clear()
            left = [route for route in self.policy.routes if route.name not in hidden]
            tables = self._without[hidden] = RoutesByHost(left)
        return tables

    def plan(self, route: Route) -> RoutePlan:
        return self._plans[route.name]

    def plans(self) -> Iterator[RoutePlan]:
        yield from self._plans.values()

    def _every_plan(self) -> list[RoutePlan]:
        plans = list(self._plans.values())
        return [*plans, *(varied for plan in plans for varied in plan.variations.values())]

    def flush(self) -> None:
        """Move what was counted into the metrics."""
        self.stray.tally.flush()
        self.flags.exposures.flush()
        for plan in self._every_plan():
            plan.tally.flush()
        for latencies in self._latencies.values():
            latencies.flush()
