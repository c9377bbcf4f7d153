from __future__ import annotations

import gc
import tracemalloc

import pytest

from scopegate.clock import ManualClock
from scopegate.limits.barriers import Seats
from scopegate.limits.footprint import KEY_BYTES, in_memory, in_redis, seats_in_memory
from scopegate.limits.window import Quota, Window
from scopegate.stores.memory import MemoryLimits


@pytest.mark.parametrize("quota", [Quota(1, 1000), Quota(4, 1000), Quota(5, 1000), Quota(100, 1000), Quota(9, 1000, 9)])
def test_a_busy_key_costs_in_memory_what_is_paid_for_it(quota: Quota) -> None:
    limits = MemoryLimits(ManualClock())
    for _ in range(quota.limit + 1):
        limits.spend([Window("w", "k", quota)])
    assert limits._shares.used_bytes == in_memory(quota)


def test_a_pace_costs_the_same_however_large_it_is() -> None:
    assert in_memory(Quota(1_000_000, 1000, 9_999)) == KEY_BYTES
    assert in_redis(Quota(1_000_000, 1000, 9_999)) == in_redis(Quota(2, 1000, 1)) < 300
    assert in_redis(Quota(100, 10_000)) <= 2_048


@pytest.mark.parametrize("most", [1, 5, 20, 100, 1_000])
def test_seats_cost_in_memory_no_more_than_check_says(most: int) -> None:
    keys = max(20, 200 // most)
    assert _seats_bytes(keys, most) <= keys * seats_in_memory(most)


def _seats_bytes(keys: int, most: int) -> int:
    """Of so many keys, for what the process takes for the first time meanwhile to be little beside them."""
    limits = MemoryLimits(ManualClock())
    limits.spend([], [Seats("s", "another", 9, "holder")])
    gc.collect()
    tracemalloc.start()
    for key in range(keys):
        for n in range(most):
            seats = Seats("s", f"a-tier-with-a-long-name:seats:{key:04}", most, f"0123456789ab{10_000_000 + n}{key:04}")
            limits.spend([], [seats])
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used
