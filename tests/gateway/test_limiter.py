"""Whom a tier counts, and what is done while its store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from scopegate.clock import ManualClock
from scopegate.edge.verdict import Caller, Refusal
from scopegate.errors import StoreUnavailable
from scopegate.gateway.limiter import Limiter, key_of, windows_of
from scopegate.limits.window import Quota, Spent, Window
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier, TierKey
from scopegate.stores.memory import MemoryLimits


def tier(key: TierKey = TierKey.CLIENT_IP, choice: OnStoreError = OnStoreError.LOCAL, *quotas: Quota) -> Tier:
    return Tier("strict", quotas or (Quota(1, 1000),), key, choice)


@pytest.mark.parametrize(
    ("kind", "caller", "key"),
    [
        (TierKey.CLIENT_IP, Caller("192.0.2.1", "192.0.2.1", "u"), "ip:192.0.2.1"),
        (TierKey.CLIENT_IP, Caller("2001:db8::1", "2001:db8::/64"), "ip:2001:db8::/64"),
        (TierKey.USER, Caller("192.0.2.1", "192.0.2.1", "u", auth="a"), "user:a:u"),
        (TierKey.USER, Caller("192.0.2.1", "192.0.2.1", "u", auth="b"), "user:b:u"),
        (TierKey.USER, Caller("192.0.2.1", "192.0.2.1"), "ip:192.0.2.1"),
        (TierKey.USER, Caller("192.0.2.1", "192.0.2.1", "ip:192.0.2.1", auth="a"), "user:a:ip:192.0.2.1"),
        (TierKey.GLOBAL, Caller("192.0.2.1", "192.0.2.1", "u"), "all"),
    ],
)
def test_whom_a_tier_counts(kind: TierKey, caller: Caller, key: str) -> None:
    assert key_of(tier(kind), caller) == key


def test_windows_are_named_by_tier_and_keyed_by_a_hash() -> None:
    of = windows_of(tier(TierKey.USER, OnStoreError.LOCAL, Quota(1, 1000), Quota(5, 60_000)))
    first, second = of("user:Zoë {secret}\r\n")
    assert (first.name, second.name) == ("strict", "strict-2")
    assert first.key == second.key
    assert len(first.key) == 24
    assert set(first.key) <= set("0123456789abcdef")
    assert of("user:other")[0].key != first.key
    assert of("user:Zoë {secret}\r\n") is of("user:Zoë {secret}\r\n")


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

    async def close(self) -> None:
        self.closed = True


def settled(limiter: Limiter, windows: tuple[Window, ...]) -> Spent | None:
    spent = limiter.spend(windows)
    return limiter.settle(spent) if isinstance(spent, asyncio.Future) else spent


async def test_a_store_that_failed_is_left_alone_for_a_second_and_asked_again() -> None:
    store, clock = Store(), ManualClock()
    limiter = Limiter(store, MemoryLimits(clock), clock)
    windows = windows_of(tier())("k")
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


def test_without_a_store_the_tier_decides() -> None:
    clock = ManualClock()
    limiter = Limiter(MemoryLimits(clock), MemoryLimits(clock), clock)
    local, allow, deny = (tier(choice=choice) for choice in OnStoreError)
    windows = windows_of(local)("k")
    first, second = (limiter.without_store(local, windows) for _ in range(2))
    assert isinstance(first, Spent)
    assert isinstance(second, Spent)
    assert (first.admitted, second.admitted) == (True, False)
    assert limiter.without_store(allow, windows) is None
    refusal = limiter.without_store(deny, windows)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.fields) == (503, ((b"retry-after", b"2"),))
