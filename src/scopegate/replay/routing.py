"""The route that a request of a log meets in a policy. Pure."""

from __future__ import annotations

from functools import lru_cache

from scopegate.edge.hosts import RoutesByHost
from scopegate.edge.routes import Ambiguous, NoRoute
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import Policy, Route
from scopegate.replay.entries import LogEntry

_REMEMBERED = 8192


class Routing:
    """Where a log does not tell the host and routes are for hosts of their own, the route that the log names counts,
    else one of the hosts that are served."""

    def __init__(self, policy: Policy) -> None:
        self._tables = RoutesByHost(policy.routes)
        self._usual = min(policy.server.hosts) if policy.server.hosts else "localhost"
        by_name = {route.name: route for route in policy.routes}
        self._named = by_name if any(route.hosts for route in policy.routes) else {}
        self._find = lru_cache(_REMEMBERED)(self._found)

    def route_of(self, entry: LogEntry) -> Route | None:
        """None for a request that no route governs."""
        if not entry.host and entry.route in self._named:
            return self._named[entry.route]
        return self._find(entry.method, entry.target, entry.host or self._usual)

    def _found(self, method: str, target: str, host: str) -> Route | None:
        judged = judge_target(method.encode(), target.encode(), [host.encode()], None)
        if isinstance(judged, Refusal):
            return None
        found = self._tables.of(judged.host).match(judged.method, judged.path)
        if isinstance(found, Ambiguous):
            return found.watched
        return None if isinstance(found, NoRoute) else found
