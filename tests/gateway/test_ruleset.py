"""A policy as it is served: each route with its pool, its windows and its bounds."""

from __future__ import annotations

import asyncio
from typing import Any

from scopegate.edge.routes import NoRoute
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.ruleset import RoutePlan, Ruleset
from scopegate.policy.policy import Upstream
from tests.gateway.rig import policy_of

ROUTES: list[dict[str, Any]] = [
    {"name": "leads", "match": "POST /leads", "tier": "strict", "body": {"max": "1KiB", "types": ["a/b"]}},
    {"name": "again", "match": "POST /again", "tier": "strict"},
    {"name": "watched", "match": "ANY /w/**", "tier": "lenient", "mode": "watch", "body": {"max": "1KiB"}},
    {"name": "wide", "match": "PUT /wide", "tier": "none", "mode": "watch", "body": {"max": "9MiB"}},
    {"name": "rest", "match": "GET /**", "tier": "none", "upstream": "other"},
]


async def test_every_route_is_ready_to_serve() -> None:
    asked: list[Upstream] = []

    def pool_for(upstream: Upstream) -> UpstreamPool:
        asked.append(upstream)
        return UpstreamPool(upstream, asyncio.get_running_loop())

    policy = policy_of(
        [],
        routes=[{"upstream": "web", **route} for route in ROUTES],
        upstreams={name: {"servers": [f"http://127.0.0.1:{port}"]} for name, port in (("web", 1), ("other", 2))},
    )
    rules = Ruleset(policy, pool_for)
    plans = {plan.name: plan for plan in rules.plans()}
    assert list(plans) == ["leads", "again", "watched", "wide", "rest"]
    leads, again, watched, wide, rest = plans.values()
    assert [upstream.name for upstream in asked] == ["web", "web", "web", "web", "other"]
    assert rest.pool.upstream.name == "other"
    assert leads.count is not None
    assert leads.count is again.count
    assert wide.count is None
    assert [plan.enforced for plan in plans.values()] == [True, True, False, False, True]
    assert (leads.max_body_bytes, leads.types) == (1024, frozenset({"a/b"}))
    assert (watched.max_body_bytes, wide.max_body_bytes) == (1024 * 1024, 9 * 1024 * 1024)
    assert again.max_body_bytes == policy.server.limits.body_bytes


async def test_a_request_finds_its_plan_or_what_would_have_matched() -> None:
    policy = policy_of(["http://127.0.0.1:1"], routes=ROUTES[:1])
    rules = Ruleset(policy, lambda upstream: UpstreamPool(upstream, asyncio.get_running_loop()))
    found = rules.match("POST", "/leads", "a.example")
    assert isinstance(found, RoutePlan)
    assert found.name == "leads"
    assert rules.match("GET", "/leads", "a.example") == NoRoute(("POST",))
    assert rules.match("GET", "/other", "a.example") == NoRoute(())
    found.tally.count(200, 0.1, 1, 2)
    found.upstream_latencies.observe(0.1)
    rules.stray.tally.count(404, 0.1, 0, 0)
    rules.flush()
    assert (found.tally.statuses, rules.stray.tally.statuses) == ({}, {})
