"""What browsers are told, through the whole gateway: security fields, CORS, errors that say who made them, traces."""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
import pytest

from tests.gateway.app import Answer, End, body_of
from tests.gateway.client import Reply
from tests.gateway.rig import HOST, JWT_SECRET, ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

SHOP = "https://shop.example"
EVIL = "https://evil.example"
STANDARD = {
    b"x-content-type-options": [b"nosniff"],
    b"x-frame-options": [b"SAMEORIGIN"],
    b"referrer-policy": [b"strict-origin-when-cross-origin"],
}
CORS = {
    "shop": {
        "origins": [SHOP],
        "methods": ["GET", "POST"],
        "headers": ["content-type"],
        "expose": ["retry-after", "ratelimit"],
        "credentials": True,
        "max_age": "5m",
    },
    "all": {"origins": ["*"]},
}
AUTH = {"who": {"jwt": {"secret": "${JWT_SECRET}"}}}


def ask(line: str, *fields: str) -> bytes:
    return f"{line} HTTP/1.1\r\n".encode() + HOST + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


def route(name: str, match: str, tier: str = "none", **more: Any) -> dict[str, Any]:
    return {"name": name, "match": match, "tier": tier, **more}


def preflight(path: str, origin: str = SHOP, method: str = "POST", *more: str) -> bytes:
    return ask(f"OPTIONS {path}", f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *more)


def cors_of(reply: Reply) -> dict[bytes, bytes]:
    return {name: value for name, value in reply.fields if name.startswith(b"access-control-")}


# ── security fields ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_route_has_the_standard_fields_unless_it_says_otherwise(gates: Rigs) -> None:
    strict = {"hsts": {"max_age": "365d"}, "csp": "default-src 'self'", "frame": "deny", "override": True}
    rig = await gates.start(
        headers={"strict": strict},
        server={"trusted_proxies": ["127.0.0.0/8"]},
        routes=[
            route("bare", "ANY /bare", headers="none"),
            route("strict", "ANY /strict", headers="strict"),
            route("all", "ANY /**"),
        ],
    )
    client = await rig.connect()
    rig.app.default = body_of(b"ok", fields=b"X-Frame-Options: ALLOWALL\r\n")
    reply = await client.ask(ask("GET /"))
    assert {name: reply.get(name) for name in STANDARD} == STANDARD | {b"x-frame-options": [b"ALLOWALL"]}
    bare = await client.ask(ask("GET /bare"))
    assert [bare.get(name) for name in STANDARD] == [[], [b"ALLOWALL"], []]
    plain = await client.ask(ask("GET /strict"))
    secure = await client.ask(ask("GET /strict", "X-Forwarded-Proto: https"))
    for reply in (plain, secure):
        assert reply.get(b"x-frame-options") == [b"DENY"]
        assert reply.get(b"content-security-policy") == [b"default-src 'self'"]
    assert plain.get(b"strict-transport-security") == []
    assert secure.get(b"strict-transport-security") == [b"max-age=31536000; includeSubDomains"]


