"""Thousands of traces: never more than N in any T, and memory, Redis and the plain rule say the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegate.clock import ManualClock
from scopegate.limits.barriers import Ban, BanRule, Barrier, Seats, ban_of
from scopegate.limits.window import Amendment, Quota, Spent, Window, amended
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.redis_limits import RedisLimits
from tests.limits.reference import Reference

Trace = list[tuple[int, int]]

exact = st.builds(Quota, st.integers(1, 8), st.integers(1, 9))
paced = exact.flatmap(
    lambda quota: st.builds(Quota, *map(st.just, (quota.limit, quota.span_ms)), st.integers(1, quota.limit))
)
# The gap before each request in microseconds (bursts, a steady pace, pauses), and which windows it asks for.
gaps = st.one_of(st.just(0), st.integers(0, 400), st.integers(0, 4_000))
traces: st.SearchStrategy[Trace] = st.lists(st.tuples(gaps, st.integers(1, 3)), min_size=1, max_size=60)


class Stores:
    """Memory and Redis under one clock of their own, on a loop of their own."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.now_us = round(self.clock.monotonic_s() * 1e6)
        self.memory = MemoryLimits(self.clock)
        self.redis = RedisLimits(url, timeout_s=10, clock=self.clock)
        self._runner = asyncio.Runner()

    def judge_one(self, gap_us: int, windows: list[Window], barriers: list[Barrier]) -> tuple[Spent, Spent]:
        return self._runner.run(self._judge_one(gap_us, windows, barriers))

    async def _judge_one(self, gap_us: int, windows: list[Window], barriers: list[Barrier]) -> tuple[Spent, Spent]:
        self.now_us += gap_us
        self.clock.advance(self.now_us / 1e6 - self.clock.monotonic_s())
        return self.memory.spend(windows, barriers), await self.redis.spend(windows, barriers)

    def leave(self, seats: list[Seats]) -> None:
        self.memory.leave(seats)
        self._runner.run(self._leave(seats))

    async def _leave(self, seats: list[Seats]) -> None:
        self.redis.leave(seats)

    def judge(self, steps: list[tuple[int, list[Window]]]) -> list[tuple[int, list[Window], Spent, Spent]]:
        """What memory and Redis say to each step, at which microsecond."""
        return self._runner.run(self._judge(steps))

    def amend(self, changes: list[Amendment]) -> None:
        """What both are told afterwards; Redis has heard of it when the next step is judged."""
        self.memory.amend(changes)
        self._runner.run(self._amend(changes))

    async def _amend(self, changes: list[Amendment]) -> None:
        self.redis.amend(changes)

    async def _judge(self, steps: list[tuple[int, list[Window]]]) -> list[tuple[int, list[Window], Spent, Spent]]:
        asked = []
        for gap_us, windows in steps:
            self.now_us += gap_us
            self.clock.advance(self.now_us / 1e6 - self.clock.monotonic_s())  # a sum of gaps would drift off
            asked.append((self.now_us, windows, self.memory.spend(windows), self.redis.spend(windows)))
        return [(now_us, windows, in_memory, await late) for now_us, windows, in_memory, late in asked]

    def close(self) -> None:
        self._runner.run(self.redis.close())
        self._runner.close()


@pytest.fixture
def stores(valkey_url: str) -> Iterator[Stores]:
    stores = Stores(valkey_url)
    yield stores
    stores.close()


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("quotas", [exact, paced], ids=["exact", "paced"])
def test_never_more_than_the_limit_in_any_span(stores: Stores, full: bool, quotas: st.SearchStrategy[Quota]) -> None:
    @settings(max_examples=10_000 if full else 300, deadline=None, database=None)
    @given(traces, quotas, exact)
    def run(trace: Trace, quota: Quota, other: Quota) -> None:
        choice = [Window("a", uuid.uuid4().hex, quota), Window("b", uuid.uuid4().hex, other)]
        steps = [(gap_us, [window for n, window in enumerate(choice) if picked >> n & 1]) for gap_us, picked in trace]
        reference, admitted = Reference(), dict[str, list[int]]((window.name, []) for window in choice)
        for now_us, windows, in_memory, in_redis in stores.judge(steps):
            assert in_memory == in_redis == reference.spend(windows, now_us)
            for window in windows:
                if in_memory.admitted:
                    admitted[window.name].append(now_us)
        for window in choice:
            limit, span_us, times = window.quota.limit, window.quota.span_ms * 1000, admitted[window.name]
            assert all(later - first >= span_us for first, later in zip(times, times[limit:], strict=False))

    run()


