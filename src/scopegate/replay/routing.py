"""The route that a request of a log meets in a policy. Pure."""

from __future__ import annotations

from functools import lru_cache

from scopegate.edge.routes import Ambiguous, NoRoute, compile_routes
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import Policy, Route

_REMEMBERED = 8192


class Routing:
    """Judges targets as a request to a Host that is served."""

    def __init__(self, policy: Policy) -> None:
        self._table = compile_routes(policy.routes)
        hosts = policy.server.hosts
        self._host = min(hosts).encode() if hosts else b"localhost"
        self.route_of = lru_cache(_REMEMBERED)(self._route_of)

    def _route_of(self, method: str, target: str) -> Route | None:
        """None for a request that no route governs."""
        judged = judge_target(method.encode(), target.encode(), [self._host], None)
        if isinstance(judged, Refusal):
            return None
        found = self._table.match(judged.method, judged.path)
        if isinstance(found, Ambiguous):
            return found.watched
        return None if isinstance(found, NoRoute) else found
