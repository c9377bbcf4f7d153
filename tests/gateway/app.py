"""The app behind a gateway under test: it records what reaches it, parses it strictly, and answers from a script.

Every request is held to what the gateway promises of all of them; a broken promise is a line in `faults`, which the
rig's teardown wants empty.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

import h11

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

_REQUEST_LINE = re.compile(rb"[A-Z-]+ /[!\"$-~]* HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)")
_ONCE = (b"host x-forwarded-for x-forwarded-proto x-forwarded-host x-real-ip x-request-id via traceparent").split()
_NEVER = (
    b"connection keep-alive proxy-connection te trailer upgrade http2-settings proxy-authorization expect forwarded"
).split()


class End(Enum):
    """How a script may end, other than by waiting for the next request on the connection."""

    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Answer:
    """Steps in order: bytes to write, seconds or an event to wait for, an end. `early` answers before the body is
    read; `read_after` reads no body before that event."""

    steps: Sequence[bytes | float | asyncio.Event | End]
    early: bool = False
    read_after: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it reached the app."""

    connection: int
    method: bytes
    target: bytes
    fields: Sequence[tuple[bytes, bytes]]
    framing: str
    body: bytes
    body_bytes: int

    def get(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given.lower() == name]


Script = Answer | bytes | Callable[[Received], Answer | bytes]


def body_of(payload: bytes, status: str = "200 OK", fields: bytes = b"") -> bytes:
    """A whole answer with a Content-Length."""
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status.encode(), fields, len(payload), payload)


class App:
    """`answers` are used up first, one per request; then `default` holds."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.faults: list[str] = []
        self.answers: deque[Script] = deque()
        self.default: Script = OK
        self.keep_bodies = True
        self.kernel_bytes: int | None = None
        """How much the kernel takes in while the app does not read, about; set it before the start."""
        self.began = 0
        """Heads seen, also of requests whose body never ended."""
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.lost = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> App:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.kernel_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.kernel_bytes)
        sock.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._connected, sock=sock)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self.open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None
            for task in list(self._serving):
                task.cancel()  # one that was told to hang would outlive its loop
            await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until(self, reached: Callable[[], bool], patience_s: float = 5.0) -> None:
        """Wait for something to become true of what was received or of connections."""
        async with asyncio.timeout(patience_s):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    # ── one connection ──────────────────────────────────────────────────────────────────────────────────────────────

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.open.add(writer)
        self._changed.set()
        try:
            rest: bytes | None = b""
            while rest is not None:
                rest = await self._exchange(reader, writer, rest, number)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            self.lost += 1
            self._changed.set()
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes, number: int
    ) -> bytes | None:
        """One request and its answer; what was read beyond it, None when the connection is over."""
        raw = rest
        while b"\r\n\r\n" not in raw:
            data = await reader.read(65536)
            if not data:
                if raw:
                    self.faults.append(f"a request broken off in its head: {raw[:200]!r}")
                return None
            raw += data
        head, _, _ = raw.partition(b"\r\n\r\n")
        self._check(head)
        self.began += 1
        self._changed.set()
        script = self.answers.popleft() if self.answers else self.default
        if isinstance(script, Answer) and script.early and not await self._play(script, writer):
            return None
        if isinstance(script, Answer) and script.read_after is not None:
            await script.read_after.wait()
        received = await self._read_request(raw, reader, number)
        if received is None:
            return None
        request, rest = received
        self.requests.append(request)
        self._changed.set()
        if isinstance(script, Answer) and script.early:
            return rest
        answer = script(request) if callable(script) else script
        return rest if await self._play(answer, writer) else None

    async def _read_request(
        self, raw: bytes, reader: asyncio.StreamReader, number: int
    ) -> tuple[Received, bytes] | None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        parser.receive_data(raw)
        request: h11.Request | None = None
        parts: list[bytes] = []
        size = 0
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                if "closed connection" not in str(error):
                    self.faults.append(f"not HTTP: {error}: {raw[:300]!r}")
                return None
            if event is h11.NEED_DATA:
                parser.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if self.keep_bodies:
                    parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return None
        assert request is not None
        names = [name for name, _ in request.headers]
        framing = "chunked" if b"transfer-encoding" in names else "length" if b"content-length" in names else "none"
        fields = [(bytes(name), bytes(value)) for name, value in request.headers.raw_items()]
        if list(event.headers):
            self.faults.append(f"trailers: {list(event.headers)!r}")
        received = Received(
            number, bytes(request.method), bytes(request.target), fields, framing, b"".join(parts), size
        )
        return received, bytes(parser.trailing_data[0])

    async def _play(self, answer: Answer | bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        for step in answer.steps if isinstance(answer, Answer) else (answer,):
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case asyncio.Event():
                    await step.wait()
                case End.CLOSE:
                    return False
                case End.RESET:
                    reset(writer)
                    return False
                case End.HANG:
                    await asyncio.Event().wait()
                case _:
                    await asyncio.sleep(step)
        return True

    def _check(self, head: bytes) -> None:
        """What holds for every request that leaves the gateway."""
        line, *lines = head.split(b"\r\n")
        found: dict[bytes, int] = {}
        if not _REQUEST_LINE.fullmatch(line):
            self.faults.append(f"request line {line!r}")
        for each in lines:
            field = _FIELD.fullmatch(each)
            if field is None:
                self.faults.append(f"field line {each!r}")
                continue
            name = field[1].lower()
            found[name] = found.get(name, 0) + 1
        self.faults += [f"{found.get(name, 0)} times {name!r}" for name in _ONCE if found.get(name) != 1]
        self.faults += [f"{name!r} passed on" for name in _NEVER if name in found]
        framing = found.get(b"content-length", 0) + found.get(b"transfer-encoding", 0)
        if framing > 1:
            self.faults.append(f"framed {framing} times: {head!r}")


class IgnoredFaults(list[str]):
    """For an app that something else than the gateway's proxy talks to."""

    def append(self, _fault: str) -> None:
        """Nothing is noted."""

    def __iadd__(self, _faults: object) -> IgnoredFaults:  # type: ignore[misc, override]
        return self


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
