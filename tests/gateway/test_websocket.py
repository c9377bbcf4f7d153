"""WebSocket connections through a real gateway: handshakes, hostile frames both ways, limits, and every end."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from scopegate.edge.frames import CloseCode
from scopegate.metrics.labels import StreamKind
from tests.edge.test_frames import BAD, MASK, close, frame
from tests.gateway.client import BrokenTransferError, Client, Reply
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually
from tests.gateway.sockets import ASK, KEY, Peer, SocketApp, accept_of, opened

pytestmark = ON_ONE_LOOP

RULE = {"connections_per_client": 100, "message": "64KiB", "idle": "5m"}
PLAIN = b"GET /plain HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest_asyncio.fixture(loop_scope="module")
async def app() -> AsyncIterator[SocketApp]:
    made = SocketApp()
    await made.start()
    yield made
    await made.stop()


async def started(gates: Rigs, app: SocketApp, route: dict[str, Any] | None = None, **policy: Any) -> Rig:
    """A gateway that lets WebSocket connections pass to /ws, and nothing of the kind elsewhere."""
    ws = {"name": "ws", "match": "GET /ws", "tier": "none", "websocket": RULE, **(route or {})}
    other = {"name": "all", "match": "ANY /**", "tier": "none"}
    return await gates.start(servers=[app.url], routes=[ws, other], **policy)


def count(rig: Rig) -> tuple[int, int]:
    """Requests in flight, WebSocket connections open."""
    return rig.gateway.shared.in_flight, rig.gateway.shared.streams.open[StreamKind.WEBSOCKET]


async def taken(client: Client, size: int) -> bytes:
    async with asyncio.timeout(5):
        return await client._take(size)


async def rest(client: Client) -> bytes:
    """Everything until the end, proper or not."""
    try:
        return await client.ends()
    except BrokenTransferError as broken:
        return broken.got


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == "request"]


async def left(rig: Rig) -> None:
    """Nothing is open any more, on either side, once the visitors have gone."""
    gate = rig.gateway
    for client in rig.clients:
        await client.close()
    await eventually(lambda: count(rig) == (0, 0) and not len(gate.shared.streams.places), lambda: count(rig))
    await eventually(lambda: not gate.connections.open and all(server.open == 0 for server in rig.servers))


# ── the handshake ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_handshake_reaches_the_app_and_its_answer_the_client(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    app.more = [b"Sec-WebSocket-Protocol: beta", b"Set-Cookie: a=b", b"X-Powered-By: x"]
    client = await rig.connect()
    client.send(
        ASK + b"Sec-WebSocket-Protocol: alpha, beta\r\nSec-WebSocket-Protocol: gamma\r\nCookie: c=d\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec_WebSocket_Extensions: permessage-deflate\r\n\r\n"
    )
    reply = await client.interim()
    assert reply.status == 101
    assert reply.get(b"sec-websocket-accept") == [accept_of(KEY)]
    assert (reply.get(b"connection"), reply.get(b"upgrade")) == ([b"upgrade"], [b"websocket"])
    assert (reply.get(b"sec-websocket-protocol"), reply.get(b"set-cookie")) == ([b"beta"], [b"a=b"])
    names = [name.lower() for name, _ in reply.fields]
    assert not {b"content-length", b"transfer-encoding", b"x-powered-by"} & set(names)
    peer = await app.peer()
    assert (peer.get(b"connection"), peer.get(b"upgrade")) == ([b"upgrade"], [b"websocket"])
    assert (peer.get(b"sec-websocket-key"), peer.get(b"sec-websocket-version")) == ([KEY], [b"13"])
    assert (peer.get(b"sec-websocket-protocol"), peer.get(b"cookie")) == ([b"alpha, beta, gamma"], [b"c=d"])
    assert not [line for line in peer.lines if b"xtensions" in line]
    assert peer.get(b"x-forwarded-for") == [b"127.0.0.1"]
    assert count(rig) == (0, 1)


async def test_frames_that_come_with_the_heads_are_not_lost(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    app.with_head = frame(0x81, b"welcome")
    client = await rig.connect()
    early = frame(0x81, b"impatient", mask=MASK)
    client.send(ASK + b"\r\n" + early)
    assert (await client.interim()).status == 101
    assert await taken(client, 9) == app.with_head
    assert await (await app.peer()).read(len(early)) == early


REFUSED = {
    "POST": (ASK.replace(b"GET", b"POST"), 400),
    "HTTP/1.0": (ASK.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "a body": (ASK + b"Content-Length: 3\r\n", 400),
    "chunks": (ASK + b"Transfer-Encoding: chunked\r\n", 400),
    "no connection": (ASK.replace(b"Connection", b"X"), 400),
    "another option": (ASK.replace(b"keep-alive, Upgrade", b"keep-alive"), 400),
    "two protocols": (ASK.replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"), 400),
    "two upgrades": (ASK + b"Upgrade: h2c\r\n", 400),
    "no key": (ASK.replace(b"Sec-WebSocket-Key", b"X-Key"), 400),
    "two keys": (ASK + b"Sec-WebSocket-Key: " + KEY + b"\r\n", 400),
    "15 bytes": (ASK.replace(KEY, b"dGhlIHNhbXBsZSBub25j"), 400),
    "17 bytes": (ASK.replace(KEY, b"dGhlIHNhbXBsZSBub25jZWU="), 400),
    "no base64": (ASK.replace(KEY, b"dGhlIHNhbXBsZSBub25jZ!=="), 400),
    "bits to spare": (ASK.replace(KEY, b"dGhlIHNhbXBsZSBub25jZR=="), 400),
    "a subprotocol twice": (ASK + b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: a\r\n", 400),
    "a subprotocol that is none": (ASK + b"Sec-WebSocket-Protocol: a b\r\n", 400),
    "an empty subprotocol": (ASK + b"Sec-WebSocket-Protocol: a,,b\r\n", 400),
    "version 8": (ASK.replace(b": 13", b": 8"), 426),
    "no version": (ASK.replace(b"Sec-WebSocket-Version", b"X"), 426),
    "two versions": (ASK + b"Sec-WebSocket-Version: 8\r\n", 426),
    "a page of another host": (ASK + b"Origin: https://evil.example\r\n", 403),
    "a page of no host": (ASK + b"Origin: null\r\n", 403),
    "a page of another port": (ASK + b"Origin: http://a.example:8080\r\n", 403),
    "a host that ends like it": (ASK + b"Origin: https://evil-a.example\r\n", 403),
    "a host that begins like it": (ASK + b"Origin: https://a.example.evil\r\n", 403),
    "two origins": (ASK + b"Origin: https://a.example\r\nOrigin: https://a.example\r\n", 403),
    "a list of origins": (ASK + b"Origin: https://a.example https://a.example\r\n", 403),
    "another kind of page": (ASK + b"Origin: ftp://a.example\r\n", 403),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steady(rigs: Rigs) -> AsyncIterator[tuple[Rig, SocketApp]]:
    made = SocketApp()
    await made.start()
    routes = [
        {"name": "ws", "match": "ANY /ws", "tier": "none", "websocket": RULE},
        {"name": "all", "match": "ANY /**", "tier": "none"},
    ]
    yield await rigs.start(servers=[made.url], routes=routes), made
    await made.stop()


async def ask(rig: Rig, data: bytes) -> Reply:
    client = await rig.connect()
    client.send(data + b"\r\n")
    reply = await client.answer("GET")
    await client.close()
    return reply


@pytest.mark.parametrize("name", REFUSED)
async def test_a_handshake_that_is_none_never_reaches_the_app(steady: tuple[Rig, SocketApp], name: str) -> None:
    (rig, app), (data, status) = steady, REFUSED[name]
    reply = await ask(rig, data)
    codes = {400: "bad_handshake", 403: "origin_not_allowed", 426: "websocket_version"}
    assert (reply.status, reply.code) == (status, codes[status])
    if status == 426:
        assert (reply.get(b"sec-websocket-version"), reply.get(b"upgrade")) == ([b"13"], [b"websocket"])
    assert app.all == []
    await left(rig)


@pytest.mark.parametrize("origin", [b"http://a.example", b"https://a.example", b"https://A.EXAMPLE:443"])
async def test_pages_of_the_same_host_may(gates: Rigs, app: SocketApp, origin: bytes) -> None:
    rig = await started(gates, app)
    await opened(await rig.connect(), app, b"Cookie: s=1\r\nOrigin: " + origin + b"\r\n")


CORS = {
    "named, with cookies": ({"origins": ["https://shop.example"], "credentials": True}, b"Cookie: s=1\r\n", True),
    "named, without": ({"origins": ["https://shop.example"]}, b"", True),
    "named, with cookies that it may not send": ({"origins": ["https://shop.example"]}, b"Cookie: s=1\r\n", False),
    "any, without cookies": ({"origins": ["*"]}, b"", True),
    "any, with cookies": ({"origins": ["*"]}, b"Cookie: s=1\r\n", False),
    "another": ({"origins": ["https://other.example"], "credentials": True}, b"", False),
}


@pytest.mark.parametrize("name", CORS)
async def test_pages_of_other_hosts_may_as_cors_allows(gates: Rigs, app: SocketApp, name: str) -> None:
    rule, more, may = CORS[name]
    rig = await started(gates, app, {"cors": "shop"}, cors={"shop": rule})
    client = await rig.connect()
    client.send(ASK + more + b"Origin: https://shop.example\r\n\r\n")
    assert (await client._answer("GET")).status == (101 if may else 403)


async def test_a_visitor_by_https_needs_a_page_by_https(gates: Rigs, app: SocketApp) -> None:
    server = {"trusted_proxies": ["127.0.0.1/32"]}
    rig = await started(gates, app, server=server)
    more = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nOrigin: "
    assert (await ask(rig, ASK + more + b"http://a.example\r\n")).code == "origin_not_allowed"
    await opened(await rig.connect(), app, more + b"https://a.example\r\n")


async def test_on_other_routes_an_upgrade_is_dropped(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    app.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    reply = await ask(rig, ASK.replace(b"/ws", b"/other"))
    assert (reply.status, reply.body) == (200, b"ok")
    peer = await app.peer()
    assert (peer.get(b"upgrade"), peer.get(b"connection")) == ([], [])


async def test_so_is_the_upgrade_to_another_protocol(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    app.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert (await ask(rig, ASK.replace(b"websocket", b"h2c"))).status == 200
    assert (await app.peer()).get(b"upgrade") == []


async def test_a_switch_on_another_route_is_no_answer(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    assert (await ask(rig, ASK.replace(b"/ws", b"/other"))).code == "upstream_protocol"


async def test_the_app_may_answer_something_else(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    app.answer = b"HTTP/1.1 403 Forbidden\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nno"
    client = await rig.connect()
    reply = await client.ask(ASK + b"\r\n")
    assert (reply.status, reply.body, reply.get(b"upgrade")) == (403, b"no", [])
    app.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert rig.gateway.shared.streams.open[StreamKind.WEBSOCKET] == 0
    assert not len(rig.gateway.shared.streams.places)


AGREEMENTS = {
    "no accept": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "a wrong accept": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_of(b"x") + b"\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Accept: " + accept_of(KEY) + b"\r\n\r\n",
}
MORE = {
    "an extension": b"Sec-WebSocket-Extensions: permessage-deflate",
    "a subprotocol nobody offered": b"Sec-WebSocket-Protocol: other",
    "two subprotocols": b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a",
    "two accepts": b"Sec-WebSocket-Accept: " + accept_of(KEY),
    "a length": b"Content-Length: 0",
}


@pytest.mark.parametrize("name", [*AGREEMENTS, *MORE])
async def test_an_agreement_that_is_none_is_no_answer(gates: Rigs, app: SocketApp, name: str) -> None:
    rig = await started(gates, app)
    app.answer = AGREEMENTS.get(name)
    app.more = [MORE[name]] if name in MORE else []
    reply = await ask(rig, ASK + b"Sec-WebSocket-Protocol: a, b\r\n")
    assert (reply.status, reply.code) == (502, "upstream_protocol")
    assert await (await app.peer()).rest() == b""
    await left(rig)


async def test_sign_in_and_tier_hold_before_a_handshake(gates: Rigs, app: SocketApp) -> None:
    tiers = {"two": {"limit": "2 per 1h", "key": "client_ip"}}
    rig = await started(gates, app, {"tier": "two"}, tiers=tiers)
    for _ in range(2):
        await opened(await rig.connect(), app)
    assert (await ask(rig, ASK)).code == "rate_limited"


# ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_messages_pass_both_ways(gates: Rigs, app: SocketApp, capsys: pytest.CaptureFixture[str]) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    up = frame(0x01, b"x" * 60_000, mask=MASK) + frame(0x89, b"?", mask=MASK) + frame(0x80, b"y", mask=MASK)
    down = frame(0x82, b"z" * 65_536) + frame(0x8A, b"?")
    client.send(up)
    peer.send(down)
    assert (await peer.read(len(up)), await taken(client, len(down))) == (up, down)
    client.send(frame(0x88, close(1000), mask=MASK))
    assert await peer.read(8) == frame(0x88, close(1000), mask=MASK)
    peer.send(frame(0x88, close(1000)))
    peer.close()
    assert await client.ends() == frame(0x88, close(1000))
    await left(rig)
    rig.gateway.shared.access.flush()
    [line] = logged(capsys)
    assert (line["status"], line["note"], line["route"]) == (101, "", "ws")
    assert (line["bytes_in"], line["bytes_out"]) == (len(up) + 8, len(down) + 4)


WRONG_MASK: tuple[list[tuple[int, bytes, bytes | None]], CloseCode] = (
    [(0x81, b"x", None)],
    CloseCode.PROTOCOL_ERROR,
)
BAD_NAMES = [name for name in BAD if name != "far too large"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "no mask"])
async def test_hostile_frames_of_a_client(steady: tuple[Rig, SocketApp], name: str) -> None:
    """The client is told what was wrong, the app that it is over; nothing wrong reaches it."""
    rig, app = steady
    frames, code = WRONG_MASK if name == "no mask" else BAD[name]
    mask = None if name == "no mask" else MASK
    made = [frame(first, payload, mask=mask, length=length) for first, payload, length in frames]
    if name.startswith("one byte more"):
        made = [frame(0x82, b"x" * 65_537, mask=MASK)]
    await hostile(rig, app, made, code, by_client=True)


@pytest.mark.parametrize("name", [*BAD_NAMES, "a mask"])
async def test_hostile_frames_of_an_app(steady: tuple[Rig, SocketApp], name: str) -> None:
    rig, app = steady
    frames, code = WRONG_MASK if name == "a mask" else BAD[name]
    mask = MASK if name == "a mask" else None
    made = [frame(first, payload, mask=mask, length=length) for first, payload, length in frames]
    if name.startswith("one byte more"):
        made = [frame(0x82, b"x" * 65_537)]
    await hostile(rig, app, made, code, by_client=False)


async def hostile(rig: Rig, app: SocketApp, made: list[bytes], code: int, *, by_client: bool) -> None:
    client = await rig.connect()
    peer = await opened(client, app)
    app.all.clear()
    (client if by_client else peer).send(b"".join(made))
    good = b"".join(made[:-1])
    to_client, to_app = (frame(0x88, close(code)), 1001) if by_client else (good + frame(0x88, close(1001)), code)
    assert await taken(client, len(to_client)) == to_client
    got = await peer.read((len(good) if by_client else 0) + 8)
    assert got.startswith(good if by_client else b"")
    assert unmasked(got[-8:]) == (0x88, close(to_app))
    peer.close()
    await client.close()
    await left(rig)


def unmasked(data: bytes) -> tuple[int, bytes]:
    """A short frame's first byte and payload."""
    assert data[1] & 0x80
    return data[0], bytes(byte ^ data[2 + index % 4] for index, byte in enumerate(data[6:]))


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_has_so_many_connections(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app, {"websocket": {**RULE, "connections_per_client": 2}})
    clients = [await rig.connect() for _ in range(2)]
    for client in clients:
        await opened(client, app)
    extra = await rig.connect()
    assert (await extra.ask(ASK + b"\r\n")).code == "too_many_streams"
    assert count(rig) == (0, 2)
    await clients[0].close()
    await eventually(lambda: count(rig) == (0, 1))
    await opened(extra, app)  # on the connection that was refused before


