"""An app behind the gateway that speaks WebSocket by hand, and a visitor's side to it: raw frames, nothing helpful."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from typing import cast

from tests.gateway.client import Client

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)
PATIENCE_S = 5.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


class Peer:
    """The app's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.lines = head.split(b"\r\n")

    def get(self, name: bytes) -> list[bytes]:
        return [line[len(name) + 2 :] for line in self.lines if line.lower().startswith(name + b": ")]

    def send(self, data: bytes) -> None:
        if not self.writer.transport.is_closing():  # a peer that has left says nothing
            self.writer.write(data)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the gateway closes, or breaks the connection."""
        parts = []
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(65536):
                    parts.append(data)
            except ConnectionError:
                pass
        return b"".join(parts)

    def stop_reading(self) -> None:
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def close(self) -> None:
        self.writer.close()


class SocketApp:
    """Agrees to every handshake, unless `answer` says something else."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.more: Sequence[bytes] = ()
        """Field lines of the 101."""
        self.with_head = b""
        """Frames in the same packet as the 101."""
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.all: list[Peer] = []
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for peer in self.all:
            peer.writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        peer = Peer(reader, writer, head)
        self.all.append(peer)
        keys = peer.get(b"sec-websocket-key")
        writer.write(self.answer if self.answer is not None else self.agreement(keys[0] if keys else b""))
        self.peers.put_nowait(peer)

    def agreement(self, key: bytes) -> bytes:
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
        lines += [b"Sec-WebSocket-Accept: " + accept_of(key), *self.more, b"", b""]
        return b"\r\n".join(lines) + self.with_head

    async def peer(self) -> Peer:
        """The next connection that was asked to switch."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.peers.get()


async def opened(client: Client, app: SocketApp, more: bytes = b"") -> Peer:
    """Both ends of a new WebSocket connection."""
    client.send(ASK + more + b"\r\n")
    reply = await client.interim()
    assert reply.status == 101, reply
    return await app.peer()
