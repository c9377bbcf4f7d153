"""Fields across the whole gateway, in both directions: what ends here, what is ours, and what no answer may hold."""

from __future__ import annotations

import jwt
import pytest

from scopegate.edge.headers import STATUS_LINES
from tests.edge.test_headers import HOP_BY_HOP
from tests.gateway.rig import HOST, JWT_SECRET, ON_ONE_LOOP, Rigs

pytestmark = ON_ONE_LOOP

SAFE = [case for case in HOP_BY_HOP if not any(name == b"Transfer-Encoding" for name, _ in case[0])]
"""Framing is tested where bodies are."""


def lines(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)


async def test_hop_by_hop_fields_of_a_visitor_do_not_reach_the_app(gates: Rigs) -> None:
    rig = await gates.start()
    for fields, kept in SAFE:
        client = await rig.connect()
        assert (await client.ask(b"GET / HTTP/1.1\r\n" + HOST + lines(fields) + b"\r\n")).status == 200
        passed = [b"%b: %b" % field for field in rig.app.requests[-1].fields]
        assert [line for line in passed if line in lines(fields)] == kept


async def test_hop_by_hop_fields_of_the_app_do_not_reach_the_visitor(gates: Rigs) -> None:
    rig = await gates.start()
    for fields, kept in SAFE:
        client = await rig.connect()
        rig.app.answers.append(b"HTTP/1.1 200 OK\r\n" + lines(fields) + b"content-length: 0\r\n\r\n")
        reply = await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert reply.status == 200
        passed = [b"%b: %b" % field for field in reply.fields]
        assert [line for line in passed if line in lines(fields)] == kept
        assert len(reply.get(b"content-length")) == 1


async def test_what_asks_for_the_data_of_a_page_goes_on_to_page_data_alone(gates: Rigs) -> None:
    """On one connection with the same fields each time, so that what is kept of them is used."""
    rig = await gates.start()
    client = await rig.connect()
    asked = b"X-Nextjs-Data: 1\r\nx-middleware-prefetch: 1\r\nX-Middleware-Subrequest: x\r\nX_Nextjs_Data: 1\r\n"
    paths = [b"/_next/data/b/x.json", b"/x", b"/base/_next/data/b/x.json?a=b", b"/%5Fnext/data/x", b"/x?/_next/data/"]
    paths += [b"/_next/data/../../x", b"/_next/data/%2e%2e/%2e%2e/x", b"/x%3f/_next/data/", b"/x%23/_next/data/"]
    for path in paths:
        assert (await client.ask(b"GET %b HTTP/1.1\r\n" % path + HOST + asked + b"\r\n")).status == 200
    told = [(*request.get(b"x-nextjs-data"), *request.get(b"x-middleware-prefetch")) for request in rig.app.requests]
    assert told == [(b"1", b"1"), (), (b"1", b"1"), *[()] * 6]
    for request in rig.app.requests:
        assert request.get(b"x-middleware-subrequest") == request.get(b"x_nextjs_data") == []


async def test_a_token_in_the_second_of_two_cookie_fields_is_found(gates: Rigs) -> None:
    rig = await gates.start(
        auth={"who": {"jwt": {"secret": "${JWT_SECRET}", "cookie": "session"}}},
        routes=[{"name": "all", "match": "ANY /**", "tier": "none", "auth": "who"}],
    )
    token = jwt.encode({"sub": "user-1", "exp": 1 << 32}, JWT_SECRET).encode()
    reply = await (await rig.connect()).ask(
        b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: a=b\r\nCookie: session=" + token + b"\r\n\r\n"
    )
    assert reply.status == 200
    assert rig.app.requests[0].get(b"cookie") == [b"a=b; session=" + token]


