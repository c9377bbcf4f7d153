"""The pipeline's step that counts a request in every window of its route's tier, all or nothing."""

from __future__ import annotations

import asyncio

from scopegate.gateway import responses
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.limiter import Limiter, key_of
from scopegate.limits.decision import LimitDecision
from scopegate.limits.window import Spent


class Spending:
    """What the store decides, and what is done while it cannot, is `limiter`'s; a route in watch mode lets pass."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def spend(self, x: Exchange) -> Outcome:
        """A step."""
        plan = x.plan
        if plan.windows is None:
            return None
        assert plan.tier is not None
        section = x.section
        if section.windows_of is plan.windows and x.caller is section.caller:
            windows = section.windows
        else:
            windows = plan.windows(key_of(plan.tier, x.caller))
            if x.caller is section.caller:
                section.windows, section.windows_of = windows, plan.windows
        spent = self._limiter.spend(windows)
        if isinstance(spent, Spent):
            return _spent(x, spent)
        if spent is None:
            return self._without_store(x)
        return Pending(spent, self._answered)

    def _answered(self, x: Exchange, future: asyncio.Future[Spent]) -> Outcome:
        spent = self._limiter.settle(future)
        return _spent(x, spent) if spent is not None else self._without_store(x)

    def _without_store(self, x: Exchange) -> Outcome:
        plan = x.plan
        assert plan.tier is not None
        assert plan.windows is not None
        verdict = self._limiter.without_store(plan.tier, plan.windows(key_of(plan.tier, x.caller)))
        if isinstance(verdict, Spent):
            return _spent(x, verdict, "local_admitted", "local_limited")
        if verdict is None or not plan.enforced:
            plan.tally.decide("allowed")
            return None
        plan.tally.decide("denied")
        return verdict


def _spent(
    x: Exchange,
    spent: Spent,
    admitted: LimitDecision = "admitted",
    limited: LimitDecision = "limited",
) -> Outcome:
    plan = x.plan
    if spent.admitted:
        plan.tally.decide(admitted)
        x.spent = spent
        return None
    if not plan.enforced:
        plan.tally.decide("would_limit")
        return None
    plan.tally.decide(limited)
    x.spent = spent
    return responses.rate_limited(spent)
