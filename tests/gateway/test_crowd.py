"""Connections are counted by client, exactly; whose a connection is, a trusted proxy may tell before its first byte."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from scopegate.gateway.crowd import Crowd
from tests.engines import running_haproxy
from tests.gateway.app import Answer, End
from tests.gateway.client import Client
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
LOOPBACK = {"trusted_proxies": ["127.0.0.0/8"]}
TOLD = {**LOOPBACK, "client_address": "proxy-protocol"}
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v1(address: str) -> bytes:
    family = "TCP6" if ":" in address else "TCP4"
    return f"PROXY {family} {address} {'::1' if ':' in address else '192.0.2.1'} 40000 443\r\n".encode()


V2 = SIGNATURE + b"\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x9c\x40\x01\xbb"  # 203.0.113.7
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


async def test_a_crowd_forgets_who_left() -> None:
    crowd = Crowd()
    assert [crowd.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert crowd.enter("b", 2)
    assert len(crowd) == 2
    crowd.leave("a")
    assert crowd.enter("a", 2)
    assert not crowd.enter("a", 2)
    for group in ("a", "a", "b"):
        crowd.leave(group)
    assert len(crowd) == 0


# ── by client ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_client_has_so_many_connections_and_no_more(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections_per_client": 2})
    first, second = await rig.connect(), await rig.connect()
    assert (await first.ask(GET)).status == 200
    third = await rig.connect()
    reply = await third.answer()
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "too_many_connections", [b"1"])
    assert reply.get(b"connection") == [b"close"]
    assert await third.ends() == b""
    await eventually(lambda: len(rig.gateway.connections.open) == 2)
    assert (await second.ask(GET)).status == 200
    await first.close()
    await eventually(lambda: len(rig.gateway.connections.open) == 1)
    assert (await (await rig.connect()).ask(GET)).status == 200
    assert (await (await rig.connect()).answer()).status == 503


async def test_who_is_turned_away_cannot_stay(gates: Rigs) -> None:
    """Not by sending on, and not by leaving the refusal unread."""
    rig = await gates.start(limits={"connections_per_client": 1})
    await rig.connect()
    await eventually(lambda: len(rig.gateway.connections.open) == 1)
    for _ in range(20):
        pushing = await rig.connect()
        pushing.send(b"x" * 1000)
        pushing.stop_reading()
    await eventually(lambda: len(rig.gateway.connections.open) == 1, patience_s=1.5)
    assert len(rig.gateway.connections.clients) == 1


async def test_counts_are_exact_after_every_end(gates: Rigs) -> None:
    """Closed, reset, refused, timed out, gone under an answer: each is counted out once (the rig wants zero)."""
    rig = await gates.start(limits={"connections_per_client": 8}, timeouts={"head": "200ms"})
    closed, gone, refused, late = [await rig.connect() for _ in range(4)]
    rig.app.answers.append(Answer([asyncio.Event()]))
    gone.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await gone.close()
    assert (await closed.ask(GET[:-2] + b"Connection: close\r\n\r\n")).status == 200
    assert (await refused.ask(b"NOT HTTP\r\n\r\n")).status >= 400
    late.send(b"GET")
    assert (await late.answer()).status == 408
    for client in (closed, refused, late):
        assert await client.ends() == b""
    await eventually(lambda: len(rig.gateway.connections.clients) == 0)
    assert [(await (await rig.connect()).ask(GET)).status for _ in range(8)] == [200] * 8
    assert (await (await rig.connect()).answer()).status == 503


async def test_a_trusted_proxy_carries_many(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections_per_client": 1}, server=LOOPBACK)
    clients = [await rig.connect() for _ in range(5)]
    assert [(await client.ask(GET)).status for client in clients] == [200] * 5
    assert len(rig.gateway.connections.clients) == 0


# ── requests in flight, by client ───────────────────────────────────────────────────────────────────────────────────


def named(address: str, raw: bytes = GET) -> bytes:
    """As a trusted proxy sends it on for a visitor."""
    line, _, rest = raw.partition(b"\r\n")
    return line + b"\r\nX-Forwarded-For: %b\r\n" % address.encode() + rest


TRICKLED = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n\r\na"


async def test_one_client_has_so_many_requests_at_once_and_others_have_theirs(gates: Rigs) -> None:
    """Bodies that trickle in, from one address: its own requests are turned away, nobody else's."""
    rig = await gates.start(limits={"in_flight_per_client": 2}, server=LOOPBACK)
    slow = [await rig.connect() for _ in range(2)]
    for client in slow:
        client.send(named("2001:db8:0:1::7", TRICKLED))
    await eventually(lambda: rig.app.began == 2)
    third, other = await rig.connect(), await rig.connect()
    reply = await third.ask(named("2001:db8:0:1::8"))
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (429, "too_many_at_once", [b"1"])
    assert reply.get(b"proxy-status") == [
        b'scopegate; error=connection_limit_reached; details="too_many_at_once"',
    ]
    assert (await other.ask(named("2001:db8:0:2::7"))).status == 200
    await slow[0].close()
    await eventually(lambda: rig.gateway.shared.in_flight == 1)
    assert (await third.ask(named("2001:db8:0:1::8"))).status == 200


