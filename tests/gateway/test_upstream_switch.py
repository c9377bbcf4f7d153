"""A switch of protocols on the app's side: who asked for one gets the connection, nobody else gets anything."""

from __future__ import annotations

import asyncio
import socket

import pytest

from scopegate.edge.headers import Noted
from scopegate.errors import UpstreamError
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.policy.policy import Origin, Upstream, UpstreamTimeouts
from scopegate.types import Fields
from tests.gateway.rig import eventually

ASK = b"GET /ws HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Peer:
    """The far end of one connection, and everything that was told of it."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.connection: UpstreamConnection | None = None
        self.takes_over = True

    async def connect(self) -> UpstreamConnection:
        listener = socket.create_server(("127.0.0.1", 0))
        origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
        upstream = Upstream("web", (origin,), UpstreamTimeouts(1.0, 5.0, 5.0), None)
        [self.server] = UpstreamPool(upstream, asyncio.get_running_loop()).servers
        self.connection = await self.server.connect().future
        sock, _ = listener.accept()
        listener.close()
        self.reader, self.writer = await asyncio.open_connection(sock=sock)
        return self.connection

    async def close(self) -> None:
        self.writer.transport.abort()
        await self.server.close()
        await eventually(lambda: self.server.open == 0)

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        self.told.append(status)

    def on_answer_body(self, payload: bytes, done: bool) -> None:
        self.told.append(payload)

    def on_interim(self, status: int, notes: Noted) -> None:
        self.told.append(status)

    def on_upstream_error(self, error: UpstreamError) -> None:
        self.told.append(error.kind)

    def on_upstream_paused(self, paused: bool) -> None:
        self.told.append(("exchange paused", paused))

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        self.told.append((dict(fields), rest))
        if self.takes_over:
            assert self.connection is not None
            self.connection.become(self)

    def upstream_data(self, data: bytes) -> None:
        self.told.append(data)

    def upstream_gone(self) -> None:
        self.told.append("gone")

    def upstream_paused(self, paused: bool) -> None:
        self.told.append(("tunnel paused", paused))


async def test_after_a_switch_everything_goes_to_the_tunnel() -> None:
    peer = Peer()
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, True, upgrade=True)
    assert await peer.reader.readuntil(b"\r\n\r\n") == ASK
    peer.writer.write(AGREED + b"\x81\x02hi")
    await eventually(lambda: peer.told)
    assert peer.told == [({b"Connection": b"keep-alive, Upgrade", b"Upgrade": b"websocket"}, b"\x81\x02hi")]
    peer.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await eventually(lambda: peer.told[1:] == [b"HTTP/1.1 200 OK\r\n\r\n"])
    connection.write(b"more")
    assert await peer.reader.readexactly(4) == b"more"
    assert (peer.server.in_use, peer.server.take_idle()) == (1, None)
    peer.writer.close()
    await eventually(lambda: peer.told[2:] == ["gone"])
    await peer.close()


async def test_a_tunnel_learns_of_an_app_that_stops_reading() -> None:
    peer = Peer()
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, True, upgrade=True)
    peer.writer.write(AGREED)
    await eventually(lambda: peer.told)
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection.write(b"x" * (16 << 20))
    await eventually(lambda: peer.told[1:] == [("tunnel paused", True)])
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    connection.close()
    assert len((await peer.reader.read(-1)).removeprefix(ASK)) == 16 << 20  # what was written is sent before the end
    await eventually(lambda: peer.told[-1] == "gone")
    await peer.close()


async def test_after_an_abort_a_tunnel_hears_nothing() -> None:
    peer = Peer()
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, True, upgrade=True)
    peer.writer.write(AGREED)
    await eventually(lambda: peer.told)
    connection.abort()
    await eventually(lambda: peer.server.open == 0)
    assert len(peer.told) == 1
    await peer.close()


async def test_a_connection_that_nobody_takes_over_is_closed() -> None:
    peer = Peer()
    peer.takes_over = False
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, True, upgrade=True)
    peer.writer.write(AGREED)
    await eventually(lambda: peer.server.open == 0)
    assert len(peer.told) == 1
    await peer.close()


UNFIT = {
    "nobody asked": (AGREED, False, True),
    "before the request was whole": (AGREED, True, False),
    "HTTP/1.0": (AGREED.replace(b"HTTP/1.1", b"HTTP/1.0"), True, True),
    "no connection": (AGREED.replace(b"Connection", b"X"), True, True),
    "no upgrade": (AGREED.replace(b"Upgrade: w", b"X: w"), True, True),
    "two protocols": (AGREED.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\n\r\n"), True, True),
    "a length": (AGREED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"), True, True),
    "chunks": (AGREED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), True, True),
    "bare": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", True, True),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_a_switch_that_is_none_is_a_protocol_error(name: str) -> None:
    answer, asked, is_whole = UNFIT[name]
    peer = Peer()
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, is_whole, upgrade=asked)
    peer.writer.write(answer)
    await eventually(lambda: peer.told)
    assert peer.told == ["protocol"]
    await eventually(lambda: peer.server.open == 0)
    await peer.close()


async def test_who_asked_for_a_switch_may_get_an_answer_instead() -> None:
    peer = Peer()
    connection = await peer.connect()
    connection.start(peer, "GET", ASK, True, upgrade=True)
    peer.writer.write(
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n"
    )
    await eventually(lambda: peer.told)
    assert (peer.told, peer.server.idle) == ([426], 1)
    await peer.close()
