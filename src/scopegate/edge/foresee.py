"""What the gateway would do with a request that nobody has sent: the edge's own judgement, without a connection.

Pure. Called by `scopegate check` and before a reload, to hold a policy to its promises.
"""

from __future__ import annotations

from scopegate.edge.hosts import RoutesByHost
from scopegate.edge.routes import AMBIGUOUS, Ambiguous, NoRoute
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import NO_TIER, Auth, Policy, Route
from scopegate.policy.promises import Decide, Forecast

_CREDENTIAL_FIELDS = frozenset({"authorization", "cookie"})


def decider(policy: Policy) -> Decide:
    """Judges requests to a Host that is served (unless they name one): well-formed, within every limit, and signed in
    wherever that is asked for, but for the fields they come without."""
    tables = RoutesByHost(policy.routes)
    hosts = policy.server.hosts
    usual = min(hosts) if hosts else "localhost"

    def decide(method: str, target: str, without: tuple[str, ...], host: str | None = None) -> Forecast:
        judged = judge_target(method.encode(), target.encode(), [(host or usual).encode()], hosts)
        if isinstance(judged, Refusal):
            return Forecast(None, (), judged.status)
        found = tables.of(judged.host).match(judged.method, judged.path)
        if isinstance(found, Ambiguous):
            if found.watched is None:
                return Forecast(None, (), AMBIGUOUS.status)
            found = found.watched
        if isinstance(found, NoRoute):
            return Forecast(None, (), 405 if found.allowed else 404)
        tiers = tuple(tier.name for tier in found.tiers) or (NO_TIER,)
        return Forecast(found.name, tiers, _refusal(found, without))

    return decide


def _refusal(route: Route, without: tuple[str, ...]) -> int | None:
    """401 for one who is not signed in and has to be; a watching route refuses nobody."""
    if route.auth is None or not route.mode.refuses:
        return None
    return None if _is_signed_in(route.auth, without) else 401


def _is_signed_in(auth: Auth, without: tuple[str, ...]) -> bool:
    """Not without the field, or the cookie, that would prove it: whoever takes away one of them means a stranger."""
    missing = set(without)
    cookie = auth.jwt.cookie
    return not (missing & _CREDENTIAL_FIELDS or (cookie is not None and cookie.lower() in missing))
