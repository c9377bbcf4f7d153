"""The LimitStore port, in memory, on Valkey and on Redis. The clock is the test's: time is a column."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scopegate.clock import ManualClock
from scopegate.limits.barriers import BanRule, Barrier, Seats, ban_of
from scopegate.limits.window import Quota, Spent, Window, amended, window_key
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.ports import LimitStore
from scopegate.stores.redis_limits import RedisLimits
from tests.limits.reference import Reference


class Shop:
    """A store, its clock, and keys nobody else uses."""

    def __init__(self, store: LimitStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.start_ms = clock.now_ms()

    def window(self, limit: int, span_ms: int, key: str | None = None, name: str = "strict") -> Window:
        quota = Quota(limit, span_ms)
        return Window(name, window_key(name, quota, key or uuid.uuid4().hex), quota)

    async def at(self, now_ms: float, *windows: Window, barriers: Sequence[Barrier] = ()) -> Spent:
        self.clock.advance((self.start_ms + now_ms - self.clock.monotonic_s() * 1000) / 1000)
        return await self.spend(*windows, barriers=barriers)

    async def spend(self, *windows: Window, barriers: Sequence[Barrier] = ()) -> Spent:
        spent = self.store.spend(windows, barriers)
        return spent if isinstance(spent, Spent) else await spent


@pytest.fixture(params=["memory", "valkey", "redis"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    clock = ManualClock()
    store: LimitStore
    if request.param == "memory":
        store = MemoryLimits(clock)
    else:
        store = RedisLimits(request.getfixturevalue(f"{request.param}_url"), timeout_s=10, clock=clock)
    yield Shop(store, clock)
    await store.close()


# (now ms, admitted, remaining, more ms, reset ms, retry after ms) of 3 per 10 s
TRACE = [
    (0, True, 2, 10_000, 10_000, 0),
    (0.4, True, 1, 10_000, 10_000, 0),
    (1_000, True, 0, 9_000, 10_000, 0),
    (1_000, False, 0, 9_000, 10_000, 9_000),
    (9_999, False, 0, 1, 1_001, 1),
    (10_000, True, 0, 1, 10_000, 0),
    (10_000, False, 0, 1, 10_000, 1),
    (10_000.5, True, 0, 1_000, 10_000, 0),
    (10_000.5, False, 0, 1_000, 10_000, 1_000),
    (20_000, True, 1, 1, 10_000, 0),
    (20_001, True, 1, 9_999, 10_000, 0),
    (60_000, True, 2, 10_000, 10_000, 0),
]
# The same of 10 per 10 s, paced with a burst of 3: one per 1.25 s once it is used
PACED = [
    (0, True, 2, 1_250, 1_250, 0),
    (0.4, True, 1, 1_250, 2_500, 0),
    (1_000, True, 0, 250, 2_750, 0),
    (1_000, False, 0, 250, 2_750, 250),
    (1_249, False, 0, 1, 2_501, 1),
    (1_250, True, 0, 1_250, 3_750, 0),
    (1_250, False, 0, 1_250, 3_750, 1_250),
    (3_750.5, True, 1, 1_250, 2_500, 0),
    (5_000, True, 1, 1_250, 2_500, 0),
    (60_000, True, 2, 1_250, 1_250, 0),
]
# 3 per 5 s: Retry-After and the time until there is more agree
BETWEEN = [
    (0, True, 2, 5_000, 5_000, 0),
    (2_000, True, 1, 3_000, 5_000, 0),
    (4_000, True, 0, 1_000, 5_000, 0),
    (4_100, False, 0, 900, 4_900, 900),
    (4_999, False, 0, 1, 4_001, 1),
    (5_000, True, 0, 2_000, 5_000, 0),
]


@pytest.mark.parametrize(
    ("quota", "trace"),
    [(Quota(3, 10_000), TRACE), (Quota(10, 10_000, 3), PACED), (Quota(3, 5_000), BETWEEN)],
    ids=["exact", "paced", "between"],
)
async def test_every_figure(shop: Shop, quota: Quota, trace: list[tuple[float, ...]]) -> None:
    window = Window("strict", uuid.uuid4().hex, quota)
    for now_ms, *expected in trace:
        spent = await shop.at(now_ms, window)
        standing = spent.standings[0]
        assert standing.window == window
        told = [spent.admitted, standing.remaining, standing.more_ms, standing.reset_ms, spent.retry_after_ms]
        assert told == expected, now_ms


async def test_a_paced_and_an_exact_window_are_judged_together(shop: Shop) -> None:
    windows = [shop.window(5, 10_000), Window("paced", uuid.uuid4().hex, Quota(5, 10_000, 1))]
    assert [(await shop.at(now_ms, *windows)).admitted for now_ms in (0, 1_999, 2_000)] == [True, False, True]
    assert [s.remaining for s in (await shop.at(2_000, *windows)).standings] == [3, 0]


async def test_all_windows_or_none(shop: Shop) -> None:
    caller = uuid.uuid4().hex
    windows = [shop.window(2, 1_000, caller), shop.window(3, 60_000, caller), shop.window(100, 1_000, name="all")]
    table = [
        # now, admitted, remaining of each, retry after
        (0, True, [1, 2, 99], 0),
        (0, True, [0, 1, 98], 0),
        (0, False, [0, 1, 98], 1_000),
        (1_000, True, [1, 0, 99], 0),
        (1_000, False, [1, 0, 99], 59_000),
        (1_500, False, [1, 0, 99], 58_500),
        (60_000, True, [1, 1, 99], 0),
    ]
    for now_ms, admitted, remaining, retry_after_ms in table:
        spent = await shop.at(now_ms, *windows)
        assert [s.window for s in spent.standings] == windows
        assert (spent.admitted, [s.remaining for s in spent.standings], spent.retry_after_ms) == (
            admitted,
            remaining,
            retry_after_ms,
        ), now_ms


async def test_a_key_is_a_window_whatever_its_name(shop: Shop) -> None:
    key, quota = uuid.uuid4().hex, Quota(1, 60_000)
    assert (await shop.spend(Window("strict", key, quota))).admitted
    assert (await shop.spend(Window("strict", key + "x", quota))).admitted
    assert not (await shop.spend(Window("lenient", key, quota))).admitted


async def test_windows_of_several_tiers_and_keys_are_one_step(shop: Shop) -> None:
    mine, all_, route = shop.window(2, 1_000), shop.window(3, 1_000, name="all"), shop.window(9, 1_000, name="route")
    table = [
        ([mine, all_], True, [1, 2]),
        ([route, all_], True, [8, 1]),
        ([mine, all_, route], True, [0, 0, 7]),
        ([route, all_], False, [7, 0]),
        ([route], True, [6]),
    ]
    for windows, admitted, remaining in table:
        spent = await shop.spend(*windows)
        assert (spent.admitted, [s.remaining for s in spent.standings]) == (admitted, remaining)


async def test_a_changed_limit_judges_by_what_was_admitted(shop: Shop) -> None:
    """A client that used 8 of 10 at a reload; then one that is blocked at that moment."""
    key = uuid.uuid4().hex
    table = [
        # now ms, limit, admitted, remaining, retry after ms
        *[(n, 10, True, 9 - n, 0) for n in range(8)],
        (100, 5, False, 0, 9_903),  # those at 0 to 3 must leave first
        (100, 9, True, 0, 0),
        (100, 9, False, 0, 9_900),
        (100, 20, True, 10, 0),  # raised: the blocked one goes on
        (100, 10, False, 0, 9_900),  # and lowered again, with ten used
        (10_000, 10, True, 0, 0),
        (10_000, 1, False, 0, 10_000),
        (20_000, 1, True, 0, 0),
    ]
    for now_ms, limit, *expected in table:
        spent = await shop.at(now_ms, shop.window(limit, 10_000, key))
        assert [spent.admitted, spent.standings[0].remaining, spent.retry_after_ms] == expected, (now_ms, limit)


async def test_an_equal_window_is_the_same_window(shop: Shop) -> None:
    key = uuid.uuid4().hex
    assert (await shop.spend(Window("strict", key, Quota(1, 60_000)))).admitted
    assert not (await shop.spend(Window("strict", key, Quota(1, 60_000)))).admitted


async def test_hostile_keys_stay_keys(shop: Shop) -> None:
    marks = ["", " ", "\r\n$1\r\nx", "{a}:{b}", "é\x00\x7f", "*", "'); return 1 --", ":strict:1:60000", "x" * 5_000]
    windows = [shop.window(1, 60_000, uuid.uuid4().hex + mark) for mark in marks]
    assert [(await shop.spend(window)).admitted for window in windows] == [True] * len(marks)
    assert [(await shop.spend(window)).admitted for window in windows] == [False] * len(marks)


async def test_no_windows_admit(shop: Shop) -> None:
    assert (await shop.spend())[:3] == (True, (), 0)


async def test_a_window_named_twice_is_a_bug(shop: Shop) -> None:
    window = shop.window(5, 1_000)
    with pytest.raises(AssertionError):
        await shop.spend(window, window)


async def test_a_large_limit_forgets_a_large_part_at_once(shop: Shop) -> None:
    window = shop.window(500, 1_000)
    for now_ms in range(400):
        assert (await shop.at(now_ms, window)).admitted
    for now_ms, live in [(1_000, 399), (1_150, 250), (1_151, 250), (1_398, 4), (1_399, 4), (3_000, 0)]:
        assert (await shop.at(now_ms, window)).standings[0].remaining == 500 - live - 1, now_ms


requests = st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 7), st.integers(0, 2)), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trace=requests)
async def test_every_verdict_is_the_rules_verdict(shop: Shop, trace: list[tuple[int, int, int]]) -> None:
    """Random gaps, subsets of three windows and limits that change: each store says what the plain rule says."""
    shop.start_ms = shop.clock.now_ms() + 100_000
    keys = [uuid.uuid4().hex for _ in range(3)]
    reference = Reference()
    now_us = 0
    for gap_us, subset, more in trace:
        now_us += gap_us
        choice = [
            shop.window(limit + more, span, key) for key, limit, span in zip(keys, (2, 5, 1), (2, 9, 1), strict=True)
        ]
        picked = [window for n, window in enumerate(choice) if subset >> n & 1]
        got = await shop.at(now_us / 1000, *picked)
        told_us = round(shop.clock.monotonic_s() * 1e6)
        assert got == reference.spend(picked, told_us)


async def test_a_cost_counts_as_so_many_and_is_given_back_or_booked(shop: Shop) -> None:
    """A token's worth of answers: 10 per 10 s, at a cost."""
    key = uuid.uuid4().hex

    def costing(cost: int) -> Window:
        return Window("strict", key, Quota(10, 10_000), cost=cost)

    first = await shop.at(0, costing(4))
    assert first.standings[0].remaining == 6
    assert not (await shop.at(0, costing(7))).admitted
    shop.store.amend([amended(first.standings[0], 5, first.at_us)])
    assert (await shop.at(0, costing(1))).standings[0].remaining == 0
    shop.store.amend([amended(first.standings[0], -3, first.at_us)])
    second = await shop.at(5_000, costing(3))
    assert (second.admitted, second.standings[0].remaining) == (True, 0)
    shop.store.amend([amended(first.standings[0], 1_000_000_000_000, first.at_us)])
    assert (await shop.at(10_000, costing(7))).admitted
    shop.store.amend([])
    assert (await shop.at(10_000, costing(1))).retry_after_ms == 5_000


