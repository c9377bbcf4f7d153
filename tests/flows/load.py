"""Visitors who ask without a pause on kept-alive connections, and an app that answers at once.

Every whole 200 counts; anything else is a failure, by kind: a connection that is refused, one that ends without an
announcement (`Connection: close`) where an answer was due, an answer that is cut, another status.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

BODY = b"x" * 2000
_REQUEST = b"GET /load HTTP/1.1\r\nHost: a.example\r\n\r\n"
_REQUEST_ONCE = _REQUEST[:-2] + b"Connection: close\r\n\r\n"
_PATIENCE_S = 15.0


class Load:
    """What the visitors met. `ok` grows; `failures` should stay empty."""

    def __init__(self, address: str, keep: bool) -> None:
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self._request = _REQUEST if keep else _REQUEST_ONCE
        self.ok = 0
        self.closes = 0
        self.failures: Counter[str] = Counter()
        self.stop = False

    async def visit(self) -> None:
        """One visitor: a connection for as long as it is kept, then the next."""
        while not self.stop:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port)
            except OSError as error:
                self.failures[f"connect: {type(error).__name__}"] += 1
                await asyncio.sleep(0.05)
                continue
            try:
                while not self.stop and await self._ask(reader, writer):
                    pass
            finally:
                writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is kept."""
        try:
            writer.write(self._request)
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
                body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.failures[f"cut: {type(error).__name__}"] += 1
            return False
        if head.startswith(b"HTTP/1.1 200 ") and body == BODY:
            self.ok += 1
        else:
            self.failures[head.partition(b"\r\n")[0].decode("latin-1")] += 1
        kept = b"connection: close" not in head.lower()
        self.closes += not kept
        return kept


@asynccontextmanager
async def load(address: str, visitors: int, *, keep: bool = True) -> AsyncIterator[Load]:
    """Visitors at work until the block ends. Unless they `keep` their connections they open one for each request."""
    made = Load(address, keep)
    async with asyncio.TaskGroup() as group:
        for _ in range(visitors):
            group.create_task(made.visit())
        try:
            yield made
        finally:
            made.stop = True


class _Quick(asyncio.Protocol):
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)

    def __init__(self, connected: set[asyncio.Transport]) -> None:
        self._connected = connected
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connected.add(self._transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._connected.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._head = (self._head + data).split(b"\r\n\r\n")
        self._transport.write(self.answer * len(heads))


@asynccontextmanager
async def quick_app() -> AsyncIterator[str]:
    """An app that answers every request with BODY; `host:port`."""
    connected: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Quick(connected), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for transport in list(connected):
            transport.abort()
        await server.wait_closed()


class _Endless(asyncio.Protocol):
    """Answers with a beginning."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, _data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")


@asynccontextmanager
async def endless_app() -> AsyncIterator[str]:
    """An app whose answers begin and never end; `host:port`."""
    server = await asyncio.get_running_loop().create_server(_Endless, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()
