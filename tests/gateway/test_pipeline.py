"""The life of a request, end to end: routes, fields, limits, sign-in, body rules, watch mode, drain."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from scopegate.clock import ManualClock, SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.limits.barriers import Barrier, Seats
from scopegate.limits.window import Amendment, Spent, Window
from scopegate.stores.memory import MemoryLimits
from tests.gateway.app import OK, Answer, App, End, IgnoredFaults, body_of
from tests.gateway.client import Client, Reply
from tests.gateway.rig import HOST, JWT_SECRET, ON_ONE_LOOP, Lines, Rigs, eventually

pytestmark = ON_ONE_LOOP

STRICT = {"strict": {"limit": "10 per 10s", "key": "client_ip"}}


def route(name: str, match: str, tier: str | list[str] = "none", **more: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "tier": tier, **more}


def raw(line: str, *fields: str, body: bytes = b"") -> bytes:
    return f"{line} HTTP/1.1\r\n".encode() + HOST + b"".join(f"{f}\r\n".encode() for f in fields) + b"\r\n" + body


def post(path: str, body: bytes, *fields: str) -> bytes:
    return raw(f"POST {path}", f"Content-Length: {len(body)}", *fields, body=body)


# ── routes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_routes(gates: Rigs) -> None:
    rig = await gates.start(routes=[route("read", "GET /api/**"), route("write", "POST /api/leads")])
    client = await rig.connect()
    for line, status, allow in [
        ("GET /api/x", 200, []),
        ("HEAD /api/x", 200, []),
        ("GET /api/a%2Fb;c", 200, []),
        ("POST /api/leads", 200, []),
        ("POST /api/leads/", 200, []),
        ("GET /other", 404, []),
        ("HEAD /other", 404, []),
        ("POST /api/x", 405, [b"GET, HEAD"]),
        ("DELETE /api/leads", 405, [b"GET, HEAD, POST"]),
    ]:
        reply = await client.ask(raw(line))
        assert (reply.status, reply.get(b"allow"), reply.get(b"connection")) == (status, allow, []), line
    assert len(rig.app.requests) == 5


async def test_a_path_that_can_be_read_as_two_routes_is_refused_and_both_are_named_in_the_log(
    gates: Rigs, caplog: pytest.LogCaptureFixture
) -> None:
    routes = [
        route("leads", "POST /api/leads", "strict"),
        route("files", "ANY /files/*", reads=[]),
        route("rest", "ANY /**"),
    ]
    rig = await gates.start(tiers=STRICT, routes=routes)
    client = await rig.connect()
    for line in ("GET /a%2fb;c//d/../e%20", "POST /files/a%2Fb", "POST /files/..%2fapi%2fleads"):
        assert (await client.ask(raw(line))).status == 200
    assert [request.target for request in rig.app.requests] == [
        b"/a%2fb;c//d/../e%20", b"/files/a%2Fb", b"/files/..%2fapi%2fleads",
    ]  # fmt: skip
    caplog.set_level(logging.INFO, "scopegate")
    reply = await client.ask(raw("POST /%2561pi/leads"))
    assert (reply.status, reply.code, reply.get(b"connection")) == (400, "ambiguous_path", [b"close"])
    (told,) = [record for record in caplog.records if record.getMessage() == "request.ambiguous"]
    assert "rest, leads" in str(told.__dict__)
    assert len(rig.app.requests) == 3


async def test_a_path_that_can_be_read_as_two_routes_that_watch_goes_on_and_is_counted(gates: Rigs) -> None:
    routes = [route("leads", "POST /leads", "strict", mode="watch"), route("rest", "ANY /**", mode="watch")]
    rig = await gates.start(tiers=STRICT, routes=routes)
    assert (await (await rig.connect()).ask(raw("POST /leads;x"))).status == 200
    assert rig.app.requests[0].target == b"/leads;x"
    watched = {plan.name: plan.tally.watched for plan in rig.gateway.shared.rules.plans()}
    assert watched == {"leads": {}, "rest": {"ambiguous_path": 1}}


async def test_what_the_gateway_says_itself(gates: Rigs) -> None:
    rig = await gates.start(routes=[route("read", "GET /api/**")])
    client = await rig.connect()
    reply = await client.ask(raw("GET /other", "X-Request-Id: r-1"))
    assert reply.json() == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "Nothing is served here.",
        "code": "no_route", "request_id": "r-1",
    }  # fmt: skip
    assert reply.get(b"x-request-id") == [b"r-1"]
    assert reply.get(b"cache-control") == [b"no-store"]
    assert reply.get(b"x-content-type-options") == [b"nosniff"]
    page = await client.ask(raw("GET /other", "Accept: text/html,application/xhtml+xml;q=0.9"))
    assert page.get(b"content-type") == [b"text/html; charset=utf-8"]
    assert b"<h1>Not Found</h1>" in page.body
    for accept in ("application/json", "text/html, application/json", "*/*"):
        assert (await client.ask(raw("GET /other", f"Accept: {accept}"))).code == "no_route"


# ── fields, through the whole gateway ───────────────────────────────────────────────────────────────────────────────


async def test_fields_on_the_way_to_the_app(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    await client.ask(
        raw(
            "GET /x?y",
            "User-Agent: u",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Real-IP: 6.6.6.6",
            "X-Scopegate-User: root",
            "X-Middleware-Subrequest: x",
            "Connection: X-Secret",
            "X-Secret: 1",
            "Cookie: a=b",
        )
    )
    (request,) = rig.app.requests
    assert request.fields[:3] == [(b"host", b"a.example"), (b"User-Agent", b"u"), (b"Cookie", b"a=b")]
    said = dict(request.fields[3:])
    assert re.fullmatch(rb"[0-9a-f]{24}", said.pop(b"x-request-id"))
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-00", said.pop(b"traceparent"))
    assert said == {
        b"x-real-ip": b"127.0.0.1", b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"a.example", b"via": b"1.1 scopegate",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "address", "chain", "scheme"),
    [
        ([], b"127.0.0.1", b"127.0.0.1", b"http"),
        (
            ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: HTTPS"],
            b"203.0.113.9",
            b"203.0.113.9, 127.0.0.1",
            b"https",
        ),
        (["X-Forwarded-For: 6.6.6.6, 203.0.113.9"], b"203.0.113.9", b"203.0.113.9, 127.0.0.1", b"http"),
        (["X-Forwarded-For: nonsense", "X-Forwarded-Proto: https"], b"127.0.0.1", b"127.0.0.1", b"https"),
        (["X-Forwarded-Proto: https"], b"127.0.0.1", b"127.0.0.1", b"https"),
        (["X-Forwarded-Proto: https, http"], b"127.0.0.1", b"127.0.0.1", b"http"),
        (["Forwarded: for=203.0.113.9;proto=https"], b"127.0.0.1", b"127.0.0.1", b"http"),
        (
            ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: ftp"],
            b"203.0.113.9",
            b"203.0.113.9, 127.0.0.1",
            b"http",
        ),
    ],
)
async def test_a_trusted_proxy_may_tell_the_address(
    gates: Rigs, sent: list[str], address: bytes, chain: bytes, scheme: bytes
) -> None:
    rig = await gates.start(server={"trusted_proxies": ["127.0.0.0/8"]})
    await (await rig.connect()).ask(raw("GET /x", *sent))
    (request,) = rig.app.requests
    assert request.get(b"x-real-ip") == [address]
    assert request.get(b"x-forwarded-for") == [chain]
    assert request.get(b"x-forwarded-proto") == [scheme]


@pytest.mark.parametrize("line", ["GET /nowhere", "GET /%2f", "PUT /api/x"])
async def test_the_log_names_the_visitor_of_what_met_no_route(
    gates: Rigs, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    rig = await gates.start(server={"trusted_proxies": ["127.0.0.0/8"]}, routes=[route("read", "GET /api/**")])
    reply = await (await rig.connect()).ask(raw(line, "X-Forwarded-For: 203.0.113.9"))
    assert reply.status in (400, 404, 405)
    rig.gateway.shared.access.flush()
    (logged,) = [json.loads(each) for each in capsys.readouterr().err.splitlines() if '"event":"request"' in each]
    assert logged["client"] == "203.0.113.9"
    assert 0 < logged["seconds"] < 1  # finer than the loop's milliseconds


@pytest.mark.parametrize("told", ["x-forwarded-for", "forwarded", "proxy-protocol"])
async def test_who_is_not_trusted_tells_nothing(gates: Rigs, told: str) -> None:
    rig = await gates.start(server={"trusted_proxies": ["10.0.0.0/8"], "client_address": told})
    forged = ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "Forwarded: for=6.6.6.6;proto=https"]
    await (await rig.connect()).ask(raw("GET /x", *forged))
    (request,) = rig.app.requests
    assert (request.get(b"x-real-ip"), request.get(b"x-forwarded-for")) == ([b"127.0.0.1"], [b"127.0.0.1"])
    assert request.get(b"x-forwarded-proto") == [b"http"]


@pytest.mark.parametrize(
    ("sent", "address", "scheme"),
    [
        (["Forwarded: for=203.0.113.9;proto=https"], b"203.0.113.9", b"https"),
        (['Forwarded: for="[2001:db8::5]:443";proto=http'], b"2001:db8::5", b"http"),
        (["Forwarded: for=6.6.6.6;proto=https, for=203.0.113.9"], b"203.0.113.9", b"http"),
        (["Forwarded: for=_hidden;proto=https"], b"127.0.0.1", b"https"),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"], b"127.0.0.1", b"http"),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.9"], b"192.0.2.9", b"http"),
    ],
)  # fmt: skip
async def test_the_address_is_told_by_one_field_only(
    gates: Rigs, sent: list[str], address: bytes, scheme: bytes
) -> None:
    rig = await gates.start(server={"trusted_proxies": ["127.0.0.0/8"], "client_address": "forwarded"})
    await (await rig.connect()).ask(raw("GET /x", *sent))
    (request,) = rig.app.requests
    assert request.get(b"x-real-ip") == [address]
    assert request.get(b"x-forwarded-proto") == [scheme]
    assert request.get(b"forwarded") == []


async def test_fields_on_the_way_back(gates: Rigs) -> None:
    rig = await gates.start()
    rig.app.answers.append(
        body_of(
            b"ok",
            fields=b"Server: app/1\r\nX-Powered-By: Next.js\r\nset-Cookie: a=1\r\nset-Cookie: b=2\r\n"
            b"X-Request-Id: z\r\nKeep-Alive: timeout=5\r\n"
            b"Connection: X-Inner\r\nX-Inner: 1\r\nVia: 1.1 inner\r\nX-CASE: Kept\r\n",
        )
    )
    client = await rig.connect()
    reply = await client.ask(raw("GET /", "X-Request-Id: mine-1"))
    assert [name for name, _ in reply.fields] == [
        b"set-Cookie", b"set-Cookie", b"Via", b"X-CASE",
        b"x-content-type-options", b"x-frame-options", b"referrer-policy",
        b"content-length", b"date", b"x-request-id", b"via",
    ]  # fmt: skip
    assert reply.get(b"set-cookie") == [b"a=1", b"b=2"]
    assert reply.get(b"via") == [b"1.1 inner", b"1.1 scopegate"]
    assert reply.get(b"x-request-id") == [b"mine-1"]
    assert rig.app.requests[0].get(b"x-request-id") == [b"mine-1"]
    rig.app.answers.append(body_of(b"ok", fields=b"Date: Tue, 24 Nov 2020 08:00:00 GMT\r\n"))
    assert (await client.ask(raw("GET /"))).get(b"date") == [b"Tue, 24 Nov 2020 08:00:00 GMT"]
    rig.app.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
    assert (await client.ask(raw("HEAD /"))).get(b"content-length") == [b"77"]


async def test_odd_request_ids_are_replaced_and_fresh_ones_differ(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    seen = set()
    for sent in ([], ["X-Request-Id: a b"], ["X-Request-Id: a", "X-Request-Id: b"], ["X-Request-Id: " + "a" * 129]):
        (given,) = (await client.ask(raw("GET /", *sent))).get(b"x-request-id")
        assert re.fullmatch(rb"[0-9a-f]{24}", given)
        assert rig.app.requests[-1].get(b"x-request-id") == [given]
        seen.add(given)
    assert len(seen) == 4


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_ten_are_admitted_and_five_are_told_when_to_come_back(gates: Rigs) -> None:
    clock = ManualClock(1_800_000_000_000)
    rig = await gates.start(tiers=STRICT, routes=[route("leads", "POST /api/leads", "strict")], clock=clock)
    client = await rig.connect()
    replies = [await client.ask(raw("POST /api/leads")) for _ in range(15)]
    assert [reply.status for reply in replies] == [200] * 10 + [429] * 5
    assert len(rig.app.requests) == 10
    for n, reply in enumerate(replies[:10]):
        assert _limit_fields(reply) == {
            b"x-ratelimit-limit": b"10", b"x-ratelimit-remaining": b"%d" % (9 - n),
            b"x-ratelimit-reset": b"1800000010", b"ratelimit-policy": b'"strict";q=10;w=10',
            b"ratelimit": b'"strict";r=%d;t=10' % (9 - n),
        }  # fmt: skip
    for reply in replies[10:]:
        assert _limit_fields(reply) == {
            b"x-ratelimit-limit": b"10", b"x-ratelimit-remaining": b"0", b"x-ratelimit-reset": b"1800000010",
            b"ratelimit-policy": b'"strict";q=10;w=10', b"ratelimit": b'"strict";r=0;t=10', b"retry-after": b"10",
        }  # fmt: skip
        assert reply.get(b"connection") == []
    problem = replies[-1].json()
    assert (problem["code"], problem["status"], problem["type"]) == (
        "rate_limited", 429, "https://iana.org/assignments/http-problem-types#quota-exceeded",
    )  # fmt: skip
    clock.advance(9.5)
    assert (await client.ask(raw("POST /api/leads"))).get(b"retry-after") == [b"1"]
    clock.advance(0.5)
    assert (await client.ask(raw("POST /api/leads"))).status == 200


async def test_where_our_limits_hold_the_apps_own_are_not_told(gates: Rigs) -> None:
    """Two answers to "how many are left" would be none."""
    rig = await gates.start(
        tiers=STRICT, routes=[route("leads", "POST /api/leads", "strict"), route("rest", "ANY /**", "none")]
    )
    theirs = b"X-RateLimit-Limit: 999\r\nRateLimit-Policy: x\r\nRetry-After: 5\r\nX-Kept: 1\r\n"
    rig.app.default = b"HTTP/1.1 200 OK\r\n%bcontent-length: 0\r\n\r\n" % theirs
    client = await rig.connect()
    limited = await client.ask(raw("POST /api/leads"))
    assert limited.get(b"x-ratelimit-limit") == [b"10"]
    assert limited.get(b"ratelimit-policy") == [b'"strict";q=10;w=10']
    assert (limited.get(b"retry-after"), limited.get(b"x-kept")) == ([b"5"], [b"1"])
    assert (await client.ask(raw("GET /"))).get(b"x-ratelimit-limit") == [b"999"]


def _limit_fields(reply: Reply) -> dict[bytes, bytes]:
    found = [(name, value) for name, value in reply.fields if b"ratelimit" in name or name == b"retry-after"]
    assert len(found) == len(dict(found))
    return dict(found)


async def test_a_limited_visitor_with_a_browser_gets_a_page_and_head_gets_no_body(gates: Rigs) -> None:
    tiers = {"one": {"limit": "1 per 1h"}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "one")])
    client = await rig.connect()
    assert (await client.ask(raw("GET /"))).status == 200
    page = await client.ask(raw("GET /", "Accept: text/html"))
    assert (page.status, page.get(b"content-type")) == (429, [b"text/html; charset=utf-8"])
    assert b"Too many requests. Try again in 3600 seconds." in page.body
    head = await client.ask(raw("HEAD /"))
    assert (head.status, head.body) == (429, b"")
    assert int(head.get(b"content-length")[0]) > 0
    assert (await client.ask(raw("GET /"))).status == 429
    body = await client.ask(post("/", b"abc"))
    assert (body.status, body.get(b"connection")) == (429, [b"close"])
    assert await client.ends() == b""


async def test_two_windows_hold_together_and_the_tighter_one_is_shown(gates: Rigs) -> None:
    tiers = {"both": {"limit": ["2 per 1s", "3 per 1h"]}}
    clock = ManualClock(1_800_000_000_000)
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "both")], clock=clock)
    client = await rig.connect()
    first = await client.ask(raw("GET /"))
    assert first.get(b"ratelimit-policy") == [b'"both";q=2;w=1, "both/2";q=3;w=3600']
    assert first.get(b"ratelimit") == [b'"both";r=1;t=1, "both/2";r=2;t=3600']
    assert first.get(b"x-ratelimit-limit") == [b"2"]
    await client.ask(raw("GET /"))
    assert (await client.ask(raw("GET /"))).status == 429
    clock.advance(1.0)
    third = await client.ask(raw("GET /"))
    assert (third.status, third.get(b"x-ratelimit-limit"), third.get(b"x-ratelimit-remaining")) == (200, [b"3"], [b"0"])
    clock.advance(1.0)
    assert (await client.ask(raw("GET /"))).get(b"retry-after") == [b"3598"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_when_to_come_back_is_when_there_is_more(gates: Rigs, method: str) -> None:
    """`t` is not the time until the window is empty, and Retry-After is not before it."""
    clock = ManualClock(1_800_000_000_000)
    tiers = {"three": {"limit": "3 per 5s"}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "three")], clock=clock)
    client = await rig.connect()
    told = []
    for gap_s in (0.0, 2.0, 2.0, 0.1):
        clock.advance(gap_s)
        reply = await client.ask(raw(f"{method} /"))
        told.append([reply.status, *(reply.get(name) for name in (b"ratelimit", b"retry-after", b"x-ratelimit-reset"))])
    assert told == [
        [200, [b'"three";r=2;t=5'], [], [b"1800000005"]],
        [200, [b'"three";r=1;t=3'], [], [b"1800000007"]],
        [200, [b'"three";r=0;t=1'], [], [b"1800000009"]],
        [429, [b'"three";r=0;t=1'], [b"1"], [b"1800000009"]],
    ]


async def test_who_waits_as_told_is_admitted_and_a_second_earlier_is_not(gates: Rigs) -> None:
    clock = ManualClock(1_800_000_000_000)
    tiers = {"two": {"limit": ["2 per 10s", "3 per 1m"]}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "two")], clock=clock)
    client = await rig.connect()
    admitted = 0
    for _ in range(12):
        clock.advance(0.3)
        reply = await client.ask(raw("GET /"))
        if reply.status == 200:
            admitted += 1
            continue
        (wait,) = reply.get(b"retry-after")
        used_up = [
            item.split(";")[0].strip('"') for item in reply.get(b"ratelimit")[0].decode().split(", ") if ";r=0;" in item
        ]
        assert reply.json()["violated-policies"] == used_up
        clock.advance(int(wait) - 1)
        assert (await client.ask(raw("GET /"))).status == 429
        clock.advance(1)
        assert (await client.ask(raw("GET /"))).status == 200
    assert admitted >= 3


async def test_routes_of_one_tier_share_it(gates: Rigs) -> None:
    tiers = {"two": {"limit": "2 per 1h"}}
    routes = [route("a", "GET /a", "two"), route("b", "GET /b", "two"), route("c", "GET /c")]
    rig = await gates.start(tiers=tiers, routes=routes)
    client = await rig.connect()
    statuses = [(await client.ask(raw(f"GET /{path}"))).status for path in ("a", "b", "a", "b", "c")]
    assert statuses == [200, 200, 429, 429, 200]
    assert _limit_fields(await client.ask(raw("GET /c"))) == {}


async def test_watch_mode_counts_and_never_refuses(gates: Rigs) -> None:
    tiers = {"one": {"limit": "1 per 1h"}}
    watched = route(
        "all", "ANY /**", "one", mode="watch", body={"max": "2B", "types": ["text/plain"]}, auth="who",
    )  # fmt: skip
    rig = await gates.start(tiers=tiers, routes=[watched], auth=AUTH)
    client = await rig.connect()
    for _ in range(3):
        reply = await client.ask(post("/", b"abc", "Content-Type: image/png"))
        assert reply.status == 200
    assert _limit_fields(reply) == {}
    (plan,) = rig.gateway.shared.rules.plans()
    assert plan.tally.limited in ({}, {("one", "would_limit"): 2})
    assert len(rig.app.requests) == 3


async def test_a_global_tier_counts_everybody_together(gates: Rigs) -> None:
    tiers = {"all": {"limit": "1 per 1h", "key": "global"}}
    rig = await gates.start(
        tiers=tiers, routes=[route("all", "ANY /**", "all")], server={"trusted_proxies": ["127.0.0.1/32"]}
    )
    client = await rig.connect()
    statuses = [(await client.ask(raw("GET /", f"X-Forwarded-For: 203.0.113.{n}"))).status for n in range(2)]
    assert statuses == [200, 429]


WATCHED = {"wide": {"limit": "3 per 1h"}, "narrow": {"limit": "1 per 1h", "mode": "watch"}}


@pytest.mark.parametrize("late", [False, True])
async def test_a_watched_tier_counts_what_the_others_let_pass_and_refuses_nobody(gates: Rigs, late: bool) -> None:
    store = LateStore() if late else None
    rig = await gates.start(tiers=WATCHED, routes=[route("all", "ANY /**", ["wide", "narrow"])], store=store)
    client = await rig.connect()
    replies = [await client.ask(raw("GET /")) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert [reply.get(b"ratelimit-policy") for reply in replies] == [[b'"wide";q=3;w=3600']] * 4
    tally = next(rig.gateway.shared.rules.plans()).tally
    assert tally.decisions == {"admitted": 3}
    assert tally.limited == {("narrow", "admitted"): 1, ("narrow", "would_limit"): 2, ("wide", "limited"): 1}


async def test_a_route_whose_tiers_are_all_watched_limits_nobody(gates: Rigs) -> None:
    tiers = {"narrow": WATCHED["narrow"]}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "narrow")])
    client = await rig.connect()
    replies = [await client.ask(raw("GET /")) for _ in range(3)]
    assert [(reply.status, _limit_fields(reply)) for reply in replies] == [(200, {})] * 3
    tally = next(rig.gateway.shared.rules.plans()).tally
    assert tally.limited == {("narrow", "admitted"): 1, ("narrow", "would_limit"): 2}


async def test_a_server_that_watches_refuses_on_no_route(gates: Rigs) -> None:
    rig = await gates.start(
        server={"mode": "watch"},
        tiers={"one": {"limit": "1 per 1h"}},
        auth=AUTH,
        routes=[route("area", "ANY /area/**", auth="who"), route("all", "ANY /**", "one")],
    )
    client = await rig.connect()
    statuses = [(await client.ask(raw(f"GET {path}"))).status for path in ("/", "/", "/area")]
    assert statuses == [200, 200, 200]
    area, every = rig.gateway.shared.rules.plans()
    assert (area.tally.watched, area.tally.refusals) == ({"unauthenticated": 1}, {})
    assert every.tally.limited == {("one", "would_limit"): 1}


# ── a store that fails ──────────────────────────────────────────────────────────────────────────────────────────────


class LateStore:
    """Counts in memory, answers by a future a moment later, and fails while `down`: that it says when it is met."""

    def __init__(self) -> None:
        self._limits = MemoryLimits(SystemClock())
        self.down = False
        self.asked = 0
        self.closed = False
        self.hold: asyncio.Event | None = None
        self.told: Callable[[StoreUnavailable | None], None]

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        self.told = told

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> asyncio.Future[Spent]:
        self.asked += 1
        return asyncio.ensure_future(self._late(windows))

    async def _late(self, windows: Sequence[Window]) -> Spent:
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            error = StoreUnavailable("timeout", "for the test")
            self.told(error)
            raise error
        return self._limits.spend(windows)

    def amend(self, changes: Sequence[Amendment]) -> None:
        self._limits.amend(changes)

    async def open(self) -> None:
        """Open as it is."""

    def leave(self, seats: Sequence[Seats]) -> None:
        raise AssertionError("nobody has a seat")

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("choice", "statuses", "limits"),
    [("local", [200, 429, 429], [b"0", b"0", b"0"]), ("allow", [200, 200, 200], []), ("deny", [503, 503, 503], [])],
)
async def test_while_the_store_is_down_the_tier_says_what_happens(
    gates: Rigs, choice: str, statuses: list[int], limits: list[bytes]
) -> None:
    store = LateStore()
    tiers = {"two": {"limit": "2 per 1h", "on_store_error": choice}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "two")], store=store)
    client = await rig.connect()
    assert (await client.ask(raw("GET /"))).get(b"x-ratelimit-remaining") == [b"1"]
    store.down = True
    replies = [await client.ask(raw("GET /")) for _ in range(3)]
    assert [reply.status for reply in replies] == statuses
    assert [value for reply in replies for value in reply.get(b"x-ratelimit-remaining")] == limits
    assert [reply.get(b"x-ratelimit-store-error") for reply in replies] == [[choice.encode()]] * 3
    assert store.asked == 2  # the failure is met once, then the store is left alone
    if choice == "deny":
        assert (replies[0].code, replies[0].get(b"retry-after")) == ("limit_store_down", [b"2"])


async def test_deny_refuses_nobody_in_watch_mode(gates: Rigs) -> None:
    store = LateStore()
    store.down = True
    tiers = {"two": {"limit": "2 per 1h", "on_store_error": "deny"}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "two", mode="watch")], store=store)
    client = await rig.connect()
    assert [(await client.ask(raw("GET /"))).status for _ in range(2)] == [200, 200]


async def test_a_store_that_is_back_counts_again(gates: Rigs) -> None:
    store = LateStore()
    tiers = {"two": {"limit": "2 per 1h", "on_store_error": "allow"}}
    rig = await gates.start(tiers=tiers, routes=[route("all", "ANY /**", "two")], store=store)
    client = await rig.connect()
    store.down = True
    assert _limit_fields(await client.ask(raw("GET /"))) == {b"x-ratelimit-store-error": b"allow"}
    store.down = False
    assert _limit_fields(await client.ask(raw("GET /"))) == {b"x-ratelimit-store-error": b"allow"}
    store.told(None)
    assert (await client.ask(raw("GET /"))).get(b"x-ratelimit-remaining") == [b"1"]


async def test_a_body_that_comes_while_the_store_thinks_is_kept(gates: Rigs) -> None:
    store = LateStore()
    store.hold = asyncio.Event()
    rig = await gates.start(tiers=STRICT, routes=[route("all", "ANY /**", "strict")], store=store)
    client = await rig.connect()
    await client.send_slowly(post("/", b"x" * 200_000)[:100], b"x" * 50)
    rest = post("/", b"x" * 200_000)[100:-50]
    client.send(rest)
    await asyncio.sleep(0.02)
    store.hold.set()
    assert (await client.answer()).status == 200
    assert rig.app.requests[0].body == b"x" * 200_000


async def test_a_client_that_leaves_while_the_store_thinks_is_forgotten(gates: Rigs) -> None:
    store = LateStore()
    store.hold = asyncio.Event()
    rig = await gates.start(tiers=STRICT, routes=[route("all", "ANY /**", "strict")], store=store)
    client = await rig.connect()
    client.send(raw("GET /"))
    await eventually(lambda: store.asked == 1)
    await client.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    store.hold.set()
    await asyncio.sleep(0.01)
    assert rig.app.requests == []


class BrokenStore:
    """A bug in a store: not an outage, and no reason to hang."""

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        """It never goes away."""

    async def open(self) -> None:
        """Open as it is."""

    def spend(self, windows: Sequence[Window]) -> Spent:
        raise ZeroDivisionError

    async def close(self) -> None:
        """Nothing to close."""


class LateBrokenStore(BrokenStore):
    def spend(self, windows: Sequence[Window]) -> asyncio.Future[Spent]:  # type: ignore[override]
        future: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
        future.set_exception(ZeroDivisionError())
        return future


@pytest.mark.parametrize("store", [BrokenStore, LateBrokenStore])
async def test_a_bug_is_500_and_told_to_the_log(gates: Rigs, store: type[Any]) -> None:
    rig = await gates.start(tiers=STRICT, routes=[route("all", "ANY /**", "strict")], store=store())
    lines = Lines()
    logging.getLogger("scopegate").addHandler(lines)
    try:
        client = await rig.connect()
        reply = await client.ask(raw("GET /", "X-Request-Id: r-9"))
    finally:
        logging.getLogger("scopegate").removeHandler(lines)
    assert (reply.status, reply.code, reply.get(b"connection")) == (500, "internal", [b"close"])
    assert await client.ends() == b""
    assert "request.bug" in {record.getMessage() for record in lines.records}


# ── sign-in ─────────────────────────────────────────────────────────────────────────────────────────────────────────

AUTH = {"who": {"jwt": {"secret": "${JWT_SECRET}", "cookie": "session"}, "require": {"role": "contractor"}}}


def token(**claims: Any) -> str:
    payload = {"sub": "user-1", "exp": 4_000_000_000, "role": "contractor", **claims}
    return jwt.encode(payload, JWT_SECRET, algorithm="HS256")


async def test_only_the_signed_in_pass_and_the_app_is_told_who_they_are(gates: Rigs) -> None:
    rig = await gates.start(auth=AUTH, routes=[route("area", "ANY /area/**", auth="who"), route("all", "ANY /**")])
    client = await rig.connect()
    none = await client.ask(raw("GET /area"))
    assert (none.status, none.code) == (401, "unauthenticated")
    assert none.get(b"www-authenticate") == [b"Bearer"]
    stranger = await client.ask(
        raw("GET /area", "Authorization: Bearer " + jwt.encode({"sub": "x"}, "k" * 32, "HS256"))
    )
    assert stranger.status == 401
    assert (await client.ask(raw("GET /area", f"Authorization: Bearer {token(role='visitor')}"))).status == 403
    assert rig.app.requests == []
    for field in (f"Authorization: Bearer {token()}", f"Cookie: a=b; session={token()}"):
        assert (
            await client.ask(raw("GET /area", field, "X-Scopegate-User: root", "x-scopegate-claims: {}"))
        ).status == 200
        request = rig.app.requests[-1]
        assert request.get(b"x-scopegate-user") == [b"user-1"]
        assert [json.loads(value) for value in request.get(b"x-scopegate-claims")] == [{"role": "contractor"}]
    assert (await client.ask(raw("GET /", "X-Scopegate-User: root", f"Authorization: Bearer {token()}"))).status == 200
    assert rig.app.requests[-1].get(b"x-scopegate-user") == []


async def test_a_name_beyond_ascii_cannot_break_a_line(gates: Rigs) -> None:
    rig = await gates.start(auth=AUTH, routes=[route("all", "ANY /**", auth="who")])
    client = await rig.connect()
    given = token(sub="Zoë %\u2603", note="Grüße\u2028")
    assert (await client.ask(raw("GET /", f"Authorization: Bearer {given}"))).status in (200, 401)
    given = token(sub="Zoë %\u2603", note="Grüße")
    assert (await client.ask(raw("GET /", f"Authorization: Bearer {given}"))).status == 200
    request = rig.app.requests[-1]
    assert request.get(b"x-scopegate-user") == [b"Zo%C3%AB%20%25%E2%98%83"]
    assert json.loads(request.get(b"x-scopegate-claims")[0])["note"] == "Grüße"


async def test_a_user_tier_counts_users_and_strangers_by_address(gates: Rigs) -> None:
    tiers = {"one": {"limit": "1 per 1h", "key": "user"}}
    routes = [route("area", "ANY /area", "one", auth="who"), route("all", "ANY /**", "one")]
    rig = await gates.start(auth=AUTH, tiers=tiers, routes=routes)
    client = await rig.connect()
    mine, theirs = token(), token(sub="user-2")
    asked = [raw("GET /area", f"Authorization: Bearer {each}") for each in (mine, theirs, mine, theirs)]
    assert [(await client.ask(each)).status for each in asked] == [200, 200, 429, 429]
    assert [(await client.ask(raw("GET /"))).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("key", ["user", "client_ip"])
async def test_whoever_tries_tokens_is_counted_by_address(gates: Rigs, key: str) -> None:
    rig = await gates.start(
        auth=AUTH,
        tiers={"two": {"limit": "2 per 1h", "key": key}},
        routes=[route("area", "ANY /**", "two", auth="who")],
    )
    client = await rig.connect()
    tried = [raw("GET /"), raw("GET /", "Authorization: Bearer a.b.c"), raw("GET /", "Cookie: session=a.b.c")]
    assert [(await client.ask(each)).status for each in tried] == [401, 401, 429]
    signed_in = await client.ask(raw("GET /", f"Authorization: Bearer {token()}"))
    assert signed_in.status == (200 if key == "user" else 429)
    assert len(rig.app.requests) == (1 if key == "user" else 0)


async def test_two_issuers_may_know_two_people_by_one_name(gates: Rigs) -> None:
    rig = await gates.start(
        auth={"one": AUTH["who"], "two": deepcopy(AUTH["who"])},
        tiers={"once": {"limit": "1 per 1h", "key": "user"}},
        routes=[route("one", "ANY /one", "once", auth="one"), route("two", "ANY /two", "once", auth="two")],
    )
    client = await rig.connect()
    asked = [raw(f"GET {path}", f"Authorization: Bearer {token()}") for path in ("/one", "/two", "/one", "/two")]
    assert [(await client.ask(each)).status for each in asked] == [200, 200, 429, 429]


async def test_an_identity_that_takes_a_while_is_waited_for(gates: Rigs) -> None:
    """Keys are fetched: the answer is not known at once. Here their address answers nothing of use."""
    keys = App()
    keys.default = Answer([0.02, body_of(b"not keys")], early=True)
    keys.faults = IgnoredFaults()
    await keys.start()
    rig = await gates.start(
        auth={"who": {"jwt": {"jwks": f"{keys.url}/keys"}}}, routes=[route("all", "ANY /**", auth="who")]
    )
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signed = jwt.encode({"sub": "x", "exp": 4_000_000_000}, key, algorithm="RS256", headers={"kid": "1"})
    reply = await (await rig.connect()).ask(raw("GET /", f"Authorization: Bearer {signed}"))
    assert reply.status == 503
    assert (keys.began, rig.app.requests) == (1, [])
    await keys.stop()


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL = [
    route("small", "POST /small", body={"max": "8B"}),
    route("typed", "POST /typed", body={"types": ["application/json"]}),
]


async def test_a_body_over_its_routes_limit_never_reaches_the_app(gates: Rigs) -> None:
    rig = await gates.start(routes=SMALL)
    for body in (
        post("/small", b"123456789"),
        raw("POST /small", "Content-Length: 900", body=b"1"),
        raw("POST /small", "Transfer-Encoding: chunked", body=b"9\r\n123456789\r\n0\r\n\r\n"),
        raw("POST /small", "Transfer-Encoding: chunked", body=b"5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n"),
        raw("POST /small", "Transfer-Encoding: chunked", body=b"ffffffff\r\n123456789"),
    ):
        client = await rig.connect()
        reply = await client.ask(body)
        assert (reply.status, reply.code, reply.get(b"connection")) == (413, "body_too_large", [b"close"])
        assert await client.ends() == b""
    assert rig.app.began == 0
    client = await rig.connect()
    assert (await client.ask(post("/small", b"12345678"))).status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (["Content-Type: application/json"], 200),
        (["content-type: Application/JSON; charset=utf-8"], 200),
        (["Content-Type: application/json;"], 200),
        ([], 415),
        (["Content-Type: text/plain"], 415),
        (["Content-Type: application/jsonp"], 415),
        (["Content-Type: application/json, text/plain"], 415),
        (["Content-Type: application/json", "Content-Type: text/plain"], 415),
        (["Content-Type: \xe9"], 415),
    ],
)
async def test_only_the_named_types_pass(gates: Rigs, sent: list[str], status: int) -> None:
    rig = await gates.start(routes=SMALL)
    client = await rig.connect()
    assert (await client.ask(post("/typed", b"{}", *sent))).status == status
    assert len(rig.app.requests) == (status == 200)
    if status == 415:
        assert await client.ends() == b""


async def test_no_body_needs_no_type(gates: Rigs) -> None:
    rig = await gates.start(routes=SMALL)
    assert (await (await rig.connect()).ask(raw("POST /typed"))).status == 200


async def test_a_large_chunked_body_is_streamed_and_cut_when_it_grows_too_large(gates: Rigs) -> None:
    rig = await gates.start(limits={"body": "3MiB"})
    mib = b"100000\r\n" + b"x" * 1024 * 1024 + b"\r\n"
    client = await rig.connect()
    client.send(raw("POST /", "Transfer-Encoding: chunked") + mib * 3)
    await rig.app.until(lambda: rig.app.began == 1)
    assert rig.gateway.shared.held.bytes == 0
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert (rig.app.requests[0].framing, rig.app.requests[0].body_bytes) == ("chunked", 3 * 1024 * 1024)
    client.send(raw("POST /", "Transfer-Encoding: chunked") + mib * 2)
    await rig.app.until(lambda: rig.app.began == 2)
    client.send(mib + b"1\r\nx\r\n0\r\n\r\n")
    assert (await client.answer()).status == 413
    assert len(rig.app.requests) == 1


async def test_bodies_held_for_all_together_are_bounded(gates: Rigs) -> None:
    rig = await gates.start()
    rig.gateway.shared.held.most_bytes = 1000
    client = await rig.connect()
    client.send(raw("POST /", "Transfer-Encoding: chunked") + b"400\r\n" + b"x" * 1024)
    await rig.app.until(lambda: rig.app.began == 1)
    client.send(b"\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert rig.app.requests[0].framing == "chunked"


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stop_lets_the_answer_under_way_be_whole(gates: Rigs) -> None:
    rig = await gates.start(timeouts={"drain": "60s"})
    wait = asyncio.Event()
    rig.app.answers.append(Answer([wait, body_of(b"x" * 300_000)]))
    busy, idle, half = await rig.connect(), await rig.connect(), await rig.connect()
    half.send(b"GET / HT")
    busy.send(raw("GET /"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    rig.stop.set()
    await eventually(lambda: rig.gateway.shared.draining)
    with pytest.raises(OSError):
        await Client.connect(rig.port)
    assert await idle.ends() == b""
    assert (await half.answer()).status == 408
    wait.set()
    reply = await busy.answer()
    assert (len(reply.body), reply.get(b"connection")) == (300_000, [b"close"])
    assert await busy.ends() == b""


async def test_a_request_on_its_way_when_a_stop_begins_is_answered(gates: Rigs) -> None:
    rig = await gates.start(timeouts={"drain": "4s"})
    wait = asyncio.Event()
    rig.app.answers.extend([OK, OK, Answer([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", wait, b"k"])])
    quiet, again, begun = await rig.connect(), await rig.connect(), await rig.connect()
    assert (await quiet.ask(raw("GET /"))).get(b"connection") == []
    assert (await again.ask(raw("GET /"))).get(b"connection") == []
    begun.send(raw("GET /"))
    await rig.app.until(lambda: len(rig.app.requests) == 3)
    rig.stop.set()
    await eventually(lambda: rig.gateway.shared.draining)
    reply = await again.ask(raw("GET /again"))
    assert (reply.status, reply.get(b"connection")) == (200, [b"close"])
    assert await again.ends() == b""
    wait.set()
    assert (await begun.answer()).get(b"connection") == []  # its head was sent before anybody wished to stop
    reply = await begun.ask(raw("GET /begun"))
    assert (reply.status, reply.get(b"connection")) == (200, [b"close"])
    assert await quiet.ends() == b""
    assert rig.gateway.shared.in_flight == 0


async def test_a_refusal_during_a_stop_ends_the_connection_too(gates: Rigs) -> None:
    rig = await gates.start(upstream={"response": "300ms"})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    client.send(raw("GET /") + raw("GET /"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    rig.stop.set()
    reply = await client.answer()
    assert (reply.status, reply.get(b"connection")) == (504, [b"close"])
    assert await client.ends() == b""
    assert len(rig.app.requests) == 1


async def test_what_outlives_the_drain_time_is_broken(gates: Rigs) -> None:
    rig = await gates.start(timeouts={"drain": "1s"})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    client.send(raw("GET /"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    rig.stop.set()
    with pytest.raises(Exception, match="broken"):
        await client.answer()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)


# ── hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_route_is_met_by_its_hosts_alone(gates: Rigs) -> None:
    async with App() as other:
        rig = await gates.start(
            upstreams={"web": {"servers": ["http://127.0.0.1:1"]}, "shop": {"servers": [other.url]}},
            routes=[
                {"hosts": ["shop.example", "*.shop.example"], "routes": [route("s", "ANY /**", upstream="shop")]},
                route("p", "POST /only", hosts="app.example", upstream="shop"),
            ],
        )
        client = await rig.connect()

        async def ask(host: str, line: str = "GET /x") -> int:
            return (await client.ask(f"{line} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())).status

        asked = ("shop.example", "SHOP.example:8080", "a.b.shop.example", "app.example", "example")
        assert [await ask(host) for host in asked] == [200, 200, 200, 404, 404]
        assert [await ask(host, "GET /only") for host in ("app.example", "shop.example")] == [405, 200]
        assert len(other.requests) == 4
