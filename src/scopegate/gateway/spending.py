"""The pipeline's step that counts a request in every window of its route's tiers, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial

from scopegate.edge.verdict import Refusal
from scopegate.gateway import responses
from scopegate.gateway.booking import Amend, Booking
from scopegate.gateway.counting import DENIED, RouteCount, Windows, tier_of
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.tallies import RouteTally
from scopegate.limits.barriers import Ban, Barrier
from scopegate.limits.decision import LimitDecision
from scopegate.limits.fallback import UNCOUNTED
from scopegate.limits.window import Spent


class Spending:
    """What the store decides, and what is done while it cannot, is `limiter`'s; a route in watch mode lets pass."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._top = limiter.top

    def spend(self, x: Exchange) -> Outcome:
        """A step."""
        count = x.plan.count
        if count is None:
            return None
        section = x.section
        if section.count is count and x.caller is section.caller:
            windows = section.windows
        else:
            found = count.windows(x)
            if isinstance(found, Refusal):
                return _uncountable(x, found)
            windows = found
            if x.caller is section.caller:
                section.windows, section.count = windows, count
        barriers = count.barriers(x, windows) if count.has_barriers else ()
        if count.is_settled and (windows or barriers or count.watched):
            x.booking = Booking(count, barriers, self._limiter.leave)
        if not windows and not barriers:
            x.plan.tally.decide("exempt")
            self._watch(x, count)
            return None
        spent = self._limiter.spend(windows, barriers)
        if isinstance(spent, Spent):
            return self._spent(x, spent)
        if spent is None:
            return self._without_store(x, count)
        return Pending(spent, self._answered)

    def _answered(self, x: Exchange, future: asyncio.Future[Spent]) -> Outcome:
        count = x.plan.count
        assert count is not None
        barriers = x.booking.barriers if x.booking is not None else ()
        spent = self._limiter.settle(future, count.counts_alone, barriers)
        return self._spent(x, spent) if spent is not None else self._without_store(x, count)

    def _spent(self, x: Exchange, spent: Spent) -> Outcome:
        outcome = self._judged(x, spent, self._limiter.amend, "admitted", "limited")
        if outcome is None and x.plan.count is not None:
            self._watch(x, x.plan.count)
        return outcome

    def _judged(
        self, x: Exchange, spent: Spent, amend: Amend, admitted: LimitDecision, limited: LimitDecision
    ) -> Outcome:
        if spent.admitted:
            _admitted(x, spent, amend, admitted)
            if self._top.is_sampled():
                for tier, key in _keys(x):
                    self._top.admitted(tier, key)
            return None
        tiers, refusal = _barred(x, spent) if any(spent.barred_ms) else _limited(x, spent, limited)
        if refusal is not None:
            for tier, key in _keys(x):
                if tier in tiers:
                    self._top.refused(tier, key)
        return refusal

    def _watch(self, x: Exchange, count: RouteCount) -> None:
        """What the watched tiers would have said of a request that goes on. Nobody waits for it."""
        for each in count.watched:
            windows = each.windows(x)
            barriers = [barrier for barrier in each.barriers(x, 0) if barrier is not None]
            if isinstance(windows, Refusal):
                x.plan.tally.watch(windows.code)
            elif not windows and not barriers:
                x.plan.tally.limit(each.tier.name, "exempt")
            else:
                self._ask(x, each.tier.name, windows, barriers)

    def _ask(self, x: Exchange, tier: str, windows: Windows, barriers: Sequence[Barrier]) -> None:
        if x.booking is not None:
            x.booking.asks_for(barriers)
        spent = self._limiter.spend(windows, tuple(barriers))
        note = partial(_note, x.plan.tally, tier, x.booking, self._limiter.amend)
        if isinstance(spent, Spent):
            note(spent)
        elif spent is not None:
            spent.add_done_callback(partial(_note_late, note))

    def _without_store(self, x: Exchange, count: RouteCount) -> Outcome:
        plan = x.plan
        counted = [(each.tier, _found(each.windows(x))) for each in count.tiers]
        verdict = self._limiter.without_store(counted, x.booking.barriers if x.booking is not None else ())
        if isinstance(verdict, Spent) and verdict is not UNCOUNTED:
            return self._judged(x, verdict, self._limiter.amend_local, "local_admitted", "local_limited")
        if isinstance(verdict, Refusal) and plan.enforced:
            plan.tally.decide("denied")
            return verdict
        plan.tally.decide("allowed")
        x.spent = UNCOUNTED
        return None


def _note(tally: RouteTally, tier: str, booking: Booking | None, amend: Amend, spent: Spent) -> None:
    tally.limit(tier, "admitted" if spent.admitted else "would_limit")
    if spent.admitted and booking is not None:
        booking.admitted(spent, amend)


def _note_late(note: Callable[[Spent], None], future: asyncio.Future[Spent]) -> None:
    """What the store did not answer is not known."""
    if not future.cancelled() and future.exception() is None:
        note(future.result())


def _found(windows: Windows | Refusal) -> Windows:
    assert not isinstance(windows, Refusal), "it was counted before"
    return windows


def _uncountable(x: Exchange, refusal: Refusal) -> Outcome:
    """The request lacks what it is counted by (who has to sign in first is told that), or its client is denied."""
    if not x.plan.enforced:
        x.plan.tally.watch(refusal.code)
        return None
    return refusal if refusal is DENIED else x.stranger or refusal


def _keys(x: Exchange) -> list[tuple[str, str]]:
    """Whom the request counts for in each tier that judges."""
    assert x.plan.count is not None
    found = [(each.tier.name, each.counted(x)) for each in x.plan.count.tiers]
    return [(tier, counted.key) for tier, counted in found if counted is not None and not isinstance(counted, Refusal)]


def _admitted(x: Exchange, spent: Spent, amend: Amend, decision: LimitDecision) -> None:
    x.plan.tally.decide(decision)
    x.spent = spent if spent.standings or spent.alone else None
    if x.booking is not None:
        x.booking.admitted(spent, amend)


def _limited(x: Exchange, spent: Spent, limited: LimitDecision) -> tuple[Collection[str], Outcome]:
    """By which tiers, and what the client is told, if anything."""
    plan = x.plan
    tiers = dict.fromkeys([tier_of(standing.window) for standing in spent.refused_by()])
    for tier in tiers:
        plan.tally.limit(tier, limited if plan.enforced else "would_limit")
    if not plan.enforced:
        return tiers, None
    x.spent = spent
    return tiers, responses.rate_limited(spent)


def _barred(x: Exchange, spent: Spent) -> tuple[Collection[str], Outcome]:
    """Likewise of a ban, or because too many are in flight."""
    plan, booking = x.plan, x.booking
    assert booking is not None, "it was asked past barriers"
    barring = [barrier for barrier, ms in zip(booking.barriers, spent.barred_ms, strict=True) if ms]
    tiers = [barrier.name for barrier in barring]
    is_banned = isinstance(barring[0], Ban)
    for barrier in barring:
        decision: LimitDecision = "banned" if isinstance(barrier, Ban) else "crowded"
        plan.tally.limit(barrier.name, decision if plan.enforced else "would_limit")
    if not plan.enforced:
        return tiers, None
    x.spent = spent if spent.standings or spent.alone else None
    return tiers, responses.banned(spent) if is_banned else responses.TOO_MANY_AT_ONCE
