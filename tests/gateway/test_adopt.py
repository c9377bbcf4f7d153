"""A policy replaced while requests are under way: who is served by which, what goes on, what is counted and let go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from scopegate.policy.policy import Policy
from tests.gateway.app import OK, Answer, App
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs, eventually, policy_of

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
TIERS = {"few": {"limit": "2 per 60s", "key": "client_ip"}, "other": {"limit": "9 per 60s", "key": "global"}}
LIMITED = [{"name": "few", "match": "ANY /**", "tier": "few"}]


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def route(name: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, "match": "ANY /**", "tier": "none", **more}]


async def test_a_request_keeps_the_rules_it_began_with(gates: Rigs) -> None:
    rig = await gates.start(routes=route("adopt-before", body={"max": "1KiB"}))
    wait = asyncio.Event()
    rig.app.answers.extend([Answer([wait, OK]), OK])
    early, late = await rig.connect(), await rig.connect()
    early.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await rig.gateway.adopt(policy_of([rig.app.url], routes=route("adopt-after")))
    assert (await late.ask(GET)).status == 200
    wait.set()
    assert (await early.answer()).status == 200
    await eventually(lambda: value("scopegate_requests_total", route="adopt-before", status="200") == 1)
    await eventually(lambda: value("scopegate_requests_total", route="adopt-after", status="200") == 1)
    await eventually(lambda: not rig.gateway._retired)
    assert (await early.ask(GET)).status == 200
    await eventually(lambda: value("scopegate_requests_total", route="adopt-after", status="200") == 2)
    assert value("scopegate_requests_total", route="adopt-before", status="200") == 1, "nothing is counted twice"


async def test_what_was_counted_and_not_yet_flushed_is_not_lost(gates: Rigs) -> None:
    rig = await gates.start(routes=route("adopt-many"))
    client = await rig.connect()
    for n in range(20):
        assert (await client.ask(GET)).status == 200
        await rig.gateway.adopt(policy_of([rig.app.url], routes=route("adopt-many", body={"max": f"{n + 1}KiB"})))
    await eventually(lambda: value("scopegate_requests_total", route="adopt-many", status="200") == 20)
    assert value("scopegate_request_seconds_count", route="adopt-many") == 20


@pytest.mark.parametrize("change", ["another tier", "a route", "nothing but a comment"])
async def test_limits_go_on_counting(gates: Rigs, change: str) -> None:
    rig = await gates.start(tiers=TIERS, routes=LIMITED)
    client = await rig.connect()
    assert [(await client.ask(GET)).status for _ in range(3)] == [200, 200, 429]
    tiers: dict[str, Any] = dict(TIERS)
    routes: list[dict[str, Any]] = [dict(LIMITED[0])]
    if change == "another tier":
        tiers["other"] = {"limit": "8 per 1s", "key": "client_ip"}
    elif change == "a route":
        routes[0]["name"] = "renamed"
    await rig.gateway.adopt(policy_of([rig.app.url], tiers=tiers, routes=routes))
    assert (await client.ask(GET)).status == 429


async def test_a_changed_limit_judges_by_what_was_admitted(gates: Rigs) -> None:
    rig = await gates.start(tiers=TIERS, routes=LIMITED)
    first = rig.gateway.shared.rules.policy
    client = await rig.connect()
    assert [(await client.ask(GET)).status for _ in range(3)] == [200, 200, 429]
    more = {**TIERS, "few": {"limit": "3 per 60s", "key": "client_ip"}}
    await rig.gateway.adopt(policy_of([rig.app.url], tiers=more, routes=LIMITED))
    assert [(await client.ask(GET)).status for _ in range(2)] == [200, 429]  # who was blocked goes on at once
    await rig.gateway.adopt(first)
    assert (await client.ask(GET)).status == 429


async def test_an_unchanged_upstream_keeps_its_connections(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    await client.ask(GET)
    pool = next(rig.gateway.shared.rules.plans()).pool
    await rig.gateway.adopt(policy_of([rig.app.url], routes=route("kept")))
    assert next(rig.gateway.shared.rules.plans()).pool is pool
    await client.ask(GET)
    assert {request.connection for request in rig.app.requests} == {1}


async def test_an_upstream_that_is_gone_ends_with_its_last_request(gates: Rigs) -> None:
    async with App() as other:
        rig = await gates.start(routes=route("moves"))
        wait = asyncio.Event()
        rig.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", wait, b"cd"]))
        client, fresh = await rig.connect(), await rig.connect()
        client.send(GET)
        await rig.app.until(lambda: len(rig.app.requests) == 1)
        before = next(rig.gateway.shared.rules.plans()).pool
        await rig.gateway.adopt(policy_of([other.url], routes=route("moves")))
        assert (await fresh.ask(GET)).status == 200
        assert len(other.requests) == 1
        await eventually(lambda: value("scopegate_upstream_connections", upstream="web", state="in_use") == 1)
        assert before in rig.gateway._pools.values()
        wait.set()
        assert (await client.answer()).body == b"abcd"
        await eventually(lambda: before not in rig.gateway._pools.values())
        await eventually(lambda: not rig.app.open)
        assert sum(server.open for server in before.servers) == 0
        await rig.settled()
        await rig.gateway.adopt(policy_of([rig.app.url], routes=route("moves")))


async def test_a_new_upstream_is_not_let_go_before_it_is_used(gates: Rigs) -> None:
    """The ticker comes by while the new rules are being built, and something old waits to be let go."""
    async with App() as other:
        rig = await gates.start(routes=route("first"))
        wait = asyncio.Event()
        rig.app.answers.append(Answer([wait, OK]))
        client, fresh = await rig.connect(), await rig.connect()
        client.send(GET)
        await rig.app.until(lambda: len(rig.app.requests) == 1)
        await rig.gateway.adopt(policy_of([rig.app.url], routes=route("second")))
        adopting = asyncio.create_task(rig.gateway.adopt(policy_of([other.url], routes=route("third"))))
        await asyncio.sleep(0)
        assert (len(rig.gateway._pools), adopting.done()) == (2, False)
        rig.gateway.flush()
        await adopting
        assert rig.gateway.shared.rules.pools <= set(rig.gateway._pools.values())
        assert (await fresh.ask(GET)).status == 200
        assert len(other.requests) == 1
        wait.set()
        assert (await client.answer()).status == 200
        await rig.settled()
        await rig.gateway.adopt(policy_of([rig.app.url], routes=route("first")))


async def test_a_policy_that_cannot_be_built_changes_nothing(gates: Rigs) -> None:
    rig = await gates.start(routes=route("stays"))
    before = rig.gateway.shared.rules
    broken = _without_upstream(policy_of(["http://127.0.0.1:1"], routes=route("never")))
    with pytest.raises(KeyError):
        await rig.gateway.adopt(broken)
    assert rig.gateway.shared.rules is before
    assert len(rig.gateway._pools) == 1
    assert (await (await rig.connect()).ask(GET)).status == 200


def _without_upstream(policy: Policy) -> Policy:
    """Its routes name an upstream that it does not have: nothing that a file can say."""
    other = replace(policy.routes[0].upstream, name="other")
    return replace(policy, upstreams={"other": other})


async def test_a_kept_connection_meets_the_new_rules_with_its_next_request(gates: Rigs) -> None:
    rig = await gates.start(routes=route("open"))
    client = await rig.connect()
    assert (await client.ask(GET)).status == 200
    await rig.gateway.adopt(policy_of([rig.app.url], routes=[{"name": "only", "match": "GET /only", "tier": "none"}]))
    assert (await client.ask(GET)).status == 404


async def test_the_loop_turns_while_a_thousand_routes_are_built(gates: Rigs) -> None:
    rig = await gates.start()
    many = [{"name": f"r{n}", "match": f"GET /r{n}/**", "tier": "none"} for n in range(1000)]
    policy = policy_of([rig.app.url], routes=[*many, *route("all")])
    turns = 0
    adopting = asyncio.create_task(rig.gateway.adopt(policy))
    while not adopting.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 5
    client = await rig.connect()
    assert (await client.ask(b"GET /r999/x HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
