"""The windows in which a request counts."""

from __future__ import annotations

import re

import pytest

from scopegate.edge.headers import CHUNKED
from scopegate.edge.verdict import Caller, Refusal
from scopegate.gateway.counting import RouteCount, counts_of, tier_of, windows_of
from scopegate.limits.window import Quota, Window
from scopegate.policy.policy import OnStoreError, Tier
from tests.gateway.rig import policy_of
from tests.gateway.test_keys import IP, NOBODY, SECRET, SOMEBODY, Request

LIMITS = (Quota(1, 1000), Quota(5, 60_000))


def tier(name: str, *quotas: Quota) -> Tier:
    return Tier(name, quotas or (Quota(1, 1000),), (IP,), OnStoreError.LOCAL)


def test_windows_are_named_by_tier_and_keyed_by_a_hash() -> None:
    of = windows_of(tier("strict", *LIMITS), SECRET)
    first, second = of("user:Zoë {secret}\r\n", "")
    assert (first.name, second.name) == ("strict", "strict/2")
    assert [tier_of(window) for window in (first, second)] == ["strict", "strict"]
    assert re.fullmatch("strict:1000:[0-9a-f]{24}", first.key)
    assert second.key == first.key.replace(":1000:", ":60000:")
    assert of("user:other", "")[0].key != first.key
    assert of("user:Zoë {secret}\r\n", "") is of("user:Zoë {secret}\r\n", "")


def test_no_two_tiers_share_a_window_or_its_name() -> None:
    windows = [
        window
        for name in ("api", "api-2")
        for window in windows_of(tier(name, *LIMITS), SECRET)("ip:192.0.2.1", "192.0.2.1")
    ]
    assert len({window.key for window in windows}) == len({window.name for window in windows}) == 4
    assert {window.origin for window in windows} == {"192.0.2.1"}


def test_a_changed_limit_is_the_same_window_and_a_changed_pace_another() -> None:
    limits = [Quota(1, 1000), Quota(9, 1000), Quota(9, 1000, 1), Quota(9, 1000, 9)]
    keys = [windows_of(tier("strict", each), SECRET)("user:a:u", "")[0].key for each in limits]
    assert keys[0] == keys[1]
    assert keys[2] == keys[3] != keys[0]


def test_keys_of_another_installation_are_others() -> None:
    mine, theirs, none = (windows_of(tier("a"), secret)("ip:192.0.2.1", "")[0].key for secret in (SECRET, b"x", b""))
    assert len({mine, theirs, none}) == 3


TIERS = {
    "strict": {"limit": ["1 per 1s", "9 per 1m"]},
    "tenant": {"limit": "1 per 1s", "key": "header:X-Tenant", "when_missing": "exempt"},
    "must": {"limit": "1 per 1s", "key": "header:X-Tenant", "when_missing": "refuse"},
    "each": {"limit": "1 per 1s", "key": "route"},
}


def counts(*tiers: list[str]) -> list[RouteCount]:
    routes = [{"name": f"r{n}", "match": f"GET /{n}", "tier": names} for n, names in enumerate(tiers)]
    return list(counts_of(policy_of(["http://127.0.0.1:1"], tiers=TIERS, routes=routes), SECRET).values())


def names(count: RouteCount, caller: Caller, *fields: tuple[bytes, bytes]) -> list[str] | Refusal:
    found = count.windows(Request(caller, list(fields)))
    return found if isinstance(found, Refusal) else [window.name for window in found]


def test_all_windows_of_all_tiers_in_their_order_without_those_that_do_not_count() -> None:
    (both,) = counts(["tenant", "strict"])
    assert names(both, NOBODY, (b"x-tenant", b"a")) == ["tenant", "strict", "strict/2"]
    assert names(both, NOBODY) == ["strict", "strict/2"]
    (alone,) = counts(["tenant"])
    assert names(alone, NOBODY) == []
    (must,) = counts(["strict", "must"])
    found = names(must, NOBODY)
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (400, "key_missing")


def test_routes_of_the_same_tiers_count_alike_unless_a_tier_tells_them_apart() -> None:
    first, second, third = counts(["strict", "tenant"], ["strict", "tenant"], ["strict"])
    assert first is second is not third
    assert names(first, SOMEBODY) == names(third, SOMEBODY)
    first, second = counts(["each"], ["each"])

    def key(count: RouteCount) -> str:
        found = count.windows(Request(SOMEBODY))
        assert not isinstance(found, Refusal)
        (window,) = found
        assert isinstance(window, Window)
        return window.key

    assert key(first) != key(second)


COSTS = {
    "five": {"limit": "9 per 1s", "cost": 5},
    "body": {"limit": "9 per 1s", "cost": "1 per 1KiB"},
    "told": {"limit": "9 per 1s", "cost": "answer:X-Cost"},
    "even": {"limit": "99 per 1s", "algorithm": "gcra", "burst": 3, "cost": "1 per 1KiB"},
    "login": {"limit": "9 per 1s", "count_only": [401, 403]},
    "kind": {"limit": "9 per 1s", "refund_on": "5xx"},
}


def costing(*tiers: str) -> RouteCount:
    routes = [{"name": "all", "match": "ANY /**", "tier": list(tiers)}]
    return counts_of(policy_of(["http://127.0.0.1:1"], tiers=COSTS, routes=routes), SECRET)["all"]


def costs(count: RouteCount, length: int) -> list[int]:
    found = count.windows(Request(NOBODY, length=length))
    assert not isinstance(found, Refusal)
    return [window.cost for window in found]


def test_what_a_request_costs_when_it_comes() -> None:
    count = costing("five", "body", "told", "even")
    assert costs(count, 0) == [5, 1, 1, 1]
    assert costs(count, 1024) == [5, 1, 1, 1]
    assert costs(count, 2049) == [5, 3, 1, 3]
    assert costs(count, 1 << 40) == [5, 9, 1, 3], "one that never fits would never pass"
    assert costs(count, CHUNKED) == [5, 1, 1, 1]
    assert [costing(name).is_settled for name in COSTS] == [False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("tier", "status", "bytes_in", "told", "owed"),
    [
        ("five", 500, 9_999, 3, 5),
        ("body", 200, 2_049, None, 3),
        ("body", 200, 10, None, 1),
        ("body", 200, 1 << 40, None, 9),
        ("told", 200, 0, 0, 0),
        ("told", 200, 0, 7, 7),
        ("told", 200, 0, 10**15, 9),
        ("told", 200, 0, None, 1),
        ("login", 200, 0, None, 0),
        ("login", 401, 0, None, 1),
        ("login", 403, 0, None, 1),
        ("login", 0, 0, None, 1),
        ("kind", 502, 0, None, 0),
        ("kind", 404, 0, None, 1),
        ("kind", 0, 0, None, 1),
    ],
)
def test_what_it_should_have_cost(tier: str, status: int, bytes_in: int, told: int | None, owed: int) -> None:
    (each,) = costing(tier).tiers
    windows = each.windows(Request(NOBODY))
    assert not isinstance(windows, Refusal)
    assert each.owed(windows[0], status, bytes_in, told) == owed
