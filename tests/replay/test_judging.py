"""Whom a policy would have refused in a log: rules and keys as the gateway has them."""

from __future__ import annotations

from typing import Any

import pytest

from scopegate.replay.entries import LogEntry
from scopegate.replay.judging import Replay, untold
from tests.gateway.rig import policy_of

SECOND_US = 1_000_000
ROUTES = [{"name": "all", "match": "ANY /**", "tier": ["narrow"]}]


def simulation(tiers: dict[str, Any], routes: list[dict[str, Any]] | None = None) -> Replay:
    return Replay(policy_of(["http://127.0.0.1:1"], tiers=tiers, routes=routes or ROUTES))


def entry(at_s: float, client: str = "192.0.2.1", target: str = "/", status: int = 200, bytes_in: int = 0) -> LogEntry:
    return LogEntry(round(at_s * SECOND_US), client, "GET", target, status, bytes_in)


def refused(simulated: Replay, *entries: LogEntry) -> list[tuple[str, ...]]:
    return [simulated.judge(each).tiers for each in entries]


def test_more_than_the_limit_in_a_span_is_refused_and_counts_in_none() -> None:
    simulated = simulation({"narrow": {"limit": "2 per 10s"}})
    times = (0, 1, 2, 9.9, 10, 10.5, 11)
    narrow = ("narrow",)
    assert refused(simulated, *map(entry, times)) == [(), (), narrow, narrow, (), narrow, ()]


def test_clients_are_told_apart_by_address_and_ipv6_prefix() -> None:
    simulated = simulation({"narrow": {"limit": "1 per 10s"}})
    clients = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    assert refused(simulated, *[entry(0, client) for client in clients]) == [(), (), (), ("narrow",), ()]


@pytest.mark.parametrize(
    ("missing", "tiers"), [("client_ip", [(), ("narrow",)]), ("exempt", [(), ()]), ("refuse", [("narrow",)] * 2)]
)
def test_what_a_log_does_not_tell_is_missing(missing: str, tiers: list[tuple[str, ...]]) -> None:
    rule = {"limit": "1 per 10s", "key": "header:X-Team", "when_missing": missing}
    assert refused(simulation({"narrow": rule}), entry(0), entry(0)) == tiers


def test_tiers_that_count_by_what_no_log_tells_are_named() -> None:
    tiers = {"narrow": {"limit": "1 per 10s", "key": ["client_ip", "cookie:sid"]}, "wide": {"limit": "9 per 10s"}}
    routes = [{"name": "all", "match": "ANY /**", "tier": ["narrow", "wide"]}]
    assert untold(policy_of(["http://127.0.0.1:1"], tiers=tiers, routes=routes)) == ["narrow"]
    for more in ({"cost": "answer:X-Cost"}, {"deny": ["header:X-Tenant=acme"]}, {"allow": ["cookie:sid=1"]}):
        told = {"narrow": {"limit": "1 per 10s", **more}}
        assert untold(policy_of(["http://127.0.0.1:1"], tiers=told, routes=ROUTES)) == ["narrow"]


def test_refunds_costs_and_lists_hold() -> None:
    refunding = simulation({"narrow": {"limit": "1 per 10s", "refund_on": ["5xx"]}})
    assert refused(refunding, entry(0, status=503), entry(1), entry(2)) == [(), (), ("narrow",)]
    who_left = simulation({"narrow": {"limit": "1 per 10s", "refund_on": ["4xx"]}})
    assert refused(who_left, entry(0, status=499), entry(1)) == [(), ("narrow",)]
    costly = simulation({"narrow": {"limit": "4 per 10s", "cost": "1 per 1KiB"}})
    assert refused(costly, entry(0, bytes_in=3000), entry(1, bytes_in=1500), entry(2)) == [(), ("narrow",), ()]
    listed = simulation({"narrow": {"limit": "1 per 10s", "allow": ["192.0.2.0/24"], "deny": ["198.51.100.7"]}})
    assert refused(listed, entry(0), entry(0), entry(0, "198.51.100.7")) == [(), (), ("narrow",)]


def test_a_watched_tier_judges_what_the_others_let_pass() -> None:
    tiers = {"wide": {"limit": "2 per 10s"}, "narrow": {"limit": "1 per 10s", "mode": "watch"}}
    simulated = simulation(tiers, [{"name": "all", "match": "ANY /**", "tier": ["wide", "narrow"]}])
    assert refused(simulated, entry(0), entry(0), entry(0)) == [(), ("narrow",), ("wide",)]


def test_a_request_that_meets_no_route_is_told_apart() -> None:
    simulated = simulation({"narrow": {"limit": "1 per 10s"}}, [{"name": "a", "match": "GET /a", "tier": "narrow"}])
    assert (simulated.judge(entry(0, target="/b")).route, simulated.judge(entry(0, target="/a")).route) == ("", "a")