async def test_our_own_answers_have_them_too(gates: Rigs) -> None:
    rig = await gates.start(
        auth=AUTH,
        headers={"strict": {"hsts": {"max_age": "1d"}, "csp": "default-src 'self'"}},
        server={"trusted_proxies": ["127.0.0.0/8"]},
        routes=[route("area", "ANY /area", auth="who", headers="strict")],
    )
    client = await rig.connect()
    refused = await client.ask(ask("GET /area", "X-Forwarded-Proto: https"))
    assert refused.status == 401
    assert {name: refused.get(name) for name in STANDARD} == STANDARD
    assert refused.get(b"content-security-policy") == [b"default-src 'self'"]
    assert refused.get(b"strict-transport-security") == [b"max-age=86400; includeSubDomains"]
    stray = await client.ask(ask("GET /nowhere"))
    assert stray.status == 404
    assert stray.get(b"x-content-type-options") == [b"nosniff"]
    assert stray.get(b"content-security-policy") == [b"default-src 'none'; frame-ancestors 'none'"]
    broken = await client.ask(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    assert (broken.status, broken.get(b"x-content-type-options")) == (400, [b"nosniff"])


# ── preflights ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def shop(gates: Rigs) -> Rig:
    return await gates.start(
        auth=AUTH,
        cors=CORS,
        tiers={"one": {"limit": "1 per 1h"}},
        routes=[
            route("leads", "POST /api/leads", "one", auth="who", cors="shop"),
            route("read", "GET /api/leads", cors="all"),
            route("drop", "DELETE /api/leads"),
            route("all", "ANY /**"),
        ],
    )


async def test_a_preflight_meets_the_route_of_the_method_it_asks_about(gates: Rigs) -> None:
    rig = await shop(gates)
    client = await rig.connect()
    for _ in range(3):  # no sign-in, no window spent
        reply = await client.ask(preflight("/api/leads", SHOP, "POST", "Access-Control-Request-Headers: content-type"))
        assert reply.status == 204
        assert reply.framing == "none"
        assert reply.get(b"content-length") == []
        assert reply.get(b"vary") == [b"origin, access-control-request-method, access-control-request-headers"]
        assert cors_of(reply) == {
            b"access-control-allow-origin": SHOP.encode(),
            b"access-control-allow-credentials": b"true",
            b"access-control-allow-methods": b"POST",
            b"access-control-allow-headers": b"content-type",
            b"access-control-max-age": b"300",
        }
    read = await client.ask(preflight("/api/leads", EVIL, "GET"))
    assert (read.status, cors_of(read)[b"access-control-allow-origin"]) == (204, b"*")
    assert rig.app.requests == []
    bearer = f"Authorization: Bearer {jwt.encode({'sub': 'u', 'exp': 4_000_000_000}, JWT_SECRET)}"
    lead = await client.ask(ask("POST /api/leads", f"Origin: {SHOP}", bearer, "Content-Length: 0"))
    assert lead.status == 200


async def test_the_log_names_the_visitor_of_a_preflight(gates: Rigs, capsys: pytest.CaptureFixture[str]) -> None:
    trusted = {"trusted_proxies": ["127.0.0.0/8"]}
    rig = await gates.start(server=trusted, cors=CORS, routes=[route("leads", "POST /**", cors="shop")])
    await (await rig.connect()).ask(preflight("/api/leads", SHOP, "POST", "X-Forwarded-For: 203.0.113.9"))
    rig.gateway.shared.access.flush()
    (line,) = [json.loads(each) for each in capsys.readouterr().err.splitlines() if '"event":"request"' in each]
    assert (line["client"], line["route"], line["status"], line["note"]) == ("203.0.113.9", "leads", 204, "")


@pytest.mark.parametrize(
    ("origin", "method", "fields"),
    [
        (EVIL, "POST", []),
        ("null", "POST", []),
        (SHOP, "POST", ["Access-Control-Request-Headers: authorization"]),
    ],
)
async def test_a_preflight_that_is_not_granted_says_nothing(
    gates: Rigs, origin: str, method: str, fields: list[str]
) -> None:
    rig = await shop(gates)
    reply = await (await rig.connect()).ask(preflight("/api/leads", origin, method, *fields))
    assert (reply.status, cors_of(reply), rig.app.requests) == (204, {}, [])


@pytest.mark.parametrize(
    "sent",
    [
        preflight("/api/leads", SHOP, "DELETE"),
        preflight("/other", SHOP, "POST"),
        preflight("/api/leads", SHOP, "post"),
        ask("OPTIONS /api/leads", f"Origin: {SHOP}"),
        ask("OPTIONS /api/leads", "Access-Control-Request-Method: POST"),
    ],
)
async def test_any_other_options_request_goes_its_way(gates: Rigs, sent: bytes) -> None:
    rig = await shop(gates)
    reply = await (await rig.connect()).ask(sent)
    assert (reply.status, cors_of(reply), len(rig.app.requests)) == (200, {}, 1)
    assert rig.app.requests[0].method == b"OPTIONS"


async def test_the_connection_goes_on_after_a_preflight_and_ends_after_one_with_a_body(gates: Rigs) -> None:
    rig = await shop(gates)
    client = await rig.connect()
    client.send(preflight("/api/leads") + preflight("/api/leads", EVIL) + ask("GET /x"))
    assert [(await client.answer()).status for _ in range(3)] == [204, 204, 200]
    reply = await client.ask(preflight("/api/leads", SHOP, "POST", "Content-Length: 5"))
    assert reply.get(b"connection") == [b"close"]
    assert await client.ends() == b""


# ── answers to other origins ────────────────────────────────────────────────────────────────────────────────────────


async def test_answers_and_refusals_can_be_read_by_an_allowed_page(gates: Rigs) -> None:
    rig = await gates.start(
        cors=CORS,
        tiers={"one": {"limit": "1 per 1h"}},
        routes=[route("leads", "ANY /**", "one", cors="shop")],
    )
    client = await rig.connect()
    rig.app.default = body_of(
        b"ok",
        fields=b"Access-Control-Allow-Origin: *\r\nVary: accept\r\nAccess-Control-Allow-Private-Network: true\r\n",
    )
    opened = {
        b"access-control-allow-origin": SHOP.encode(),
        b"access-control-allow-credentials": b"true",
        b"access-control-expose-headers": b"retry-after, ratelimit, ratelimit-policy, x-ratelimit-limit, "
        b"x-ratelimit-remaining, x-ratelimit-reset, x-ratelimit-store-error",
    }
    served = await client.ask(ask("GET /", f"Origin: {SHOP}"))
    assert (served.status, served.get(b"vary"), cors_of(served)) == (200, [b"accept, origin"], opened)
    limited = await client.ask(ask("GET /", f"Origin: {SHOP}"))
    assert (limited.status, limited.get(b"vary"), cors_of(limited)) == (429, [b"origin"], opened)
    other = await client.ask(ask("GET /", f"Origin: {EVIL}"))
    assert (other.status, other.get(b"vary"), cors_of(other)) == (429, [b"origin"], {})


@pytest.mark.parametrize("fields", [[], [f"Origin: {EVIL}"], ["Origin: null"], [f"Origin: {SHOP}", f"Origin: {SHOP}"]])
async def test_a_request_of_any_other_origin_is_served_and_stays_closed(gates: Rigs, fields: list[str]) -> None:
    rig = await gates.start(cors=CORS, routes=[route("leads", "ANY /**", cors="shop")])
    rig.app.default = body_of(b"ok", fields=b"Access-Control-Allow-Origin: null\r\n")
    reply = await (await rig.connect()).ask(ask("GET /", *fields))
    assert (reply.status, reply.get(b"vary"), cors_of(reply)) == (200, [b"origin"], {})


async def test_without_a_rule_the_app_speaks_for_itself(gates: Rigs) -> None:
    rig = await gates.start()
    rig.app.default = body_of(b"ok", fields=b"Access-Control-Allow-Origin: *\r\n")
    reply = await (await rig.connect()).ask(ask("GET /", f"Origin: {SHOP}"))
    assert reply.get(b"access-control-allow-origin") == [b"*"]
    assert reply.get(b"vary") == []


# ── who made this error ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_errors_that_we_make_say_so(gates: Rigs) -> None:
    rig = await gates.start(
        tiers={"one": {"limit": "1 per 1h"}}, routes=[route("one", "GET /one", "one"), route("r", "GET /**")]
    )
    client = await rig.connect()
    await client.ask(ask("GET /one"))
    rig.app.answers += [Answer([b"nonsense\r\n\r\n", End.CLOSE])]
    made = {}
    for line in ("GET /one", "PUT /", "GET /broken"):
        reply = await client.ask(ask(line))
        made[reply.code] = reply.get(b"proxy-status")
    assert made == {
        "rate_limited": [b'scopegate; error=http_request_denied; details="rate_limited"'],
        "method_not_allowed": [b'scopegate; error=http_request_error; details="method_not_allowed"'],
        "upstream_protocol": [b'scopegate; error=http_protocol_error; details="upstream_protocol"'],
    }


async def test_the_apps_own_word_passes_and_ours_is_not_added(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    rig.app.answers += [
        body_of(b"", "503 Service Unavailable", b"Proxy-Status: cdn; error=dns_error\r\n"),
        body_of(b""),
    ]
    assert (await client.ask(ask("GET /"))).get(b"proxy-status") == [b"cdn; error=dns_error"]
    assert (await client.ask(ask("GET /"))).get(b"proxy-status") == []


# ── traces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_app_always_has_one_well_formed_trace(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.ask(ask("GET /", f"Traceparent: {parent}", "Tracestate: a=1", "tracestate: b=2"))
    await client.ask(ask("GET /", f"traceparent: {parent}", f"traceparent: {parent}", "tracestate: a=1"))
    await client.ask(ask("GET /"))
    passed, replaced, fresh = rig.app.requests
    assert passed.get(b"traceparent") == [parent.encode()]
    assert passed.get(b"tracestate") == [b"a=1,b=2"]
    for request in (replaced, fresh):
        (made,) = request.get(b"traceparent")
        assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-00", made)
        assert parent.encode() != made
        assert request.get(b"tracestate") == []
    assert replaced.get(b"traceparent") != fresh.get(b"traceparent")