async def test_in_watch_mode_too_many_are_counted_and_pass(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app, {"websocket": {**RULE, "connections_per_client": 1}, "mode": "watch"})
    for origin in (b"", b"Origin: https://evil.example\r\n"):
        await opened(await rig.connect(), app, origin)
    [plan] = [plan for plan in rig.gateway.shared.rules.plans() if plan.name == "ws"]
    assert plan.tally.watched == {"too_many_streams": 1, "origin_not_allowed": 1}


async def test_open_connections_keep_no_request_out(gates: Rigs, app: SocketApp) -> None:
    """Neither by `in_flight`, nor by the connections of the upstream."""
    rig = await started(gates, app, limits={"in_flight": 1}, pool={"connections": 1, "waiting": 1})
    clients = [await rig.connect() for _ in range(3)]
    peers = [await opened(client, app) for client in clients]
    app.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert (await (await rig.connect()).ask(PLAIN)).status == 200
    assert count(rig) == (0, 3)
    for peer in peers:
        peer.close()
    await eventually(lambda: count(rig) == (0, 0))


async def test_silence_ends_a_connection(gates: Rigs, app: SocketApp, capsys: pytest.CaptureFixture[str]) -> None:
    rig = await started(gates, app, {"websocket": {**RULE, "idle": "300ms"}})
    client = await rig.connect()
    peer = await opened(client, app)
    assert await taken(client, 4) == frame(0x88, close(1001))
    assert unmasked(await peer.read(8)) == (0x88, close(1001))
    peer.send(frame(0x88, close(1001)))
    peer.close()
    client.send(frame(0x88, close(1001), mask=MASK))
    assert await client.ends() == b""
    await left(rig)
    rig.gateway.shared.access.flush()
    assert [line["note"] for line in logged(capsys)] == ["stream_idle"]


