"""Fields that are the same as in the request, or the answer, before: they are not read again, and it makes no
difference but in time."""

from __future__ import annotations

from typing import Any

import pytest

from scopegate.gateway.section import MAX_KEPT_BYTES
from tests.gateway.app import App, body_of
from tests.gateway.client import BrokenTransferError, Client, Reply
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, policy_of

pytestmark = ON_ONE_LOOP

USUAL = HOST + b"User-Agent: x/1\r\nAccept: */*\r\nCookie: a=1\r\n\r\n"
FIRST = b"GET /first HTTP/1.1\r\n" + USUAL


async def warmed(rig: Rig) -> Client:
    """A connection on which the usual fields are known."""
    client = await rig.connect()
    assert (await client.ask(FIRST)).status == 200
    return client


async def test_repeated_fields_reach_the_app_as_the_first_did(gates: Rigs) -> None:
    rig = await gates.start()
    client = await warmed(rig)
    for _ in range(3):
        assert (await client.ask(FIRST)).status == 200
    ours = (b"x-request-id", b"traceparent")
    seen = [[field for field in request.fields if field[0] not in ours] for request in rig.app.requests]
    assert seen == [seen[0]] * 4
    for name in ours:
        assert len({request.get(name)[0] for request in rig.app.requests}) == 4


LINES = [
    b"GET /a HTTP/1.1", b"GET /%61 HTTP/1.1", b"GET /a/../b?c HTTP/1.1", b"HEAD /a HTTP/1.1", b"OPTIONS /a HTTP/1.1",
    b"QUERY /a HTTP/1.1", b"POST /a HTTP/1.1", b"get /a HTTP/1.1", b"FOO /a HTTP/1.1", b"GET /a HTTP/1.0",
    b"GET /a HTTP/2.0", b"GET /a HTTP/1.1 ", b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1", b" GET /a HTTP/1.1",
    b"GET\t/a HTTP/1.1", b"GET /a#f HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /\xe9 HTTP/1.1",
    b"GET /a\rb HTTP/1.1", b"GET /a\nX: y HTTP/1.1", b"GET http://a.example/a HTTP/1.1",
    b"GET http://b.example/a HTTP/1.1", b"GET a HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /a",
    b"GET /a HTTP/1.11", b"GET /a http/1.1", b"CONNECT a.example:80 HTTP/1.1", b"TRACE /a HTTP/1.1",
    b"GET /%2e%2e%2f HTTP/1.1", b"GET /a;b HTTP/1.1", b"GET /a\\b HTTP/1.1", b"GET /" + b"a" * 9000 + b" HTTP/1.1",
]  # fmt: skip


async def told(client: Client, line: bytes) -> tuple[int, bytes, list[bytes]] | bytes:
    try:
        reply = await client.ask(line + b"\r\n" + USUAL)
    except BrokenTransferError as broken:
        return broken.got
    return reply.status, b"" if reply.status < 400 else reply.code.encode(), reply.get(b"connection")


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:32]))
async def test_a_request_line_meets_the_same_behind_known_fields(gates: Rigs, line: bytes) -> None:
    rig = await gates.start(app=App())
    client = await warmed(rig)
    rig.app.requests.clear()
    known = await told(client, line)
    seen = [(request.method, request.target) for request in rig.app.requests]
    rig.app.requests.clear()
    fresh = await told(await rig.connect(), line)
    assert (known, seen) == (fresh, [(request.method, request.target) for request in rig.app.requests])


