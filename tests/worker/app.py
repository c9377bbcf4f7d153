"""A small real HTTP server on loopback for tests: answers by path, remembers what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[["Asked"], Awaitable[bytes | None]]
"""A whole answer as bytes, or None to hang up without one."""


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str:
        return next((value for key, value in self.fields if key == name), "")


@dataclass(slots=True)
class App:
    handler: Handler
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            asked = await _read(reader)
            self.asked.append(asked)
            answer = await self.handler(asked)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = [line.split(":", 1) for line in head[1:] if line]
    fields = [(name.lower(), value.strip()) for name, value in pairs]
    length = int(next((value for name, value in fields if name == "content-length"), "0"))
    return Asked(method, target, fields, await reader.readexactly(length))


def answer(status: int, body: bytes = b"", **fields: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *lines])
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[App]:
    app = App(handler)
    server = await asyncio.start_server(app.serve, "127.0.0.1", 0, ssl=tls)
    app.port = server.sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        server.close()
        await server.wait_closed()
