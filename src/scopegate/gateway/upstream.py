"""The app behind the gateway: pooled HTTP/1.1 connections on httptools, streaming both ways.

A connection serves one exchange at a time and tells it what happened by calling it back: no task and no future per
request. It goes back to the pool only after a complete request and a complete answer with nothing left over; in any
doubt it is closed, so that no visitor can receive another's answer. Errors leave here as UpstreamError only.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

import httptools

from scopegate.edge.framing import BodyReader, ChunkedBody, EofBody, FramingError, LengthBody
from scopegate.edge.headers import CHUNKED, UNTIL_EOF, BadAnswerError, Noted, read_response
from scopegate.errors import UpstreamError, UpstreamErrorKind
from scopegate.policy.policy import Origin, Upstream
from scopegate.types import Fields

MAX_ANSWER_HEAD_BYTES = 64 * 1024
MAX_INTERIM_ANSWERS = 32
MAX_CONNECTIONS_PER_SERVER = 512
MAX_WAITING = 1024
_DOWN_FOR_S = 1.0
_HEAD_END = b"\r\n\r\n"
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")


class Exchanging(Protocol):
    """Whoever waits for an answer. Every call comes from the event loop, in order, never after `on_upstream_error`."""

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None: ...

    def on_answer_body(self, payload: bytes, done: bool) -> None: ...

    def on_upstream_error(self, error: UpstreamError) -> None: ...

    def on_upstream_paused(self, paused: bool) -> None:
        """The app reads slower than the client sends (True), or catches up (False)."""
        ...

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """The app agreed to the switch of protocols that `start` asked for (101). `fields` as received; `rest` is what
        came after the head. The connection is one's own from here on: `become` a tunnel before this returns, or it is
        closed."""
        ...


class Tunnel(Protocol):
    """Whoever speaks another protocol on the connection after a switch. Nothing is told after `upstream_gone`."""

    def upstream_data(self, data: bytes) -> None: ...

    def upstream_gone(self) -> None:
        """The connection is closed, by the app or by an error."""
        ...

    def upstream_paused(self, paused: bool) -> None:
        """The app reads slower than it is written to (True), or catches up (False)."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to one server."""

    __slots__ = (
        "_buffer",
        "_fields",
        "_interim",
        "_method",
        "_parser",
        "_persistent",
        "_reader",
        "_request_sent",
        "_server",
        "_tunnel",
        "_upgrade",
        "answered",
        "exchange",
        "idle_since",
        "reused",
        "transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchanging | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._buffer = b""
        self._reader: BodyReader | None = None
        self._method = ""
        self._interim = 0
        self._persistent = False
        self._request_sent = False
        self._upgrade = False
        self._tunnel: Tunnel | None = None
        self.answered = False
        self.reused = False
        self.idle_since = 0.0

    # ── what an exchange asks of it ─────────────────────────────────────────────────────────────────────────────────

    def start(self, exchange: Exchanging, method: str, data: bytes, request_done: bool, upgrade: bool = False) -> None:
        """Send the head (and what is there of the body); the answer will be told to `exchange`. With `upgrade` the
        request asks for a switch of protocols, and the answer may be 101."""
        assert self.exchange is None
        assert self.transport is not None
        self.exchange = exchange
        self._method = method
        self._request_sent = request_done
        self._upgrade = upgrade
        self._interim = 0
        self.answered = False
        self.transport.write(data)

    def send(self, data: bytes, request_done: bool) -> None:
        """More of the body, framed."""
        if self.transport is not None and self.exchange is not None:
            self._request_sent = request_done
            if data:
                self.transport.write(data)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading the answer."""
        if self.transport is not None and not self.transport.is_closing():
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def become(self, tunnel: Tunnel) -> None:
        """After a switch of protocols: everything is told to `tunnel`, and no exchange will use this connection."""
        self.exchange = None
        self._tunnel = tunnel

    def write(self, data: bytes) -> None:
        """For a tunnel: bytes of the new protocol."""
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        """For a tunnel: close once what was written has been sent. `upstream_gone` will tell."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """The exchange (or tunnel) is over before its answer was: nothing more will be told."""
        self.exchange = None
        self._tunnel = None
        if self.transport is not None:
            self.transport.abort()

    def give_back(self) -> None:
        """It was handed out and not used."""
        if self.is_usable():
            self._server.released(self)

    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # ── what the socket tells it ────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._server.closed(self)
        if self.exchange is None:
            tunnel, self._tunnel = self._tunnel, None
            if tunnel is not None:
                tunnel.upstream_gone()
            return
        if self._reader is not None and exc is None and self._reader.eof():
            self._end_of_answer(b"")
        else:
            self._fail("reset", "connection closed before the answer was complete")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._tell_paused(True)

    def resume_writing(self) -> None:
        self._tell_paused(False)

    def _tell_paused(self, paused: bool) -> None:
        if self.exchange is not None:
            self.exchange.on_upstream_paused(paused)
        elif self._tunnel is not None:
            self._tunnel.upstream_paused(paused)

    def data_received(self, data: bytes) -> None:
        if self._reader is not None:
            self._receive_body(data)
        elif self.exchange is not None:
            self._receive_head(data)
        elif self._tunnel is not None:
            self._tunnel.upstream_data(data)
        else:
            self.abort()  # bytes nobody asked for

    # ── parsing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def _receive_head(self, data: bytes) -> None:
        self.answered = True
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while data:
            end = data.find(_HEAD_END) + 4
            if end < 4 or end > MAX_ANSWER_HEAD_BYTES:
                self._buffer = data
                if len(data) > MAX_ANSWER_HEAD_BYTES:
                    self._fail("protocol", "answer head too large")
                return
            status = self._parse(data[:end])
            data = data[end:]
            if status >= 200:
                self._begin_answer(status, data)
                return
            if status == 101 and self._is_switch():
                self._switch(data)
                return
            if not self._may_skip(status):
                self._fail("protocol", "not an HTTP answer")
                return

    def _parse(self, head: bytes) -> int:
        """The status, 0 for what is no head of an answer."""
        self._fields = []
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # raised for a 101 only
        except httptools.HttpParserError:
            return 0
        known = head.startswith(_VERSIONS)  # llhttp reads other versions too, RTSP and ICE
        return self._parser.get_status_code() if known else 0

    def _is_switch(self) -> bool:
        """Whether a 101 means the switch that was asked for (RFC 9110 7.8): in HTTP/1.1, with `connection: upgrade`,
        without any framing, after the whole request."""
        if not (self._upgrade and self._request_sent and self._parser.get_http_version() == "1.1"):
            return False
        names = [name.lower() for name, _ in self._fields]
        options = b",".join(value for name, value in self._fields if name.lower() == b"connection").lower().split(b",")
        framed = b"content-length" in names or b"transfer-encoding" in names
        return names.count(b"upgrade") == 1 and b"upgrade" in [option.strip() for option in options] and not framed

    def _switch(self, rest: bytes) -> None:
        exchange = self.exchange
        assert exchange is not None
        exchange.on_upgrade(self._fields, rest)
        if self._tunnel is None:
            self.abort()

    def _may_skip(self, status: int) -> bool:
        """Interim answers (RFC 9110 15.2) end here, if there are not too many; a switch of protocols ends elsewhere."""
        self._interim += 1
        if status < 100 or status == 101 or self._interim > MAX_INTERIM_ANSWERS:
            return False
        self._parser = httptools.HttpResponseParser(self)
        return True

    def _begin_answer(self, status: int, rest: bytes) -> None:
        try:
            notes = read_response(self._fields, status, self._method)
        except BadAnswerError as error:
            self._fail("protocol", str(error))
            return
        length = notes.length
        self._persistent = (
            self._parser.get_http_version() == "1.1" and b"close" not in notes.tokens and length != UNTIL_EOF
        )
        if length == 0:
            self._finish(notes, status, rest)
            return
        reader = _reader_for(length)
        payload = b""
        if rest:
            try:
                payload = reader.feed(rest)
            except FramingError as error:
                self._fail("protocol", str(error))
                return
            if reader.done:
                self._finish(notes, status, reader.left_over, payload)
                return
        self._reader = reader
        assert self.exchange is not None
        self.exchange.on_answer(status, notes, payload, False)

    def _finish(self, notes: Noted, status: int, left_over: bytes, payload: bytes = b"") -> None:
        exchange = self._release(left_over)
        exchange.on_answer(status, notes, payload, True)

    def _receive_body(self, data: bytes) -> None:
        assert self._reader is not None
        try:
            payload = self._reader.feed(data)
        except FramingError as error:
            self._fail("protocol", str(error))
            return
        if self._reader.done:
            self._end_of_answer(payload)
        elif payload and self.exchange is not None:
            self.exchange.on_answer_body(payload, False)

    def _end_of_answer(self, payload: bytes) -> None:
        assert self._reader is not None
        self._release(self._reader.left_over).on_answer_body(payload, True)

    def _release(self, left_over: bytes) -> Exchanging:
        """The answer is complete: leave the exchange, and serve another one if nothing speaks against it."""
        exchange = self.exchange
        assert exchange is not None
        self.exchange = None
        self._reader = None
        if self._persistent and self._request_sent and not left_over and self.is_usable():
            self._parser = httptools.HttpResponseParser(self)
            self.reused = True
            self._server.released(self)
        elif self.transport is not None:
            self.transport.abort()
        return exchange

    def _fail(self, kind: UpstreamErrorKind, detail: str) -> None:
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.on_upstream_error(UpstreamError(kind, detail))


def _reader_for(length: int) -> BodyReader:
    if length > 0:
        return LengthBody(length)
    return ChunkedBody() if length == CHUNKED else EofBody()


class Server:
    """One address of an upstream with its connections."""

    def __init__(
        self,
        origin: Origin,
        upstream: Upstream,
        loop: asyncio.AbstractEventLoop,
        *,
        max_connections: int = MAX_CONNECTIONS_PER_SERVER,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.origin = origin
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._timeouts = upstream.timeouts
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._waiting: dict[asyncio.Future[UpstreamConnection], None] = {}  # in order of arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls = ssl.create_default_context() if origin.scheme == "https" else None
        self.open = 0
        self.down_until = 0.0

    @property
    def in_use(self) -> int:
        return self.open - len(self._idle)

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take_idle(self) -> UpstreamConnection | None:
        """The most recently used connection that is still open."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
        return None

    def connect(self) -> asyncio.Future[UpstreamConnection]:
        """A connection of one's own, new or handed on. The future may raise UpstreamError (nothing sent)."""
        future: asyncio.Future[UpstreamConnection] = self._loop.create_future()
        if self.open < self._max_connections:
            self._start_connecting(future)
        elif len(self._waiting) < self._max_waiting:
            self._waiting[future] = None
            future.add_done_callback(lambda done: self._waiting.pop(done, None))
            self._loop.call_later(self._timeouts.connect_s, _give_up, future)
        else:
            future.set_exception(UpstreamError("connect", "too many requests wait for the app", sent=False))
        return future

    def _start_connecting(self, future: asyncio.Future[UpstreamConnection]) -> None:
        self.open += 1
        task = self._loop.create_task(self._connect(future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, future: asyncio.Future[UpstreamConnection]) -> None:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self), self.origin.host, self.origin.port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            self.down_until = self._loop.time() + _DOWN_FOR_S
            self._forget_one()
            if not future.done():
                detail = "timed out" if isinstance(error, TimeoutError) else type(error).__name__
                future.set_exception(UpstreamError("connect", detail, sent=False))
            return
        except asyncio.CancelledError:
            self._forget_one()
            future.cancel()
            raise
        self.down_until = 0.0
        if future.done():
            self.released(connection)
        else:
            future.set_result(connection)

    def released(self, connection: UpstreamConnection) -> None:
        """The connection is free again: the longest waiting request gets it."""
        while self._waiting:
            future = self._first_waiting()
            if not future.done():
                future.set_result(connection)
                return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def _first_waiting(self) -> asyncio.Future[UpstreamConnection]:
        future = next(iter(self._waiting))
        del self._waiting[future]
        return future

    def closed(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._forget_one()

    def _forget_one(self) -> None:
        self.open -= 1
        while self._waiting and self.open < self._max_connections:
            future = self._first_waiting()
            if not future.done():
                self._start_connecting(future)

    def expire(self, now: float) -> None:
        """Close the connections that have been idle for longer than the policy says."""
        oldest = now - self._timeouts.idle_s
        for connection in [c for c in self._idle if c.idle_since < oldest]:
            connection.abort()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._idle):
            connection.abort()


def _give_up(future: asyncio.Future[UpstreamConnection]) -> None:
    if not future.done():
        future.set_exception(UpstreamError("connect", "no free connection in time", sent=False))


class UpstreamPool:
    """The servers of one upstream; the least busy one that is up serves next."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = upstream
        self._loop = loop
        self.servers = tuple(Server(origin, upstream, loop) for origin in upstream.servers)

    def acquire(self, tried: frozenset[Server] = frozenset()) -> UpstreamConnection | Connecting:
        """A connection at once when one is idle, else one to wait for."""
        server = self.servers[0] if len(self.servers) == 1 else self._choose(tried)
        connection = server.take_idle()
        return connection if connection is not None else Connecting(server, server.connect())

    def _choose(self, tried: frozenset[Server]) -> Server:
        now = self._loop.time()
        left = [server for server in self.servers if server not in tried] or list(self.servers)
        return min(left, key=lambda server: (server.down_until > now, server.in_use))

    def expire(self, now: float) -> None:
        for server in self.servers:
            server.expire(now)

    async def close(self) -> None:
        for server in self.servers:
            await server.close()


class Connecting:
    """A connection under way."""

    __slots__ = ("future", "server")

    def __init__(self, server: Server, future: asyncio.Future[UpstreamConnection]) -> None:
        self.server = server
        self.future = future