CHANGED = {
    "a letter": (USUAL.replace(b"a=1", b"a=2"), 200),
    "one field more": (USUAL[:-2] + b"X: y\r\n\r\n", 200),
    "one field less": (USUAL.replace(b"Cookie: a=1\r\n", b""), 200),
    "a body": (USUAL[:-2] + b"Content-Length: 2\r\n\r\nok", 200),
    "no Host": (USUAL.replace(HOST, b""), 400),
    "two framings": (USUAL[:-2] + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a folded line": (USUAL[:-2] + b" y\r\n\r\n", 400),
    "a space before the colon": (USUAL.replace(b"Cookie:", b"Cookie :"), 400),
}


@pytest.mark.parametrize(("fields", "status"), CHANGED.values(), ids=CHANGED)
async def test_changed_fields_are_read(gates: Rigs, fields: bytes, status: int) -> None:
    rig = await gates.start()
    client = await warmed(rig)
    assert (await client.ask(b"POST /x HTTP/1.1\r\n" + fields)).status == status
    if status == 200:
        sent, added = fields.partition(b"\r\n\r\n")[::2]
        assert rig.app.requests[-1].body == added
        for line in sent.split(b"\r\n")[1:]:
            name, _, value = line.partition(b": ")
            assert rig.app.requests[-1].get(name.lower()) == [value]


async def test_a_body_and_its_length_may_repeat(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    post = b"POST /x HTTP/1.1\r\n" + USUAL[:-2] + b"Content-Length: 3\r\n\r\n"
    chunked = b"POST /x HTTP/1.1\r\n" + USUAL[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    for body in (b"abc", b"def", b"ghi"):
        assert (await client.ask(post + body)).status == 200
    for body in (b"abc", b"de", b""):
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        assert (await client.ask(chunked + chunk + b"0\r\n\r\n")).status == 200
    assert [request.body for request in rig.app.requests] == [b"abc", b"def", b"ghi", b"abc", b"de", b""]


async def test_long_sections_are_not_kept(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    padding = b"X-Pad: " + b"a" * MAX_KEPT_BYTES + b"\r\n\r\n"
    for _ in range(2):
        assert (await client.ask(b"GET / HTTP/1.1\r\n" + USUAL[:-2] + padding)).status == 200
        (connection,) = rig.connections
        assert connection.heads._section_bytes == b""


async def test_another_policy_reads_them_anew(gates: Rigs) -> None:
    """A proxy that was trusted when the fields came first is so no more."""
    rig = await gates.start(server={"trusted_proxies": ["127.0.0.1/32"]})
    client = await rig.connect()
    request = b"GET / HTTP/1.1\r\n" + USUAL[:-2] + b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
    await client.ask(request)
    await client.ask(request)
    await rig.gateway.adopt(policy_of([rig.app.url]))
    await client.ask(request)
    assert [r.get(b"x-real-ip") for r in rig.app.requests] == [[b"203.0.113.9"], [b"203.0.113.9"], [b"127.0.0.1"]]


async def test_the_limit_counts_every_one_of_them(gates: Rigs) -> None:
    rig = await gates.start(
        tiers={"few": {"limit": "3 per 1m"}, "many": {"limit": "5 per 1m"}},
        routes=[
            {"name": "few", "match": "GET /few", "tier": "few"},
            {"name": "many", "match": "GET /many", "tier": "many"},
        ],
    )
    client = await rig.connect()
    asked = [b"/few", b"/many"] * 4 + [b"/many"] * 2
    statuses = [(await client.ask(b"GET %b HTTP/1.1\r\n%b" % (path, USUAL))).status for path in asked]
    assert statuses == [200] * 6 + [429, 200, 200, 429]


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SAME = b"Content-Type: text/plain\r\nX-Frame-Options: ALLOWALL\r\nX-RateLimit-Limit: 7\r\n"


def routes() -> dict[str, Any]:
    return {
        "tiers": {"wide": {"limit": "100 per 1m"}},
        "headers": {"firm": {"frame": "deny", "override": True}},
        "cors": {"shop": {"origins": ["https://shop.example", "https://other.example"], "methods": ["GET"]}},
        "routes": [
            {"name": "firm", "match": "ANY /firm", "tier": "wide", "headers": "firm"},
            {"name": "shop", "match": "ANY /shop", "tier": "none", "cors": "shop", "headers": "none"},
            {"name": "rest", "match": "ANY /**", "tier": "none"},
        ],
    }


def said(reply: Reply, name: bytes) -> bytes:
    return b", ".join(reply.get(name))


async def test_the_same_answer_goes_out_as_each_route_has_it(gates: Rigs) -> None:
    rig = await gates.start(**routes())
    rig.app.default = body_of(b"ok", fields=SAME)
    client = await rig.connect()
    for _ in range(2):
        firm = await client.ask(b"GET /firm HTTP/1.1\r\n" + USUAL)
        rest = await client.ask(b"GET /rest HTTP/1.1\r\n" + USUAL)
        assert (said(firm, b"x-frame-options"), said(rest, b"x-frame-options")) == (b"DENY", b"ALLOWALL")
        assert (said(firm, b"x-ratelimit-limit"), said(rest, b"x-ratelimit-limit")) == (b"100", b"7")
        for origin in (b"https://shop.example", b"https://other.example", b"https://evil.example"):
            shop = await client.ask(b"GET /shop HTTP/1.1\r\nOrigin: " + origin + b"\r\n" + USUAL)
            allowed = b"" if b"evil" in origin else origin
            assert said(shop, b"access-control-allow-origin") == allowed
        head = await client.ask(b"HEAD /rest HTTP/1.1\r\n" + USUAL)
        assert (head.body, said(head, b"content-length")) == (b"", b"2")


def chunked(word: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + SAME + b"Transfer-Encoding: chunked\r\n\r\n3\r\n%b\r\n0\r\n\r\n" % word


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n" + SAME + b"\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
ANSWERS = {
    "a length": ([body_of(b"one", fields=SAME), body_of(b"two", fields=SAME)], [b"one", b"two"]),
    "chunks": ([chunked(b"one"), chunked(b"two")], [b"one", b"two"]),
    "no content": ([NO_CONTENT, NO_CONTENT], [b"", b""]),
    "an interim answer first": ([HINTS + body_of(b"one"), body_of(b"two")], [b"one", b"two"]),
}


@pytest.mark.parametrize(("answers", "bodies"), ANSWERS.values(), ids=ANSWERS)
async def test_answers_with_the_same_head(gates: Rigs, answers: list[bytes], bodies: list[bytes]) -> None:
    rig = await gates.start()
    client = await rig.connect()
    rig.app.answers.extend(answers * 2)
    assert [(await client.ask(FIRST)).body for _ in range(4)] == bodies * 2
    assert rig.app.connections == 1


async def test_an_answer_that_goes_wrong_behind_a_known_head(gates: Rigs) -> None:
    """Its head is as it was; what follows is not, and nobody else may meet it."""
    rig = await gates.start()
    client = await rig.connect()
    rig.app.answers.extend([body_of(b"ok"), body_of(b"ok") + b"HTTP/1.1 200 OK\r\n", body_of(b"fine")])
    assert [(await client.ask(FIRST)).body for _ in range(3)] == [b"ok", b"ok", b"fine"]
    assert rig.app.connections == 2
