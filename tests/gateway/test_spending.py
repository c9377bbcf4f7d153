"""What a route's tiers make of real requests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scopegate.clock import ManualClock
from scopegate.stores.redis_limits import RedisLimits
from tests.gateway.app import OK, Answer, End
from tests.gateway.client import Reply
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually, policy_of
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


# ── what a request costs ────────────────────────────────────────────────────────────────────────────────────────────


def answering(rig: Rig, *answers: tuple[int, str]) -> None:
    for status, fields in answers:
        rig.app.answers.append(Answer([f"HTTP/1.1 {status} Said\r\n{fields}content-length: 0\r\n\r\n".encode()]))


async def told(rig: Rig, request: bytes) -> tuple[int, int]:
    """The answer's status, and what was left."""
    (reply,) = await ask(rig, request)
    return reply.status, int(reply.get(b"x-ratelimit-remaining")[0])


async def test_a_pace_and_its_retry_after(gates: Rigs) -> None:
    clock = ManualClock(1_800_000_000_000)
    tiers = {"even": {"limit": "12 per 20s", "algorithm": "gcra", "burst": 3}}
    rig = await gates.start(tiers=tiers, routes=one("even"), clock=clock)
    assert await statuses(rig, *[get("/")] * 4) == [200, 200, 200, 429]
    for _ in range(3):
        (refused,) = await ask(rig, get("/"))
        (wait,) = refused.get(b"retry-after")
        clock.advance(int(wait) - 1)
        assert await statuses(rig, get("/")) == [429]
        clock.advance(1)
        assert await statuses(rig, get("/")) == [200]


async def test_a_fixed_cost(gates: Rigs) -> None:
    rig = await gates.start(tiers={"dear": {"limit": "10 per 1h", "cost": 4}}, routes=one("dear"))
    first, second, third = await ask(rig, *[get("/")] * 3)
    assert [each.status for each in (first, second, third)] == [200, 200, 429]
    assert third.get(b"x-ratelimit-remaining") == [b"2"]
    assert third.json()["violated-policies"] == ["dear"]


def post(length: int, *, chunked: bool = False) -> bytes:
    body = b"x" * length
    head = b"POST / HTTP/1.1\r\n" + HOST
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (length, body)
    return head + b"Content-Length: %d\r\n\r\n%b" % (length, body)


async def test_a_cost_by_the_body_also_of_one_that_did_not_say_how_long_it_is(gates: Rigs) -> None:
    tiers = {"bytes": {"limit": "10 per 1h", "cost": "1 per 1KiB"}}
    rig = await gates.start(tiers=tiers, routes=one("bytes"))
    assert await told(rig, post(3_000)) == (200, 7)
    assert await told(rig, post(3_000, chunked=True)) == (200, 6)
    assert await told(rig, get("/")) == (200, 3), "the two others were booked when they were known"
    assert (await told(rig, post(4_000)))[0] == 429


async def test_what_the_app_says_it_cost_is_booked_afterwards(gates: Rigs) -> None:
    tiers = {"tokens": {"limit": "100 per 1h", "cost": "answer:X-Cost"}}
    rig = await gates.start(tiers=tiers, routes=one("tokens"))
    answering(rig, (200, "X-Cost: 40\r\n"), (200, "X-Cost: 0\r\n"), (200, "X-Cost: -5\r\n"), (200, ""))
    answering(rig, (200, "X-Cost: lots\r\n"), (200, "X-Cost: 99999999999\r\n"))
    left = [await told(rig, get("/")) for _ in range(7)]
    assert left == [(200, 99), (200, 59), (200, 59), (200, 58), (200, 57), (200, 56), (429, 0)]


async def test_failed_sign_ins_count_and_good_ones_do_not(gates: Rigs) -> None:
    tiers = {"login": {"limit": "3 per 15m", "count_only": [401, 403]}}
    rig = await gates.start(tiers=tiers, routes=one("login"))
    answering(rig, *[(200, "")] * 4, (401, ""), (302, ""), (403, ""), (401, ""))
    found = [(await told(rig, get("/login")))[0] for _ in range(9)]
    assert found == [200, 200, 200, 200, 401, 302, 403, 401, 429]
    assert len(rig.app.requests) == 8


