"""A visitor of a gateway under test: sends raw bytes, reads strictly, tells a whole answer from a broken one."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import dataclass
from typing import Any, cast

PATIENCE_S = 8.0

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t\x20-\x7e]*)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)")


class BrokenTransferError(Exception):
    """The connection ended where an answer did not. `got` is what came of it."""

    def __init__(self, got: bytes) -> None:
        self.got = got
        super().__init__(f"broken after {got[:200]!r}")


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer. `framing` is `length`, `chunked`, `close` (ended with the connection) or `none`."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    framing: str

    def get(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given.lower() == name]

    @property
    def code(self) -> str:
        """The problem's code, for an answer the gateway made itself."""
        assert self.get(b"content-type") == [b"application/problem+json"], self
        return str(json.loads(self.body)["code"])

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int, *, read_ahead_bytes: int = 65536, kernel_bytes: int | None = None) -> Client:
        """`kernel_bytes`: how much the kernel takes in for a client that does not read, about."""
        sock = socket.socket()
        sock.setblocking(False)
        if kernel_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return cls(*await asyncio.open_connection(sock=sock, limit=read_ahead_bytes))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def send_slowly(self, *parts: bytes) -> None:
        """Each part in a packet of its own: the other side has read one before it sees the next."""
        for part in parts:
            self.writer.write(part)
            await asyncio.sleep(0.002)

    async def ask(self, data: bytes) -> Reply:
        self.send(data)
        return await self.answer(data.lstrip().partition(b" ")[0].decode("latin-1"))

    async def answer(self, method: str = "GET") -> Reply:
        """The next final answer; interim ones are skipped."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                reply = await self._answer(method)
                if reply.status >= 200:
                    return reply

    async def interim(self) -> Reply:
        async with asyncio.timeout(PATIENCE_S):
            reply = await self._answer("GET")
        assert 100 <= reply.status < 200, reply
        return reply

    async def ends(self) -> bytes:
        """Everything until the other side closes. BrokenTransferError when it resets."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._more():
                pass
        data, self._buffer = self._buffer, b""
        return data

    async def is_open(self) -> bool:
        """Whether another request is served on this connection."""
        try:
            return (await self.ask(b"GET /still-there HTTP/1.1\r\nHost: a.example\r\n\r\n")).status > 0
        except (BrokenTransferError, ConnectionError):
            return False

    def stop_reading(self) -> None:
        """Take nothing more from the kernel."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def go_on_reading(self) -> None:
        cast(asyncio.Transport, self.writer.transport).resume_reading()

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _more(self) -> bool:
        try:
            data = await self.reader.read(1 << 20)
        except ConnectionError:
            raise BrokenTransferError(self._buffer) from None
        self._buffer += data
        return bool(data)

    async def _take_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not await self._more():
                raise BrokenTransferError(self._buffer)
        taken, _, self._buffer = self._buffer.partition(mark)
        return taken

    async def _take(self, size: int) -> bytes:
        parts: list[bytes] = []
        missing = size
        while missing > len(self._buffer):
            missing -= len(self._buffer)
            parts.append(self._buffer)
            self._buffer = b""
            if not await self._more():
                raise BrokenTransferError(b"".join(parts))
        parts.append(self._buffer[:missing])
        self._buffer = self._buffer[missing:]
        return b"".join(parts)

    async def _answer(self, method: str) -> Reply:
        line, *lines = (await self._take_until(b"\r\n\r\n")).split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(line)
        assert status_line is not None, line
        status = int(status_line[1])
        matches = [_FIELD.fullmatch(each) for each in lines]
        assert all(matches), lines
        fields = tuple((match[1], match[2]) for match in matches if match is not None)
        names = [name.lower() for name, _ in fields]
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, fields
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Reply(status, fields, b"", "none")
        if b"transfer-encoding" in names:
            return Reply(status, fields, await self._chunked(), "chunked")
        if b"content-length" in names:
            size = int(fields[names.index(b"content-length")][1])
            return Reply(status, fields, await self._take(size), "length")
        return Reply(status, fields, await self.ends(), "close")

    async def _chunked(self) -> bytes:
        parts: list[bytes] = []
        while True:
            size = int(await self._take_until(b"\r\n"), 16)
            if size:
                parts.append(await self._take(size))
            assert await self._take(2) == b"\r\n"
            if size == 0:
                return b"".join(parts)
