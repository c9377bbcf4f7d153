"""Whom a tier counts, and what is done while its store is down."""

from __future__ import annotations

import asyncio
import re
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

SECRET = b"this installation's own"


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
    of = windows_of(tier(TierKey.USER, OnStoreError.LOCAL, Quota(1, 1000), Quota(5, 60_000)), SECRET)
    first, second = of("user:Zoë {secret}\r\n")
    assert (first.name, second.name) == ("strict", "strict/2")
    assert re.fullmatch("strict:1000:[0-9a-f]{24}", first.key)
    assert second.key == first.key.replace(":1000:", ":60000:")
    assert of("user:other")[0].key != first.key
    assert of("user:Zoë {secret}\r\n") is of("user:Zoë {secret}\r\n")


def test_no_two_tiers_share_a_window_or_its_name() -> None:
    quotas = Quota(1, 1000), Quota(1, 60_000)
    tiers = [Tier(name, quotas, TierKey.CLIENT_IP, OnStoreError.LOCAL) for name in ("api", "api-2")]
    windows = [window for each in tiers for window in windows_of(each, SECRET)("ip:192.0.2.1")]
    assert len({window.key for window in windows}) == len({window.name for window in windows}) == 4


def test_a_changed_limit_is_the_same_window_and_a_changed_pace_another() -> None:
    limits = [Quota(1, 1000), Quota(9, 1000), Quota(9, 1000, 1), Quota(9, 1000, 9)]
    keys = [windows_of(tier(TierKey.USER, OnStoreError.LOCAL, each), SECRET)("user:a:u")[0].key for each in limits]
    assert keys[0] == keys[1]
    assert keys[2] == keys[3] != keys[0]


def test_keys_of_another_installation_are_others() -> None:
    mine, theirs, none = (windows_of(tier(), secret)("ip:192.0.2.1")[0].key for secret in (SECRET, b"x" * 64, b""))
    assert len({mine, theirs, none}) == 3


def test_addresses_pay_for_their_windows_and_other_keys_do_not() -> None:
    of = windows_of(tier(), SECRET)
    assert [of(key)[0].origin for key in ("ip:192.0.2.1", "ip:2001:db8::/64", "user:a:ip:192.0.2.1", "all")] == [
        *("192.0.2.1", "2001:db8::/64", "", ""),
    ]


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
    windows = windows_of(tier(), SECRET)("k")
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
    windows = windows_of(local, SECRET)("k")
    first, second = (limiter.without_store(local, windows) for _ in range(2))
    assert isinstance(first, Spent)
    assert isinstance(second, Spent)
    assert (first.admitted, second.admitted) == (True, False)
    assert limiter.without_store(allow, windows) is None
    refusal = limiter.without_store(deny, windows)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.fields) == (503, ((b"retry-after", b"2"),))