async def test_an_answer_of_three_thousand_fields_is_none(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    for count, status in ((255, 200), (256, 502), (3000, 502)):
        rig.app.answers.append(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * count + b"content-length: 0\r\n\r\n")
        assert (await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")).status == status, count


ROUTES = [
    {"name": "leads", "match": "POST /leads", "tier": "none"},
    {"name": "asked", "match": "GET|OPTIONS /leads", "tier": "none"},
    {"name": "any", "match": "ANY /any", "tier": "none"},
]


@pytest.mark.parametrize(
    ("line", "forwards", "status", "told"),
    [
        (b"OPTIONS /leads", b"1", 200, b"0"),
        (b"OPTIONS /leads", b" 10", 200, b"9"),
        (b"OPTIONS /leads", b"99999999999999", 200, b"999999998"),
        (b"GET /leads", b"0", 200, b"0"),
        (b"GET /leads", b"x", 200, b"x"),
        (b"OPTIONS /leads", b"0", 204, b"GET, HEAD, POST, OPTIONS"),
        (b"OPTIONS /any", b"00", 204, b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"OPTIONS /other", b"0", 404, None),
        (b"OPTIONS /leads", b"-1", 400, None),
        (b"OPTIONS /leads", b"1\r\nMax-Forwards: 1", 400, None),
        (b"TRACE /leads", b"0", 501, None),
        (b"TRACE /leads", b"1", 501, None),
    ],
)
async def test_max_forwards_is_counted_down_on_options(
    gates: Rigs, line: bytes, forwards: bytes, status: int, told: bytes | None
) -> None:
    rig = await gates.start(routes=ROUTES)
    client = await rig.connect()
    for _ in range(2):  # the second time what the first one's fields meant is known
        reply = await client.ask(line + b" HTTP/1.1\r\n" + HOST + b"Max-Forwards: " + forwards + b"\r\n\r\n")
        assert reply.status == status
        if status >= 400:
            break
        if status == 204:
            assert reply.get(b"allow") == [told]
    assert len(rig.app.requests) == (2 if status == 200 else 0)
    assert [request.get(b"max-forwards") for request in rig.app.requests] == [[told]] * len(rig.app.requests)


ILLEGAL = [
    b"X: a\x00b", b"X: a\rb", b"X: a\nb: c", b"X: a\r\n folded", b"X: a\x01b", b"X: a\x1b[31m", b"X: a\x7f", b"X : a",
    b"X\t: a", b": a", b"X\x00: a", b"\xe9: a", b"X(y): a", b"X y: a", b"no colon", b"X: a\r\r\nY: b", b"\tX: a",
    b"X: a\x0bb", b"X: a\x0cb", b'"X": a', b"X/y: a", b"X[0]: a", b"X{: a", b"X@y: a",
]  # fmt: skip


async def test_an_answer_with_illegal_fields_is_none(gates: Rigs) -> None:
    assert len(ILLEGAL) >= 24
    rig = await gates.start()
    for line in ILLEGAL:
        client = await rig.connect()
        rig.app.answers.append(b"HTTP/1.1 200 OK\r\n" + line + b"\r\ncontent-length: 2\r\n\r\nok")
        reply = await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (reply.status, reply.code) == (502, "upstream_protocol"), line
        assert reply.get(b"x") == []


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"\xff\x80", b"a\tb", b"", b'"q", x;y=z', b"a  b"])
async def test_legal_values_pass_byte_for_byte(gates: Rigs, value: bytes) -> None:
    """obs-text is opaque data (RFC 9110 5.5): to re-encode it would change what the app said."""
    rig = await gates.start()
    client = await rig.connect()
    rig.app.answers.append(b"HTTP/1.1 200 OK\r\nX-Odd: " + value + b"\r\ncontent-length: 0\r\n\r\n")
    reply = await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"X-Odd: " + value + b"\r\n\r\n")
    assert reply.get(b"x-odd") == [value]
    assert rig.app.requests[0].get(b"x-odd") == [value]


@pytest.mark.parametrize("phrase", [b"OK", b"", b"Very \x1b[31m Bad", b"caf\xe9", b"OK\x00"])
async def test_the_reason_phrase_is_never_the_apps(gates: Rigs, phrase: bytes) -> None:
    rig = await gates.start()
    client = await rig.connect()
    rig.app.answers.append(b"HTTP/1.1 200 " + phrase + b"\r\ncontent-length: 0\r\n\r\n")
    client.send(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    head = await client.ends()
    assert head.startswith((STATUS_LINES[200], STATUS_LINES[502]))
