"""Limits in memory: bounded, and a flood frees nobody."""

from __future__ import annotations

import subprocess
import sys

from scopegate.clock import ManualClock
from scopegate.limits.window import Quota, Window
from scopegate.stores.memory import MemoryLimits

QUOTA = Quota(2, 60_000)


class Store:
    def __init__(self, max_keys: int = 100) -> None:
        self.clock = ManualClock()
        self.limits = MemoryLimits(self.clock, max_keys=max_keys)

    def admits(self, key: str, quota: Quota = QUOTA, name: str = "strict") -> bool:
        return self.limits.spend([Window(name, key, quota)]).admitted

    def flood(self, count: int, times: int = 1, prefix: str = "flood") -> None:
        for n in range(count):
            for _ in range(times):
                self.admits(f"{prefix}{n}")


def test_never_more_keys_than_allowed() -> None:
    store = Store(max_keys=100)
    for n in range(5_000):
        store.admits(f"k{n}", Quota(1 + n % 7, 60_000), name=f"t{n % 3}")
        assert len(store.limits) <= 100


def test_a_blocked_client_stays_blocked_through_a_flood() -> None:
    store = Store(max_keys=100)
    store.admits("bad")
    store.admits("bad")
    assert not store.admits("bad")
    for round_ in range(50):
        store.flood(200, prefix=f"flood{round_}-")
        assert not store.admits("bad")
    store.clock.advance(60)
    assert store.admits("bad")


def test_many_blocked_clients_stay_blocked() -> None:
    store = Store(max_keys=100)
    store.flood(60, times=2, prefix="bad")
    store.flood(5_000)
    assert [store.admits(f"bad{n}") for n in range(60)] == [False] * 60


def test_when_all_are_blocked_newcomers_share_and_nobody_is_freed() -> None:
    store = Store(max_keys=50)
    store.flood(50, times=2, prefix="bad")
    # 20,000 newcomers share 1024 logs of two admissions each.
    assert sum(store.admits(f"new{n}") for n in range(20_000)) == 2 * 1024
    assert [store.admits(f"bad{n}") for n in range(50)] == [False] * 50
    assert len(store.limits) == 50


def test_a_newcomer_that_shared_keeps_what_was_counted() -> None:
    store = Store(max_keys=4)
    store.flood(4, times=2, prefix="bad")
    store.clock.advance(59)
    assert [store.admits("new") for _ in range(3)] == [True, True, False]
    store.clock.advance(1)  # the blocked ones are free, their places too
    assert not store.admits("new")
    store.clock.advance(59)
    assert store.admits("new")


def test_the_latest_seen_is_kept_longest() -> None:
    store = Store(max_keys=64)
    regular = Window("strict", "regular", Quota(100, 60_000))
    for seen in range(1, 41):
        assert store.limits.spend([regular]).standings[0].remaining == 100 - seen
        store.clock.advance(0.1)
        store.flood(16, prefix=f"once{seen}-")


def test_empty_logs_are_dropped_as_new_ones_come() -> None:
    store = Store(max_keys=10_000)
    store.flood(5_000)
    store.clock.advance(60)
    store.flood(5_000, prefix="later")
    assert len(store.limits) <= 5_001


def test_making_room_never_drops_a_log_of_the_request_itself() -> None:
    store = Store(max_keys=2)
    idle, new = Window("a", "k", Quota(1, 1_000)), Window("b", "k", Quota(5, 60_000))
    assert store.limits.spend([idle]).admitted
    store.clock.advance(1)
    store.admits("other")
    assert store.limits.spend([idle, new]).admitted
    assert not store.limits.spend([idle]).admitted


def test_room_is_made_for_every_window_of_a_request() -> None:
    store = Store(max_keys=60)
    tight, wide = Quota(1, 1_000), Quota(5, 1_000)
    for n in range(5_000):  # more than the shared logs could take: each had logs of its own
        store.clock.advance(0.1)
        assert store.limits.spend([Window("a", f"k{n}", tight), Window("b", f"k{n}", wide)]).admitted
        assert len(store.limits) <= 60


def test_a_reload_with_equal_quotas_keeps_the_counts() -> None:
    store = Store()
    assert store.admits("k", Quota(1, 1_000))
    for _ in range(3_000):  # as many reloads, each with quota objects of its own
        assert not store.admits("k", Quota(1, 1_000))


def test_one_quota_object_may_serve_two_tiers() -> None:
    store = Store()
    for name in ("a", "b"):
        assert [store.admits("k", name=name) for _ in range(3)] == [True, True, False]


FLOOD = """
from scopegate.clock import ManualClock
from scopegate.limits.window import Quota, Window
from scopegate.stores.memory import MemoryLimits

def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
limits, quota = MemoryLimits(ManualClock()), Quota(10, 600_000)
blocked = [Window("strict", "2001:db8::/64", quota)]
for _ in range(10): assert limits.spend(blocked).admitted
before = rss()
for n in range(400_000): limits.spend([Window("strict", f"2001:db8:{n:x}::/64", quota)])
assert not limits.spend(blocked).admitted
print(rss() - before)
"""


def test_a_flood_of_keys_costs_at_most_64_mib() -> None:
    """The memory is at its bound from key 100,000 on: four times as many take no more."""
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64 * 2**20