async def test_who_guesses_many_at_once_gets_no_more_guesses(gates: Rigs) -> None:
    """Each counts until its answer is known."""
    tiers = {"login": {"limit": "3 per 15m", "count_only": 401}}
    rig = await gates.start(tiers=tiers, routes=one("login"))
    wait = asyncio.Event()
    rig.app.answers.extend([Answer([wait, b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"])] * 3)
    clients = [await rig.connect() for _ in range(5)]
    for client in clients[:3]:
        client.send(get("/login"))
    await rig.app.until(lambda: len(rig.app.requests) == 3)
    assert [(await client.ask(get("/login"))).status for client in clients[3:]] == [429, 429]
    wait.set()
    assert [(await client.answer()).status for client in clients[:3]] == [401] * 3


async def test_a_guess_whose_client_left_before_the_answer_counts(gates: Rigs) -> None:
    tiers = {"login": {"limit": "1 per 15m", "count_only": 401}}
    rig = await gates.start(tiers=tiers, routes=one("login"))
    rig.app.answers.append(Answer([asyncio.Event()]))
    client = await rig.connect()
    client.send(get("/login"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await client.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    assert await statuses(rig, get("/login")) == [429]


@pytest.mark.parametrize(("refund_on", "second"), [("5xx", 200), ([502, 404], 200), ([500, 503], 429), ("4xx", 429)])
async def test_what_was_the_apps_fault_is_given_back(gates: Rigs, refund_on: Any, second: int) -> None:
    """An app that breaks off: the 502 is ours."""
    tiers = {"kind": {"limit": "1 per 1h", "refund_on": refund_on}}
    rig = await gates.start(tiers=tiers, routes=one("kind"))
    rig.app.answers.append(Answer([End.RESET]))
    assert await statuses(rig, post(1), get("/")) == [502, second]


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_is_allowed_is_not_counted_and_who_is_denied_is_refused(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "allow": ["header:X-Who=ops"], "deny": ["header:X-Who=bob", "cookie:b=1"]}}
    rig = await gates.start(tiers=tiers, routes=one("by"))
    assert await statuses(rig, *[get("/", "X-Who: ops")] * 3, get("/"), get("/")) == [200, 200, 200, 200, 429]
    (refused,) = await ask(rig, get("/", "X-Who: bob"))
    assert (refused.status, refused.code) == (403, "denied")
    assert await statuses(rig, get("/", "X-Who: ops", "Cookie: b=1")) == [403], "denied is stronger than allowed"
    client = await rig.connect()
    found = [(await client.ask(get("/", f"X-Who: {who}"))).status for who in ("bob", "bob", "ops", "ops")]
    assert found == [403, 403, 200, 200]


async def test_a_denied_stranger_is_not_asked_to_sign_in_and_a_watching_route_refuses_nobody(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "deny": "header:X-Who=bob"}}
    rig = await gates.start(tiers=tiers, routes=one("by", auth="who"), auth=AUTH)
    assert await statuses(rig, get("/", "X-Who: bob"), get("/")) == [403, 401]
    watching = await gates.start(tiers=tiers, routes=one("by", mode="watch"))
    assert await statuses(watching, get("/", "X-Who: bob")) == [200]


async def test_a_list_file_is_taken_up_with_the_policy(gates: Rigs, tmp_path: Path) -> None:
    file = tmp_path / "deny.txt"
    file.write_text("header:X-Who=bob\n")
    tiers = {"by": {"limit": "9 per 1h", "deny_file": str(file)}}
    rig = await gates.start(tiers=tiers, routes=one("by"))
    client = await rig.connect()
    bob, eve = (get("/", f"X-Who: {who}") for who in ("bob", "eve"))
    assert [(await client.ask(each)).status for each in (bob, eve)] == [403, 200]
    file.write_text("header:X-Who=eve\n")
    await rig.gateway.adopt(policy_of([rig.app.url], tiers=tiers, routes=one("by")))
    assert [(await client.ask(each)).status for each in (bob, eve)] == [200, 403]


# ── bans, and requests in flight ────────────────────────────────────────────────────────────────────────────────────


async def test_who_is_refused_too_often_is_banned(gates: Rigs) -> None:
    clock = ManualClock(1_800_000_000_000)
    tiers = {"by": {"limit": "1 per 10s", "key": "header:X-Who", "ban": "15m after 3 refusals in 1m"}}
    rig = await gates.start(tiers=tiers, routes=one("by"), clock=clock)
    bob = get("/", "X-Who: bob")
    replies = await ask(rig, *[bob] * 4)
    assert [(each.status, each.code) for each in replies[1:]] == [
        *[(429, "rate_limited")] * 2,
        (429, "banned"),
    ]
    assert [each.get(b"retry-after") for each in replies[1:]] == [[b"10"], [b"10"], [b"900"]]
    clock.advance(899)
    (still,) = await ask(rig, bob)
    assert (still.code, still.get(b"retry-after")) == ("banned", [b"1"])
    assert await statuses(rig, get("/", "X-Who: eve")) == [200]
    clock.advance(1)
    assert await statuses(rig, bob) == [200]


async def test_an_address_of_a_trusted_proxy_is_never_banned(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "ban": "15m after 1 refusal in 1m"}}
    server = {"trusted_proxies": ["127.0.0.1/32"]}
    rig = await gates.start(tiers=tiers, routes=one("by"), server=server)
    told = [get("/", "X-Forwarded-For: 203.0.113.7")] * 2
    assert [each.code for each in (await ask(rig, *told))[1:]] == ["banned"]
    assert [each.code for each in (await ask(rig, *[get("/")] * 3))[1:]] == ["rate_limited"] * 2


async def test_so_many_in_flight_and_no_more(gates: Rigs) -> None:
    tiers = {"by": {"in_flight": 2, "key": ["route", "header:X-Who"]}}
    rig = await gates.start(tiers=tiers, routes=one("by"))
    wait = asyncio.Event()
    rig.app.answers.extend([Answer([wait, OK])] * 2)
    bob = get("/", "X-Who: bob")
    first, second, third = [await rig.connect() for _ in range(3)]
    for client in (first, second):
        client.send(bob)
    await rig.app.until(lambda: len(rig.app.requests) == 2)
    refused = await third.ask(bob)
    assert (refused.status, refused.code, refused.get(b"retry-after")) == (429, "too_many_at_once", [b"1"])
    assert (await third.ask(get("/", "X-Who: eve"))).status == 200
    await first.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 1)
    assert (await third.ask(bob)).status == 200, "who left has left the seat"
    wait.set()
    assert (await second.answer()).status == 200
    assert [(await third.ask(bob)).status for _ in range(4)] == [200] * 4
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.limited in ({}, {("by", "crowded"): 1})


async def test_who_is_refused_by_a_later_step_leaves_the_seat(gates: Rigs) -> None:
    tiers = {"by": {"in_flight": 1}}
    rig = await gates.start(tiers=tiers, routes=one("by", body={"max": "10B"}))
    assert await statuses(rig, post(11), post(11), post(10)) == [413, 413, 200]


async def test_a_watching_route_bans_nobody(gates: Rigs) -> None:
    tiers = {"by": {"limit": "1 per 1h", "ban": "15m after 1 refusal in 1m", "in_flight": 1}}
    rig = await gates.start(tiers=tiers, routes=one("by", mode="watch"))
    assert await statuses(rig, *[get("/")] * 4) == [200] * 4


async def test_two_gateways_share_bans_and_seats(gates: Rigs, valkey_url: str) -> None:
    tiers = {
        "by": {"limit": "3 per 1h", "key": "header:X-Who", "ban": "15m after 2 refusals in 1m"},
        "seats": {"in_flight": 1, "key": "header:X-Job"},
    }
    stores = [RedisLimits(valkey_url, timeout_s=10) for _ in range(2)]
    one_rig, other = [await gates.start(tiers=tiers, routes=one(["by", "seats"]), store=store) for store in stores]
    who = uuid.uuid4().hex
    bob = get("/", f"X-Who: {who}", f"X-Job: {who}")
    assert await statuses(one_rig, bob, bob, bob, bob) == [200, 200, 200, 429]
    (struck,) = await ask(other, bob)
    assert (struck.status, struck.code) == (429, "banned")
    assert [each.code for each in await ask(one_rig, bob)] == ["banned"]
    job = get("/", f"X-Job: {who}", f"X-Who: {uuid.uuid4().hex}")
    wait = asyncio.Event()
    one_rig.app.answers.append(Answer([wait, OK]))
    client = await one_rig.connect()
    client.send(job)
    await one_rig.app.until(lambda: len(one_rig.app.requests) == 4)
    assert [each.code for each in await ask(other, job)] == ["too_many_at_once"]
    wait.set()
    assert (await client.answer()).status == 200
    await eventually_status(other, job, 200)


async def eventually_status(rig: Rig, request: bytes, status: int) -> None:
    async with asyncio.timeout(6):
        while await statuses(rig, request) != [status]:
            await asyncio.sleep(0.01)


# ── tiers that watch ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("with_redis", [False, True])
async def test_a_watched_tier_counts_as_it_would_if_it_judged(gates: Rigs, valkey_url: str, with_redis: bool) -> None:
    tiers = {
        "guess": {"limit": "2 per 1h", "key": "header:X-Who", "count_only": [401], "mode": "watch"},
        "price": {"limit": "5 per 1h", "key": "header:X-Who", "cost": "answer:X-Cost", "mode": "watch"},
        "hammer": {"limit": "3 per 1h", "key": "header:X-Who", "ban": "1h after 1 refusal in 1m", "mode": "watch"},
    }
    store = RedisLimits(valkey_url, timeout_s=10) if with_redis else None
    rig = await gates.start(tiers=tiers, routes=one(list(tiers)), store=store)
    client, bob = await rig.connect(), get("/", f"X-Who: {uuid.uuid4().hex}")
    costly = b"HTTP/1.1 %b\r\nx-cost: %d\r\ncontent-length: 0\r\n\r\n"
    (plan,) = rig.gateway.shared.rules.plans()
    for number, (status, cost) in enumerate((*[(b"200 OK", 0)] * 3, *[(b"401 No", 2)] * 4), 1):
        rig.app.answers.append(costly % (status, cost))
        assert (await client.ask(bob)).status == int(status[:3])
        await eventually(lambda told=3 * number: sum(plan.tally.limited.values()) == told)
    assert plan.tally.limited == {
        ("guess", "admitted"): 5, ("guess", "would_limit"): 2,
        ("price", "admitted"): 6, ("price", "would_limit"): 1,
        ("hammer", "admitted"): 3, ("hammer", "would_limit"): 4,
    }  # fmt: skip


async def test_a_watched_tier_counts_who_is_in_flight(gates: Rigs) -> None:
    rig = await gates.start(tiers={"by": {"in_flight": 1, "mode": "watch"}}, routes=one("by"))
    wait = asyncio.Event()
    rig.app.answers.extend([Answer([wait, OK])] * 2)
    clients = [await rig.connect() for _ in range(2)]
    for client in clients:
        client.send(get("/"))
    await rig.app.until(lambda: len(rig.app.requests) == 2)
    wait.set()
    assert [(await client.answer()).status for client in clients] == [200, 200]
    assert await statuses(rig, get("/")) == [200]
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.limited == {("by", "admitted"): 2, ("by", "would_limit"): 1}


# ── how a field is spelt ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_field_that_is_counted_by_reaches_the_app_in_that_spelling_alone(gates: Rigs) -> None:
    tiers = {
        "by": {"limit": "2 per 1h", "key": "api_key", "api_key": "header:X-Client", "when_missing": "exempt"},
        "listed": {"limit": "9 per 1h", "deny": ["header:X-Tenant=evil"]},
    }
    rig = await gates.start(tiers=tiers, routes=one(["by", "listed"]))
    odd = get("/", "X_Client: mine", "X.Client: mine", "x-client: real", "x_tenant: evil", "X-Other_One: kept")
    assert await statuses(rig, odd, odd, odd) == [200, 200, 429]
    sent = rig.app.requests[0]
    assert (sent.get(b"x-client"), sent.get(b"x-other_one")) == ([b"real"], [b"kept"])
    assert [sent.get(name) for name in (b"x_client", b"x.client", b"x_tenant")] == [[], [], []]
    await rig.gateway.adopt(policy_of([rig.app.url]))
    await ask(rig, odd)
    assert rig.app.requests[-1].get(b"x_client") == [b"mine"], "where nothing counts by it, it is a field like others"


async def test_a_session_is_one_client_however_its_cookie_is_written(gates: Rigs) -> None:
    tiers = {
        "by": {"limit": "2 per 1h", "key": "cookie:sid"},
        "out": {"limit": "99 per 1h", "deny": ["cookie:sid=e%76il"]},
    }
    rig = await gates.start(tiers=tiers, routes=one(["by", "out"]))
    written = ["abc", "%61bc", '"abc"', "a%62c", '"\\141bc"']
    assert await statuses(rig, *[get("/", f"Cookie: sid={each}") for each in written]) == [200, 200, 429, 429, 429]
    assert await statuses(rig, *[get("/", f"Cookie: sid={each}") for each in ("evil", "%65vil", '"evil"')]) == [403] * 3
