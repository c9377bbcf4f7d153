"""An app that keeps every byte it gets, and three readers of those bytes that know nothing of the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import h11
import httptools

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SENTINEL = b"GET /the-end HTTP/1.1\r\nhost: a\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reading:
    """One request as somebody read it. `digest` is the SHA-1 of the body, `fields` how many there are."""

    method: str
    target: str
    fields: int
    body_bytes: int
    digest: str


class _Reader:
    """httptools, told of a stream piece by piece."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.ids: list[str] = []
        self.parser = httptools.HttpRequestParser(self)
        self.inside = False

    def on_message_begin(self) -> None:
        self.inside = True
        self._target = b""
        self._names: list[bytes] = []
        self._id = ""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._names.append(name)
        if name == b"x-request-id":
            self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.inside = False
        body = b"".join(self._body)
        method = self.parser.get_method().decode()
        digest = hashlib.sha1(body).hexdigest()
        self.readings.append(Reading(method, self._target.decode("latin-1"), len(self._names), len(body), digest))
        self.ids.append(self._id)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.stream = bytearray()
        self.complete = 0
        """How much of the stream is whole requests."""
        self.reader = _Reader()
        self.fault = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.stream += data
        before = len(self.reader.readings)
        try:
            self.reader.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fault = f"{error!r}: {bytes(self.stream[self.complete :])[:500]!r}"
            self._transport.abort()
            return
        for _ in self.reader.readings[before:]:
            self._transport.write(OK)
        if not self.reader.inside:
            self.complete = len(self.stream)


class Tape:
    """The app. `connections` are its streams so far."""

    def __init__(self) -> None:
        self.connections: list[_Connection] = []
        self.port = 0

    async def __aenter__(self) -> Tape:
        self._server = await asyncio.get_running_loop().create_server(self._made, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self.connections:
            connection._transport.abort()
        await self._server.wait_closed()

    def _made(self) -> _Connection:
        connection = _Connection()
        self.connections.append(connection)
        return connection


def by_h11(stream: bytes) -> list[Reading]:
    """Every request of a stream. Raises h11.RemoteProtocolError."""
    if not stream:
        return []  # to h11 no bytes are the end of the connection
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    found: list[Reading] = []
    request: h11.Request | None = None
    body = hashlib.sha1()
    size = 0
    while (event := connection.next_event()) is not h11.NEED_DATA:
        if isinstance(event, h11.Request):
            request, body, size = event, hashlib.sha1(), 0
        elif isinstance(event, h11.Data):
            body.update(event.data)
            size += len(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            target, count = request.target.decode("latin-1"), len(request.headers.raw_items())
            found.append(Reading(request.method.decode(), target, count, size, body.hexdigest()))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            raise AssertionError(event)
    return found


class Node:
    """node's own server parser, in one child process."""

    def __init__(self, binary: str) -> None:
        script = Path(__file__).parent / "readings.js"
        self._child = subprocess.Popen([binary, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(10)
        self._child.stdout.close()

    def read(self, stream: bytes) -> list[Reading]:
        """Every request of a stream. AssertionError with node's own words when it refuses one."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        data = stream + SENTINEL
        self._child.stdin.write(struct.pack(">I", len(data)) + data)
        self._child.stdin.flush()
        told: Any = json.loads(self._child.stdout.readline())
        assert isinstance(told, list), told
        *readings, end = [Reading(*each) for each in told]
        assert end.target == "/the-end", end
        return readings
