"""What a route has to do with the cache, decided when the policy is compiled. None at all for most."""

from __future__ import annotations

from scopegate.caching.invalidation import SAFE_METHODS
from scopegate.caching.key import KeyMaker
from scopegate.policy.policy import CacheRule, Policy, Route


class CachePlan:
    """`rule` is None for a route that keeps nothing, and whose changes may still end what others keep."""

    __slots__ = ("keys", "methods", "rule")

    def __init__(self, rule: CacheRule | None) -> None:
        self.rule = rule
        self.keys = None if rule is None else KeyMaker(rule.key)
        self.methods: frozenset[str] = frozenset() if rule is None else frozenset(each.value for each in rule.methods)


def cache_plan(route: Route, policy: Policy) -> CachePlan | None:
    """None where no request of the route can be answered from the cache, or change what is kept there."""
    if route.cache is not None:
        return CachePlan(route.cache)
    may_change = route.methods is None or not route.methods <= SAFE_METHODS
    keeps_any = any(other.cache is not None for other in policy.routes)
    return CachePlan(None) if keeps_any and may_change else None