async def test_a_proxy_that_names_nobody_counts_like_anybody(gates: Rigs) -> None:
    rig = await gates.start(limits={"in_flight_per_client": 1}, server=LOOPBACK)
    slow, second = await rig.connect(), await rig.connect()
    slow.send(TRICKLED)
    await eventually(lambda: rig.app.began == 1)
    assert (await second.ask(GET)).code == "too_many_at_once"
    assert (await second.ask(named("203.0.113.7"))).status == 200


async def test_requests_are_counted_out_once_however_they_end(gates: Rigs) -> None:
    """Answered, refused before and after the count, gone, broken by the app (the rig wants zero)."""
    rig = await gates.start(limits={"in_flight_per_client": 3, "body": "1KiB"})
    answered, gone, broken, large, strange = [await rig.connect() for _ in range(5)]
    for _ in range(2):
        assert (await answered.ask(GET)).status == 200
        assert (await strange.ask(b"GET /x HTTP/1.1\r\nHost: b.example, c\r\n\r\n")).status == 400
        strange = await rig.connect()
    rig.app.answers.append(Answer([b"HTTP/1.1 2", End.CLOSE]))
    assert (await broken.ask(b"POST" + GET[3:])).status == 502
    rig.app.answers.append(Answer([asyncio.Event()]))
    gone.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 4)
    await gone.close()
    assert (await large.ask(TRICKLED)).status == 413
    await eventually(lambda: len(rig.gateway.shared.askers) == 0)


# ── the PROXY protocol ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("header", [v1("203.0.113.7"), V2], ids=["v1", "v2"])
async def test_whom_the_proxy_names_is_the_peer_at_every_split(gates: Rigs, header: bytes) -> None:
    rig = await gates.start(server=TOLD)
    raw = header + GET[:-2] + b"X-Forwarded-For: 192.0.2.200\r\nForwarded: for=192.0.2.201\r\n\r\n"

    async def split(cut: int) -> None:
        client = await rig.connect()
        await client.send_slowly(raw[:cut], raw[cut:])
        assert (await client.answer()).status == 200
        assert (await client.ask(GET)).status == 200

    for some in range(1, len(raw), 16):
        await asyncio.gather(*[split(cut) for cut in range(some, min(some + 16, len(raw)))])
    bytewise = await rig.connect()
    await bytewise.send_slowly(*[raw[i : i + 1] for i in range(len(raw))])
    assert (await bytewise.answer()).status == 200
    assert len(rig.app.requests) == 2 * (len(raw) - 1) + 1
    told = {(request.get(b"x-forwarded-for")[0], request.get(b"x-real-ip")[0]) for request in rig.app.requests}
    assert told == {(b"203.0.113.7", b"203.0.113.7")}


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (v1("2001:db8::7"), b"2001:db8::7"),
        (v1("::ffff:203.0.113.9"), b"203.0.113.9"),
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
        (LOCAL, b"127.0.0.1"),
        (v1("127.0.0.9"), b"127.0.0.9"),
    ],
)
async def test_addresses_as_they_go_on(gates: Rigs, header: bytes, address: bytes) -> None:
    rig = await gates.start(server=TOLD)
    client = await rig.connect()
    assert (await client.ask(header + GET[:-2] + b"X-Forwarded-For: 192.0.2.200\r\n\r\n")).status == 200
    assert rig.app.requests[0].get(b"x-forwarded-for") == [address]
    assert rig.app.requests[0].get(b"x-real-ip") == [address]