async def test_who_does_not_read_is_silent(gates: Rigs, app: SocketApp) -> None:
    """However much the other side says, and however often this one pings."""
    rig = await started(gates, app, {"websocket": {**RULE, "idle": "400ms"}})
    client = await rig.connect(kernel_bytes=4096)
    peer = await opened(client, app)
    client.stop_reading()
    for _ in range(400):
        peer.send(frame(0x82, bytes(65_536)))
    while count(rig) == (0, 1):
        client.send(frame(0x8A, b"!", mask=MASK))
        await asyncio.sleep(0.02)
    assert len(await peer.rest()) > 0
    await left(rig)


async def test_a_slow_app_holds_its_client_back(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    peer.stop_reading()
    message = frame(0x82, bytes(65_000), mask=MASK)
    for _ in range(400):
        client.send(message)
    assert await unsent_at_rest(client) > 4 << 20
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(8):
        assert await peer.reader.readexactly(len(message) * 400) == message * 400


async def unsent_at_rest(client: Client) -> int:
    """Bytes that the gateway does not take, once it takes no more."""
    transport: Any = client.writer.transport
    before, now = -1, transport.get_write_buffer_size()
    while before != now:
        await asyncio.sleep(0.1)
        before, now = now, transport.get_write_buffer_size()
    return int(now)


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_that_leaves_takes_the_apps_end_along(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    client.send(frame(0x81, b"last words", mask=MASK))
    client.writer.close()
    assert await peer.rest() == frame(0x81, b"last words", mask=MASK)
    await left(rig)


async def test_what_a_client_sent_before_it_left_reaches_a_slow_app(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    peer.stop_reading()
    sent = (frame(0x82, bytes(65_000), mask=MASK) * 150) + frame(0x88, close(1000), mask=MASK)
    client.send(sent)
    client.writer.close()
    await unsent_at_rest(client)
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await peer.rest() == sent
    await left(rig)


async def test_an_app_that_leaves_takes_the_clients_end_along(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    peer.send(frame(0x82, b"x" * 50_000)[:30_000])
    peer.close()
    assert await client.ends() == frame(0x82, b"x" * 50_000)[:30_000]  # no Close: to the client this is 1006
    await left(rig)


async def test_a_close_that_is_sent_in_parting_arrives(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    client.send(frame(0x88, close(1000), mask=MASK))
    client.writer.close()
    assert await peer.rest() == frame(0x88, close(1000), mask=MASK)
    await left(rig)


async def test_in_the_midst_of_a_frame_no_close_is_put(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app)
    client = await rig.connect()
    peer = await opened(client, app)
    half = frame(0x82, b"x" * 100)[:50]
    peer.send(half)
    assert await taken(client, 50) == half
    client.send(frame(0x83, b"", mask=MASK))
    assert unmasked(await peer.read(8)) == (0x88, close(1001))
    peer.close()
    assert await rest(client) == b""
    await left(rig)


async def test_a_stop_does_not_wait_for_connections(gates: Rigs, app: SocketApp) -> None:
    rig = await started(gates, app, timeouts={"drain": "100s"})
    clients = [await rig.connect() for _ in range(3)]
    peers = [await opened(client, app) for client in clients]
    rig.stop.set()
    for client, peer in zip(clients, peers, strict=True):
        assert await taken(client, 4) == frame(0x88, close(1001))
        assert unmasked(await peer.read(8)) == (0x88, close(1001))
    peers[0].close()
    clients[0].send(frame(0x88, close(1001), mask=MASK))
    assert rig._serving is not None
    await asyncio.wait_for(asyncio.shield(rig._serving), 60)  # the others say nothing
    assert count(rig) == (0, 0)


async def test_200_connections_leave_nothing_behind(gates: Rigs, app: SocketApp) -> None:
    """Opened and ended at random points, by either side."""
    rig = await started(gates, app, {"websocket": {**RULE, "connections_per_client": 250}})
    dice = random.Random(6)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        await asyncio.gather(*(one_life(rig, app, dice.random(), dice.randrange(8)) for _ in range(20)))
    await left(rig)
    for peer in app.all:
        peer.writer.transport.abort()
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)


async def one_life(rig: Rig, app: SocketApp, part: float, end: int) -> None:
    client = await Client.connect(rig.port)
    data = ASK + b"\r\n" + frame(0x81, b"x" * 300, mask=MASK)
    if end == 0:  # in the midst of anything
        client.send(data[: int(part * len(data))])
        await asyncio.sleep(part / 50)
    else:
        client.send(data)
        assert (await client.interim()).status == 101
        peer = await app.peer()  # anybody's
        match end:
            case 1:
                peer.writer.transport.abort()
            case 2:
                peer.send(frame(0x82, b"y" * 500)[: int(part * 500)])
                peer.close()
            case 3:
                client.send(b"\xff")
            case 4:
                client.send(frame(0x88, close(1000), mask=MASK))
            case 5:
                peer.send(b"\x83\x00")
            case _:
                pass
    await asyncio.sleep(part / 100)
    await client.close()


async def test_peers_see_what_the_other_sent(gates: Rigs, app: SocketApp) -> None:
    """One byte at a time, through both sides."""
    rig = await started(gates, app)
    client = await rig.connect()
    peer: Peer = await opened(client, app)
    up = frame(0x01, b"ab", mask=MASK) + frame(0x89, b"cd", mask=MASK) + frame(0x80, b"e" * 130, mask=MASK)
    for at in range(len(up)):
        client.send(up[at : at + 1])
        await asyncio.sleep(0)
    assert await peer.read(len(up)) == up