async def test_a_large_cost_is_one_step(shop: Shop) -> None:
    window = Window("strict", uuid.uuid4().hex, Quota(10_000, 10_000), cost=9_999)
    spent = await shop.at(0, window)
    assert spent.standings[0].remaining == 1
    assert (await shop.at(1, window)).retry_after_ms == 9_999
    shop.store.amend([amended(spent.standings[0], -9_999, spent.at_us)])
    assert (await shop.at(1, window)).standings[0].remaining == 1


async def test_what_is_booked_in_an_exact_window_is_all_that_fits(shop: Shop) -> None:
    window = shop.window(5, 10_000)
    spent = await shop.spend(window)
    shop.store.amend([amended(spent.standings[0], 9, spent.at_us)])
    assert not (await shop.spend(window)).admitted


async def test_who_is_refused_too_often_is_banned(shop: Shop) -> None:
    """1 per 100 ms; banned for 1 s after 3 refusals in 500 ms."""
    window = shop.window(1, 100)
    ban = ban_of("strict", uuid.uuid4().hex, BanRule(3, 500, 1_000), "", 0, 1)
    table = [
        # now ms, admitted, retry after ms, banned for ms
        (0, True, 0, 0),
        (10, False, 90, 0),
        (20, False, 80, 0),
        (100, True, 0, 0),
        (515, True, 0, 0),
        (519, False, 96, 0),  # the second in 500 ms: that at 10 counts no longer
        (519, False, 1_000, 1_000),  # the third
        (700, False, 819, 819),
        (1_518, False, 1, 1),
        (1_519, True, 0, 0),
        (1_519, False, 100, 0),  # strikes begin anew
        (1_519, False, 100, 0),
        (1_519, False, 1_000, 1_000),
    ]
    for now_ms, admitted, retry_after_ms, barred_ms in table:
        spent = await shop.at(now_ms, window, barriers=[ban])
        assert (spent.admitted, spent.retry_after_ms, *spent.barred_ms) == (admitted, retry_after_ms, barred_ms), now_ms


