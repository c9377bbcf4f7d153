"""Shares of a memory that is short."""

from __future__ import annotations

import pytest

from scopegate.limits.shares import Shares, networks

STEP = 10


def fill(shares: Shares, *takers: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Each takes all it can, in turn; what each got."""
    got = dict.fromkeys(takers, 0)
    while True:
        before = dict(got)
        for taker in takers:
            if shares.has_room(*taker, got[taker], STEP):
                shares.take(*taker, STEP)
                got[taker] += STEP
        if got == before:
            return got


@pytest.mark.parametrize("count", [1, 2, 3, 9, 99])
def test_as_much_stays_free_as_each_of_the_greedy_holds(count: int) -> None:
    shares = Shares(1_000_000)
    got = fill(shares, *[(n, n) for n in range(1, count + 1)])
    share = 1_000_000 / (count + 1)
    assert all(abs(each - share) <= 2 * STEP * count for each in got.values())
    assert abs(1_000_000 - shares.used_bytes - share) <= 2 * STEP * count


def test_many_small_networks_of_a_large_one_leave_a_fifth() -> None:
    shares = Shares(1_000_000)
    fill(shares, *[(n, 1) for n in range(1, 200)])
    assert abs(1_000_000 - shares.used_bytes - 200_000) <= 200 * STEP
    assert shares.has_room(200, 2, 0, STEP)
    assert not shares.has_room(200, 1, 0, STEP)


def test_what_no_network_pays_for_is_measured_alone() -> None:
    shares = Shares(1_000)
    for _ in range(20):  # twenty keys of no network
        shares.take(0, 0, 40)
    assert shares.has_room(0, 0, 0, 200)
    assert not shares.has_room(0, 0, 0, 210)
    assert shares.has_room(0, 0, 150, 50)
    assert not shares.has_room(0, 0, 151, 50)


def test_what_is_given_back_is_free() -> None:
    shares = Shares(1_000)
    shares.take(1, 1, 500)
    assert not shares.has_room(1, 1, 500, 1)
    shares.take(1, 1, -500)
    assert shares.used_bytes == 0
    assert shares.has_room(1, 1, 0, 1_000)


SAME_SMALL = [
    ("203.0.113.7", "203.0.113.250"),
    ("2001:db8:1:2::/64", "2001:db8:1:ffff::/64"),
    ("2001:db8:1::/48", "2001:db8:1:ff00::/56"),
    ("2001:db8::/64", "2001:db8:0:1::/64"),
]
SAME_LARGE = [
    ("203.0.113.7", "203.0.7.7"),
    ("2001:db8:1:2::/64", "2001:db8:2:2::/64"),
    ("2001:db8::/64", "2001:db8:ffff::/64"),
]
APART = [("203.0.113.7", "203.1.113.7"), ("2001:db8:1::/64", "2001:db9:1::/64"), ("1.2.3.4", "2001:db8::/64")]


def test_addresses_and_prefixes_know_their_networks() -> None:
    assert networks("") == (0, 0)
    for one, other in SAME_SMALL:
        assert networks(one) == networks(other)
        assert 0 not in networks(one)
    for one, other in SAME_LARGE:
        assert networks(one) != networks(other)
        assert networks(one)[1] == networks(other)[1]
    for one, other in APART:
        assert networks(one) != networks(other)