@pytest.mark.parametrize(
    "raw",
    [
        GET,
        b"PROXY TCP4 nobody 192.0.2.1 1 2\r\n" + GET,
        b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n" + GET,
        b"\r\n\r\n" + GET,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12) + GET,
        b"PROXY " + b"x" * 200,
    ],
)
async def test_a_trusted_peer_without_a_header_gets_nothing(gates: Rigs, raw: bytes) -> None:
    rig = await gates.start(server=TOLD)
    client = await rig.connect()
    reply = await client.ask(raw)
    assert (reply.status, reply.code, reply.get(b"connection")) == (400, "bad_proxy_header", [b"close"])
    assert await client.ends() == b""
    assert rig.app.requests == []


@pytest.mark.parametrize("server", [{}, {"trusted_proxies": ["203.0.113.0/24"], "client_address": "proxy-protocol"}])
@pytest.mark.parametrize("header", [v1("203.0.113.7"), V2, LOCAL])
async def test_a_strangers_header_is_bad_syntax(gates: Rigs, server: dict[str, object], header: bytes) -> None:
    rig = await gates.start(server=server)
    client = await rig.connect()
    reply = await client.ask(header + GET)
    assert (reply.status, await client.ends(), rig.app.requests) == (400, b"", [])


async def test_one_header_and_no_second(gates: Rigs) -> None:
    rig = await gates.start(server=TOLD)
    client = await rig.connect()
    assert (await client.ask(v1("203.0.113.7") + GET)).status == 200
    assert (await client.ask(v1("203.0.113.8") + GET)).status == 400
    assert len(rig.app.requests) == 1


async def test_a_header_that_does_not_end_is_timed_out(gates: Rigs) -> None:
    rig = await gates.start(server=TOLD, timeouts={"head": "200ms"})
    half, silent, alone = [await rig.connect() for _ in range(3)]
    half.send(V2[:14])
    alone.send(V2)
    assert (await half.answer()).code == "head_timeout"
    assert [await client.ends() for client in (half, silent, alone)] == [b"", b"", b""]


async def test_whom_the_proxy_names_is_counted_and_limited(gates: Rigs) -> None:
    rig = await gates.start(
        server=TOLD,
        limits={"connections_per_client": 2},
        tiers={"one": {"limit": "1 per 1h", "key": "client_ip"}},
        routes=[{"name": "all", "match": "ANY /**", "tier": "one"}],
    )

    async def ask(address: str) -> tuple[Client, int]:
        client = await rig.connect()
        return client, (await client.ask(v1(address) + GET)).status

    same = [await ask(f"2001:db8:0:1::{i}") for i in range(3)]
    assert [status for _, status in same] == [200, 429, 503]
    assert (await ask("2001:db8:0:2::1"))[1] == 200
    await same[0][0].close()
    await eventually(lambda: len(rig.gateway.connections.open) == 2)
    assert (await ask("2001:db8:0:1::4"))[1] == 429


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
async def test_haproxy_tells_its_visitors(gates: Rigs, tmp_path: Path, version: str) -> None:
    rig = await gates.start(server=TOLD)
    with running_haproxy(tmp_path, rig.port, version) as port:
        for address in ("127.0.0.1", "127.0.0.77"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            client = Client(reader, writer)
            rig.clients.append(client)
            assert [(await client.ask(GET)).status for _ in range(2)] == [200, 200]
        told = [request.get(b"x-forwarded-for") for request in rig.app.requests]
        assert told == [[b"127.0.0.1"]] * 2 + [[b"127.0.0.77"]] * 2
        await rig.settled()


# ── floods ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answered", [False, True])
async def test_twenty_mebibytes_of_pipelined_requests_cost_next_to_nothing(gates: Rigs, answered: bool) -> None:
    """Behind a request that waits for the app, and with answers that the client does not take."""
    rig = await gates.start(kernel_bytes=4096)
    release = asyncio.Event()
    if not answered:
        rig.app.default = Answer([release, b"HTTP/1.1 204 No Content\r\n\r\n"])
    await _pushed(rig, 1024 * 1024)  # what the test itself needs, it has from here on
    before = _resident_bytes()
    sent, resident = await _pushed(rig, 20 * 1024 * 1024)
    assert 0 < sent < 20 * 1024 * 1024
    assert resident - before <= 2 * 1024 * 1024
    release.set()


async def _pushed(rig: Rig, size: int) -> tuple[int, int]:
    """Send requests and read nothing, until all is sent or no more is taken: the bytes sent, the memory we have now."""
    block = GET * (65536 // len(GET))
    loop = asyncio.get_running_loop()
    sent = 0
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, ("127.0.0.1", rig.port))
        with suppress(TimeoutError):
            while sent < size:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(sock, block)
                sent += len(block)
        return sent, _resident_bytes()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
