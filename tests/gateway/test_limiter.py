"""Who decides, and what is done while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from scopegate.clock import ManualClock
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreUnavailable
from scopegate.gateway.limiter import Limiter
from scopegate.limits.window import Amendment, Quota, Spent, Window
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier
from scopegate.stores.memory import MemoryLimits

WINDOWS = (Window("strict", "k", Quota(1, 1000)),)


class Store:
    """Answers late; what it says is set by the test."""

    def __init__(self) -> None:
        self.error: StoreUnavailable | None = None
        self.asked = 0
        self.closed = False

    def spend(self, windows: Sequence[Window]) -> asyncio.Future[Spent]:
        self.asked += 1
        future: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
        if self.error is not None:
            future.set_exception(self.error)
        else:
            future.set_result(Spent(True, ()))
        return future

    def amend(self, changes: Sequence[Amendment]) -> None:
        raise AssertionError("nobody asks for it")

    async def close(self) -> None:
        self.closed = True


def settled(limiter: Limiter, windows: tuple[Window, ...]) -> Spent | None:
    spent = limiter.spend(windows)
    return limiter.settle(spent) if isinstance(spent, asyncio.Future) else spent


async def test_a_store_that_failed_is_left_alone_for_a_second_and_asked_again() -> None:
    store, clock = Store(), ManualClock()
    limiter = Limiter(store, MemoryLimits(clock), clock)
    windows = WINDOWS
    errors = metrics.LIMIT_STORE_ERRORS.labels("timeout")._value
    before = errors.get()
    assert settled(limiter, windows) == Spent(True, ())
    assert metrics.LIMIT_STORE_UP._value.get() == 1
    store.error = StoreUnavailable("timeout")
    assert settled(limiter, windows) is None
    assert (metrics.LIMIT_STORE_UP._value.get(), errors.get() - before) == (0, 1)
    for _ in range(5):
        assert limiter.spend(windows) is None
    assert store.asked == 2
    clock.advance(1.0)
    assert settled(limiter, windows) is None
    assert (store.asked, errors.get() - before) == (3, 2)
    store.error = None
    clock.advance(0.5)
    assert limiter.spend(windows) is None
    clock.advance(0.5)
    assert settled(limiter, windows) == Spent(True, ())
    assert metrics.LIMIT_STORE_UP._value.get() == 1
    await limiter.close()
    assert store.closed


def tier(choice: OnStoreError) -> Tier:
    return Tier(choice, (Quota(1, 1000),), (), choice)


def test_without_a_store_the_tier_decides() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), MemoryLimits(clock), clock)
    local, allow, deny = map(tier, OnStoreError)
    first, second = (limiter.without_store([(local, WINDOWS)]) for _ in range(2))
    assert isinstance(first, Spent)
    assert isinstance(second, Spent)
    assert (first.admitted, second.admitted) == (True, False)
    assert limiter.without_store([(allow, WINDOWS)]) is None
    refusal = limiter.without_store([(deny, WINDOWS)])
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.fields) == (503, ((b"retry-after", b"2"),))


def test_of_several_tiers_one_that_denies_is_enough_and_those_counted_here_are_one_step() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), MemoryLimits(clock), clock)
    local, allow, deny = map(tier, OnStoreError)
    other = (Window("other", "o", Quota(5, 1000)),)
    assert isinstance(limiter.without_store([(local, WINDOWS), (deny, other)]), Refusal)
    spents = [limiter.without_store([(local, WINDOWS), (allow, other), (local, other)]) for _ in range(2)]
    assert [[s.remaining for s in spent.standings] for spent in spents if isinstance(spent, Spent)] == [[0, 4], [0, 4]]