async def test_a_refusal_by_another_tier_is_no_strike_and_a_ban_stops_all(shop: Shop) -> None:
    one, other = shop.window(1, 60_000), shop.window(9, 60_000, name="other")
    ban = ban_of("other", uuid.uuid4().hex, BanRule(1, 60_000, 60_000), "", 1, 1)
    assert (await shop.spend(one, other, barriers=[ban])).admitted
    for _ in range(3):
        assert (await shop.spend(one, other, barriers=[ban])).barred_ms == (0,)
    mine = ban_of("strict", uuid.uuid4().hex, BanRule(1, 60_000, 60_000), "", 0, 1)
    assert (await shop.spend(one, other, barriers=[ban, mine])).barred_ms == (0, 60_000)
    fresh = shop.window(9, 60_000)
    assert not (await shop.spend(fresh, barriers=[replace(mine, first=0)])).admitted
    assert (await shop.spend(fresh)).standings[0].remaining == 8, "what a ban refuses counts nowhere"


async def test_so_many_in_flight_and_no_more(shop: Shop) -> None:
    key, window = uuid.uuid4().hex, shop.window(9, 60_000)
    first, second, third = (Seats("s", key, 2, uuid.uuid4().hex) for _ in range(3))
    assert (await shop.spend(window, barriers=[first])).admitted
    assert (await shop.spend(window, barriers=[second])).admitted
    refused = await shop.spend(window, barriers=[third])
    assert (refused.admitted, refused.retry_after_ms, refused.barred_ms) == (False, 1_000, (1_000,))
    assert refused.standings[0].remaining == 7
    shop.store.leave([third])
    assert not (await shop.spend(barriers=[third])).admitted, "who had no seat leaves none"
    shop.store.leave([first])
    assert (await shop.spend(barriers=[third])).admitted
    shop.store.leave([second, third])
    assert [(await shop.spend(barriers=[each])).admitted for each in (first, second, third)] == [True, True, False]


async def test_a_window_that_refuses_takes_no_seat(shop: Shop) -> None:
    key, window = uuid.uuid4().hex, shop.window(1, 60_000)
    seats = [Seats("s", key, 2, uuid.uuid4().hex) for _ in range(4)]
    assert [(await shop.spend(window, barriers=[each])).admitted for each in seats] == [True, False, False, False]
    assert (await shop.spend(barriers=[seats[3]])).admitted


async def test_what_is_booked_after_a_span_counts_from_then_on(shop: Shop) -> None:
    window = shop.window(5, 10)
    spent = await shop.at(0, window)
    for _ in range(9):  # a store that looks for what is empty has found it
        await shop.at(1_000, shop.window(1, 10))
    shop.store.amend([amended(spent.standings[0], 9, spent.at_us)])
    assert not (await shop.at(1_000, window)).admitted
