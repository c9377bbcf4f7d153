"""Who decides, and what is done while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from scopegate.clock import ManualClock
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreUnavailable
from scopegate.gateway.limiter import Limiter
from scopegate.limits.barriers import BanRule, Barrier, Seats, ban_of
from scopegate.limits.fallback import UNCOUNTED
from scopegate.limits.window import Amendment, Quota, Spent, Window, WindowState
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.mirror import Mirror

WINDOWS = (Window("strict", "k", Quota(1, 1000)),)


class Store:
    """Answers late; what it says is set by the test."""

    def __init__(self) -> None:
        self.error: StoreUnavailable | None = None
        self.asked = 0
        self.closed = False
        self.told: Callable[[StoreUnavailable | None], None]

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        self.told = told

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> asyncio.Future[Spent]:
        self.asked += 1
        future: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        else:
            spans = [(window, window.quota.span_ms) for window in windows]
            future.set_result(Spent(True, tuple([WindowState(window, 0, span, span) for window, span in spans])))
        return future

    def amend(self, changes: Sequence[Amendment]) -> None:
        raise AssertionError("nobody asks for it")

    async def open(self) -> None:
        """Open as it is."""

    def leave(self, seats: Sequence[Seats]) -> None:
        raise AssertionError("nobody has a seat")

    async def close(self) -> None:
        self.closed = True


def settled(limiter: Limiter, counts_alone: bool = True) -> bool | None:
    spent = limiter.spend(WINDOWS)
    answer = limiter.settle(spent, counts_alone) if isinstance(spent, asyncio.Future) else spent
    return answer and answer.admitted


async def test_a_store_that_is_away_is_not_asked_until_it_says_that_it_is_back() -> None:
    store = Store()
    limiter = Limiter(store, Mirror(ManualClock()))
    errors = metrics.LIMIT_STORE_ERRORS.labels("timeout")._value
    before = errors.get()
    assert settled(limiter) is True
    assert metrics.LIMIT_STORE_UP._value.get() == 1
    store.error = StoreUnavailable("timeout")
    assert settled(limiter) is None
    assert (store.asked, errors.get() - before) == (2, 1)
    assert metrics.LIMIT_STORE_UP._value.get() == 1, "one answer that is missing is no outage"
    store.told(store.error)
    assert metrics.LIMIT_STORE_UP._value.get() == 0
    assert limiter.spend(WINDOWS) is None
    assert store.asked == 2
    store.error = None
    store.told(None)
    assert settled(limiter) is True
    assert metrics.LIMIT_STORE_UP._value.get() == 1
    await limiter.close()
    assert store.closed


@pytest.mark.parametrize("counts_alone", [True, False])
async def test_the_mirror_learns_where_a_tier_asks_for_it_and_nowhere_else(counts_alone: bool) -> None:
    mirror = Mirror(ManualClock())
    settled(Limiter(Store(), mirror), counts_alone)
    assert bool(list(mirror.known())) is counts_alone


def tier(choice: OnStoreError) -> Tier:
    return Tier(choice, (Quota(1, 1000),), (), choice)


def test_without_a_store_the_tier_decides() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), Mirror(clock))
    local, allow, deny = map(tier, OnStoreError)
    first, second = (limiter.without_store([(local, WINDOWS)]) for _ in range(2))
    assert isinstance(first, Spent)
    assert isinstance(second, Spent)
    assert (first.admitted, second.admitted) == (True, False)
    assert limiter.without_store([(allow, WINDOWS)]) is UNCOUNTED
    refusal = limiter.without_store([(deny, WINDOWS)])
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.fields[0]) == (503, (b"retry-after", b"2"))


def test_of_several_tiers_one_that_denies_is_enough_and_those_counted_here_are_one_step() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), Mirror(clock))
    local, allow, deny = map(tier, OnStoreError)
    other = (Window("other", "o", Quota(5, 1000)),)
    assert isinstance(limiter.without_store([(local, WINDOWS), (deny, other)]), Refusal)
    spents = [limiter.without_store([(local, WINDOWS), (allow, other), (local, other)]) for _ in range(2)]
    assert [[s.remaining for s in spent.standings] for spent in spents if isinstance(spent, Spent)] == [[0, 4], [0, 4]]


def test_bans_and_seats_hold_without_a_store_where_a_tier_counts_here() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), Mirror(clock))
    local, allow, _ = map(tier, OnStoreError)
    other = (Window("allow", "o", Quota(5, 1000)),)
    ban = ban_of("local", "b", BanRule(1, 1_000, 60_000), "", 1, 1)
    away, here = Seats("allow", "s", 1, "x"), Seats("local", "t", 1, "y")
    barriers = (ban, away, here)

    def ask() -> tuple[bool, tuple[int, ...]]:
        spent = limiter.without_store([(allow, other), (local, WINDOWS)], barriers)
        assert isinstance(spent, Spent)
        return spent.admitted, spent.barred_ms

    assert ask() == (True, (0, 0, 0))
    assert ask() == (False, (60_000, 0, 1_000)), "its only window refused, which is where the ban looks"
    limiter.leave([away, here])
    assert ask() == (False, (60_000, 0, 0))
    crowded = Tier("seats", (), (), OnStoreError.LOCAL, in_flight=1)
    seats = [Seats("seats", "u", 1, name) for name in "ab"]
    verdicts = [limiter.without_store([(crowded, ())], [each]) for each in seats]
    assert [isinstance(each, Spent) and each.admitted for each in verdicts] == [True, False]
