"""What a route's tiers make of real requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.gateway.client import Reply
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs
from tests.gateway.test_signin import token

pytestmark = ON_ONE_LOOP

AUTH = {"who": {"jwt": {"secret": "${JWT_SECRET}"}, "claims": ["org"]}}


def get(path: str, *lines: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


async def ask(rig: Rig, *requests: bytes) -> list[Reply]:
    """One after the other, on a connection of their own."""
    return [await (await rig.connect()).ask(request) for request in requests]


async def statuses(rig: Rig, *requests: bytes) -> list[int]:
    return [reply.status for reply in await ask(rig, *requests)]


def one(tiers: Sequence[str] | str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "all", "match": "ANY /**", "tier": tiers, **more}]


@pytest.mark.parametrize(
    ("key", "line"),
    [("header:X-Tenant", "x-tenant: {}"), ("cookie:sid", "Cookie: a=1; sid={}"), ("api_key", "X-API-Key: {}")],
)
async def test_who_sends_another_value_is_another_and_who_sends_none_is_an_address(
    gates: Rigs, key: str, line: str
) -> None:
    rig = await gates.start(tiers={"by": {"limit": "1 per 1h", "key": key}}, routes=one("by"))
    mine, other = get("/", line.format("mine")), get("/", line.format("other" * 1600))
    assert await statuses(rig, mine, mine, other, other, get("/"), get("/")) == [200, 429, 200, 429, 200, 429]
    client = await rig.connect()
    new, third = (get("/", line.format(value)) for value in ("new", "third"))
    assert [(await client.ask(each)).status for each in (new, mine, third)] == [200, 429, 200], (
        "what one connection keeps is its fields', whatever came before"
    )


async def test_an_api_key_is_read_where_the_tier_says(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "key": "api_key", "api_key": "cookie:key", "when_missing": "exempt"}}
    rig = await gates.start(tiers=tiers, routes=one("by"))
    keyed = get("/", "Cookie: key=k")
    assert await statuses(rig, keyed, keyed, *[get("/", "X-API-Key: k")] * 3) == [200, 429, 200, 200, 200]
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.decisions in ({}, {"admitted": 1, "exempt": 3})


async def test_a_key_that_says_two_things_is_refused_and_the_connection_lives(gates: Rigs) -> None:
    rig = await gates.start(tiers={"by": {"limit": "1 per 1h", "key": "header:X-Tenant"}}, routes=one("by"))
    client = await rig.connect()
    reply = await client.ask(get("/", "X-Tenant: a", "X-Tenant: b"))
    assert (reply.status, reply.code) == (400, "key_ambiguous")
    assert (await client.ask(get("/", "X-Tenant: a"))).status == 200
    assert len(rig.app.requests) == 1


async def test_a_route_that_watches_lets_pass_who_cannot_be_counted(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "key": "header:X-Tenant", "when_missing": "refuse"}}
    rig = await gates.start(tiers=tiers, routes=one("by", mode="watch"))
    assert await statuses(rig, get("/"), get("/", "X-Tenant: a", "X-Tenant: b")) == [200, 200]
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.watched in ({}, {"key_missing": 1, "key_ambiguous": 1})


async def test_a_stranger_is_told_to_sign_in_and_not_what_is_counted(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "key": "claim:org", "when_missing": "refuse"}}
    rig = await gates.start(tiers=tiers, routes=one("by", auth="who"), auth=AUTH)
    assert await statuses(rig, get("/"), get("/", f"Authorization: Bearer {token()}")) == [401, 400]


async def test_several_tiers_are_all_or_nothing(gates: Rigs) -> None:
    tiers = {
        "address": {"limit": "3 per 1h"},
        "tenant": {"limit": ["1 per 1h", "9 per 1d"], "key": "header:X-Tenant"},
    }
    rig = await gates.start(tiers=tiers, routes=one(["address", "tenant"]))
    first, refused, *_ = await ask(rig, get("/", "X-Tenant: a"), get("/", "X-Tenant: a"))
    assert first.get(b"ratelimit-policy") == [b'"address";q=3;w=3600, "tenant";q=1;w=3600, "tenant/2";q=9;w=86400']
    assert first.get(b"ratelimit")[0].startswith(b'"address";r=2;')
    assert (refused.status, refused.json()["violated-policies"]) == (429, ["tenant"])
    later = await statuses(rig, *(get("/", f"X-Tenant: {tenant}") for tenant in "bcd"))
    assert later == [200, 200, 429], "the refused request took no place of its address"
    last = (await ask(rig, get("/", "X-Tenant: e")))[0]
    assert last.json()["violated-policies"] == ["address"]
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.limited in ({}, {("tenant", "limited"): 1, ("address", "limited"): 2})


async def test_a_route_counts_alone_where_the_tier_says(gates: Rigs) -> None:
    tiers = {"each": {"limit": "1 per 1h", "key": ["route", "client_ip"]}}
    routes = [{"name": name, "match": f"GET /{name}", "tier": "each"} for name in ("a", "b")]
    rig = await gates.start(tiers=tiers, routes=routes)
    assert await statuses(rig, get("/a"), get("/a"), get("/b"), get("/b")) == [200, 429, 200, 429]