# A cost for each window, then an earlier admission (counted from the newest) and how it is changed.
costly = st.tuples(gaps, st.integers(1, 3), st.tuples(st.integers(1, 9), st.integers(1, 9)))
changes = st.none() | st.tuples(st.integers(0, 9), st.sampled_from([-9, -2, -1, 1, 9]))


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("quotas", [exact, paced], ids=["exact", "paced"])
def test_costs_and_what_becomes_of_them(stores: Stores, full: bool, quotas: st.SearchStrategy[Quota]) -> None:
    """Requests of any cost, given back or booked on later: memory and Redis say the same, exact windows what the plain
    rule says, and what was not given back is never more than the limit in any span."""

    @settings(max_examples=10_000 if full else 200, deadline=None, database=None)
    @given(st.lists(st.tuples(costly, changes), min_size=1, max_size=40), quotas, exact)
    def run(
        trace: list[tuple[tuple[int, int, tuple[int, int]], tuple[int, int] | None]], quota: Quota, other: Quota
    ) -> None:
        both = (quota, other)
        keys = [uuid.uuid4().hex for _ in both]
        reference, kept = Reference(), list[tuple[int, Spent, list[int]]]()
        for (gap_us, picked, costs), change in trace:
            windows = [
                Window("ab"[n], keys[n], quota, cost=min(costs[n], quota.most))
                for n, quota in enumerate(both)
                if picked >> n & 1
            ]
            [(now_us, _, in_memory, in_redis)] = stores.judge([(gap_us, windows)])
            assert in_memory == in_redis
            if all(not quota.burst for quota in both):
                assert in_memory == reference.spend(windows, now_us)
            if in_memory.admitted:
                kept.append((now_us, in_memory, [window.cost for window in windows]))
            if change is not None and change[0] < len(kept):
                _, spent, left = kept[-1 - change[0]]
                more = [max(change[1], -cost) for cost in left]
                asked = [
                    amended(each, one, spent.at_us) for each, one in zip(spent.standings, more, strict=True) if one
                ]
                stores.amend(asked)
                if all(not quota.burst for quota in both):
                    reference.amend(asked, now_us)
                left[:] = [cost + min(one, 0) for cost, one in zip(left, more, strict=True)]
        for key, quota in zip(keys, both, strict=True):
            times = [
                now_us
                for now_us, spent, left in kept
                for standing, cost in zip(spent.standings, left, strict=True)
                if standing.window.key == key
                for _ in range(cost)
            ]
            span_us = quota.span_ms * 1000
            assert all(later - first >= span_us for first, later in zip(times, times[quota.limit :], strict=False))

    run()


rules = st.builds(BanRule, st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@pytest.mark.timeout(1_800)
def test_bans_and_seats(stores: Stores, full: bool) -> None:
    """Memory and Redis say the same; nothing is admitted while a ban lasts, and never more than the seats there are."""
    steps = st.lists(st.tuples(gaps, st.integers(0, 4)), min_size=1, max_size=40)

    @settings(max_examples=10_000 if full else 200, deadline=None, database=None)
    @given(steps, exact, exact, rules, st.integers(1, 3))
    def run(trace: list[tuple[int, int]], quota: Quota, other: Quota, rule: BanRule, most: int) -> None:
        windows = [Window("a", uuid.uuid4().hex, quota), Window("b", uuid.uuid4().hex, other)]
        key = uuid.uuid4().hex
        ban: Ban = ban_of("b", key, rule, "", 1, 1)
        seated: list[Seats] = []
        banned_until_us = 0
        for gap_us, leaving in trace:
            seat = Seats("a", key, most, uuid.uuid4().hex)
            in_memory, in_redis = stores.judge_one(gap_us, windows, [ban, seat])
            assert in_memory == in_redis
            assert not (in_memory.admitted and in_memory.at_us < banned_until_us)
            assert not (in_memory.admitted and len(seated) >= most)
            if in_memory.admitted:
                seated.append(seat)
            if in_memory.barred_ms[0]:
                banned_until_us = max(banned_until_us, in_memory.at_us + in_memory.barred_ms[0] * 1000 - 999)
            left, seated = seated[:leaving], seated[leaving:]
            stores.leave(left)
        stores.leave(seated)

    run()
