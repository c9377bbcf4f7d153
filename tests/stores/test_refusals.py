"""Whom the store refused is refused without asking it, and never once more than it would."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.clock import ManualClock
from scopegate.limits.barriers import BanRule, Barrier, Seats, ban_of
from scopegate.limits.window import Quota, Spent, Window, amended
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.redis_limits import RedisLimits
from scopegate.stores.refusals import HearsRefusal, RememberedRefusals

WINDOW = Window("w", "k", Quota(1, 10_000))
OTHER = Window("o", "o", Quota(5, 10_000))
BAN = ban_of("w", "b", BanRule(3, 60_000, 900_000), "", 0, 1)


class Asked:
    """Counts how often the store behind it is asked. The clock goes on before it decides, and after."""

    def __init__(self, clock: ManualClock, way_s: float = 0.0) -> None:
        self._limits = MemoryLimits(clock)
        self._clock = clock
        self._way_s = way_s
        self.asked = 0
        self._refused: HearsRefusal
        self.amend, self.leave = self._limits.amend, self._limits.leave
        self.open, self.listen, self.close = self._limits.open, self._limits.listen, self._limits.close

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent:
        self.asked += 1
        asked_s = self._clock.monotonic_s()
        self._clock.advance(self._way_s)
        spent = self._limits.spend(windows, barriers)
        self._clock.advance(self._way_s)
        if not spent.admitted:
            self._refused(spent, windows, barriers, asked_s)
        return spent

    def tell(self, refused: HearsRefusal) -> None:
        self._refused = refused


def spent(store: RememberedRefusals, *windows: Window, barriers: Sequence[Barrier] = ()) -> Spent:
    answer = store.spend(windows, barriers)
    assert isinstance(answer, Spent)
    return answer


def test_a_client_that_hammers_is_one_question_a_second() -> None:
    clock = ManualClock()
    asked = Asked(clock)
    store = RememberedRefusals(asked, clock)
    assert spent(store, WINDOW).admitted
    for n in range(1_000):
        refused = spent(store, WINDOW)
        assert not refused.admitted
        assert refused.standings[0].remaining == 0
        assert refused.retry_after_ms == pytest.approx(10_000 - 5 * n, abs=1)
        clock.advance(0.005)
    assert asked.asked <= 1 + 6


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 3)), min_size=1, max_size=60),
    st.integers(1, 3),
    st.integers(1, 9_000),
    st.integers(0, 40),
)
def test_it_refuses_nobody_whom_the_store_would_admit(
    trace: list[tuple[int, int]], limit: int, span_ms: int, way_ms: int
) -> None:
    """Beside a twin that is always asked, at the moment at which the answer was given here."""
    clock, twin_clock = ManualClock(), ManualClock()
    store = RememberedRefusals(Asked(clock, way_ms / 1000), clock)
    twin = MemoryLimits(twin_clock)
    one, other = Window("a", "a", Quota(limit, span_ms)), Window("b", "b", Quota(2, 5_000))
    for gap_ms, picked in trace:
        clock.advance(gap_ms / 1000)
        windows = [window for n, window in enumerate((one, other)) if picked >> n & 1]
        before_s = clock.monotonic_s()
        here = spent(store, *windows)
        decided_s = before_s + (clock.monotonic_s() - before_s) / 2
        twin_clock.advance(decided_s - twin_clock.monotonic_s())
        there = twin.spend(windows)
        assert here.admitted == there.admitted
        assert here.retry_after_ms <= there.retry_after_ms + way_ms + 2


def refused_twice(store: RememberedRefusals, asked: Asked, again: Sequence[Window]) -> int:
    """How many questions the second of two refusals costs."""
    for _ in range(2):
        spent(store, WINDOW)
    before = asked.asked
    spent(store, *again)
    return asked.asked - before


def test_what_is_not_the_same_question_is_asked() -> None:
    clock = ManualClock()
    asked = Asked(clock)
    store = RememberedRefusals(asked, clock)
    assert refused_twice(store, asked, [WINDOW]) == 0
    assert refused_twice(store, asked, [replace(WINDOW, quota=Quota(2, 10_000))]) == 1, "the limit was raised"
    store = RememberedRefusals(asked, clock)
    assert refused_twice(store, asked, [WINDOW, OTHER]) == 1
    store = RememberedRefusals(asked, clock)
    assert refused_twice(store, asked, [OTHER]) == 1


def test_what_may_be_given_back_is_asked() -> None:
    clock = ManualClock()
    asked = Asked(clock)
    store = RememberedRefusals(asked, clock)
    loose = replace(WINDOW, firm=False)
    first = spent(store, loose)
    assert not spent(store, loose).admitted
    store.amend([amended(first.standings[0], -1, first.at_us)])
    assert spent(store, loose).admitted


def test_strikes_are_counted_and_a_ban_is_remembered() -> None:
    clock = ManualClock()
    asked = Asked(clock)
    store = RememberedRefusals(asked, clock)
    codes = [spent(store, WINDOW, barriers=[BAN]).barred_ms[0] for _ in range(9)]
    assert codes == [0, 0, 0, *[900_000] * 6]
    assert asked.asked == 1 + 3
    clock.advance(0.5)
    assert spent(store, WINDOW, barriers=[BAN]).barred_ms == (899_500,)
    assert asked.asked == 4
    clock.advance(899.5)
    assert spent(store, WINDOW, barriers=[BAN]).admitted


def test_taken_seats_are_asked_for_again() -> None:
    clock = ManualClock()
    asked = Asked(clock)
    store = RememberedRefusals(asked, clock)
    first, second, third = (Seats("w", "s", 1, name) for name in "abc")
    assert spent(store, OTHER, barriers=[first]).admitted
    assert not spent(store, OTHER, barriers=[second]).admitted
    store.leave([first])
    assert spent(store, OTHER, barriers=[third]).admitted


def test_a_flood_of_refused_keys_takes_bounded_room() -> None:
    clock = ManualClock()
    store = RememberedRefusals(Asked(clock), clock)
    for n in range(20_000):
        window = Window("w", f"k{n}", Quota(1, 10_000), f"10.{n >> 8}.{n & 255}.1")
        spent(store, window)
        spent(store, window)
        assert len(store._kept) <= 8_192


async def test_over_redis_a_refusal_is_one_command(valkey_url: str) -> None:
    clock = ManualClock()
    redis = RedisLimits(valkey_url, timeout_s=10, clock=clock)
    store = RememberedRefusals(redis, clock)
    window = Window("w", uuid.uuid4().hex, Quota(1, 10_000))
    verdicts = []
    for _ in range(5):
        answer = store.spend([window])
        verdicts.append((isinstance(answer, Spent), (answer if isinstance(answer, Spent) else await answer).admitted))
        await asyncio.sleep(0)
    assert verdicts == [(False, True), (False, False), (True, False), (True, False), (True, False)]
    clock.advance(10)
    again = store.spend([window])
    assert isinstance(again, asyncio.Future)
    assert (await again).admitted
    await store.close()
