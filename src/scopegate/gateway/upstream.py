"""One connection to the app behind the gateway: HTTP/1.1 on httptools, streaming both ways.

It serves one exchange at a time and tells it what happened by calling it back: no task and no future per request. It
goes back to its home (a server of `pool`) only after a complete request and a complete answer with nothing left over;
in any doubt it is closed, so that no visitor can receive another's answer. Errors leave here as UpstreamError only.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Protocol, cast

import httptools

from scopegate.edge.framing import BodyReader, ChunkedBody, EofBody, FramingError, LengthBody
from scopegate.edge.headers import CHUNKED, UNTIL_EOF, BadAnswerError, Noted, read_interim, read_response
from scopegate.errors import UpstreamError, UpstreamErrorKind
from scopegate.gateway.keeping import kept_for_s
from scopegate.types import Fields

MAX_ANSWER_HEAD_BYTES = 64 * 1024
MAX_INTERIM_ANSWERS = 32
MAX_KEPT_BYTES = 2048
"""The head of a connection's last answer is kept up to this size, with what it means: an app that answers the same way
is not read anew."""
_MAX_LEFT_BYTES = 256 * 1024
_HEAD_END = b"\r\n\r\n"
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")


class Exchanging(Protocol):
    """Whoever waits for an answer. Every call comes from the event loop, in order, never after `on_upstream_error`."""

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None: ...

    def on_answer_body(self, payload: bytes, done: bool) -> None: ...

    def on_interim(self, status: int, notes: Noted) -> None:
        """An interim answer (RFC 9110 15.2) other than 100 and 101, which end here."""
        ...

    def on_upstream_error(self, error: UpstreamError) -> None: ...

    def on_upstream_paused(self, paused: bool) -> None:
        """The app reads slower than the client sends (True), or catches up (False)."""
        ...

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """The app agreed to the switch of protocols that `start` asked for (101). `fields` as received; `rest` is what
        came after the head. The connection is one's own from here on: `become` a tunnel before this returns, or it is
        closed."""
        ...


class UpstreamTunnel(Protocol):
    """Whoever speaks another protocol on the connection after a switch. Nothing is told after `upstream_gone`."""

    def upstream_data(self, data: bytes) -> None: ...

    def upstream_gone(self) -> None:
        """The connection is closed, by the app or by an error."""
        ...

    def upstream_paused(self, paused: bool) -> None:
        """The app reads slower than it is written to (True), or catches up (False)."""
        ...


class Home(Protocol):
    """Where a connection belongs."""

    failing: bool
    """Whether it wants to hear of the next success."""
    version: str
    """Of HTTP, in its last answer whose head was new; empty before the first."""

    def released(self, connection: UpstreamConnection) -> None:
        """The connection may serve another exchange."""
        ...

    def set_apart(self, connection: UpstreamConnection) -> None:
        """The connection serves a stream from now on: it takes no place of requests any more, and never comes back."""
        ...

    def closed(self, connection: UpstreamConnection) -> None:
        """The connection has ended. May be told more than once."""
        ...

    def succeeded(self) -> None:
        """The server gave an answer."""
        ...

    def failed(self) -> None:
        """The server gave no answer, and is to blame."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to one server."""

    __slots__ = (
        "_buffer",
        "_fields",
        "_interim",
        "_last_answer",
        "_last_head",
        "_method",
        "_parser",
        "_parser_is_fresh",
        "_persistent",
        "_reader",
        "_request_sent",
        "_tunnel",
        "_upgrade",
        "answered",
        "exchange",
        "home",
        "idle_since",
        "kept_s",
        "peer",
        "reused",
        "transport",
    )

    def __init__(self, home: Home) -> None:
        self.home = home
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchanging | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parser_is_fresh = True
        self._last_head = b""
        self._last_answer: tuple[int, Noted, bool]
        self._fields: Fields = []
        self._buffer = b""
        self._reader: BodyReader | None = None
        self._method = ""
        self._interim = 0
        self._persistent = False
        self._request_sent = False
        self._upgrade = False
        self._tunnel: UpstreamTunnel | None = None
        self.answered = False
        self.reused = False
        self.idle_since = 0.0
        self.peer = ""
        """The address at its other end; empty for a unix socket."""
        self.kept_s: float | None = None
        """How long the app lets it idle, as its answers told (see `keeping`)."""

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

    def blame(self) -> None:
        """The exchange waited in vain: the server is to blame."""
        self.home.failed()

    def set_apart(self) -> None:
        """The answer is a stream: others need not wait for this connection's place, and it serves nobody after it."""
        self._persistent = False
        self.home.set_apart(self)

    def become(self, tunnel: UpstreamTunnel) -> None:
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
            self.home.released(self)

    def is_usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    # ── what the socket tells it ────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        if _is_tls(self.transport):
            # what comes while reading is paused stays in the kernel: uvloop's TLS throws away what it has of it when it
            # sees the end of the connection
            self.transport.set_read_buffer_limits(1)  # type: ignore[attr-defined]  # uvloop's TLS alone has it

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.exchange is not None and not _is_tls(self.transport):
            self._read_what_is_left()
        transport, self.transport = self.transport, None
        if self.exchange is not None and (exc is not None or _is_tls(transport) or not self._is_whole()):
            self._fail("reset", "connection closed before the answer was complete")
            return
        self.home.closed(self)
        tunnel, self._tunnel = self._tunnel, None
        if self.exchange is not None:
            self._end_of_answer(b"")
        elif tunnel is not None:
            tunnel.upstream_gone()

    def _read_what_is_left(self) -> None:
        """An app may answer and hang up while a body is being sent to it: the write fails before its answer has been
        read, and uvloop ends there. The kernel still has it, and the socket is closed only after this."""
        assert self.transport is not None
        sock = self.transport.get_extra_info("socket")
        data = b""
        with suppress(OSError):
            data = os.read(sock.fileno(), _MAX_LEFT_BYTES)
        if data:
            self.data_received(data)

    def _is_whole(self) -> bool:
        """Whether the end of the connection ends the answer."""
        return self._reader is not None and self._reader.eof()

    def eof_received(self) -> bool:
        """Over TLS it is told by close_notify only (uvloop's TLS): an answer that has no length ends with that, and
        with nothing else (RFC 9112 9.8)."""
        if _is_tls(self.transport) and self._is_whole():
            self._end_of_answer(b"")
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
        if self._last_head and self._method != "HEAD" and data.startswith(self._last_head):
            self._go_on(*self._last_answer, data[len(self._last_head) :])  # the parser could find nothing new in it
            return
        while data:
            end = data.find(_HEAD_END) + 4
            if end < 4 or end > MAX_ANSWER_HEAD_BYTES:
                self._buffer = data
                if len(data) > MAX_ANSWER_HEAD_BYTES:
                    self._fail("protocol", "answer head too large")
                return
            head, data = data[:end], data[end:]
            status = self._parse(head)
            if status >= 200:
                self._begin_answer(status, head, data)
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
        self._parser_is_fresh = False
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
        if self.home.failing:
            self.home.succeeded()
        exchange.on_upgrade(self._fields, rest)
        if self._tunnel is None:
            self.abort()

    def _may_skip(self, status: int) -> bool:
        """Interim answers are told, if there are not too many. A 100 ends here: the gateway has answered Expect itself.
        A switch of protocols ends elsewhere."""
        self._interim += 1
        if status < 100 or status == 101 or self._interim > MAX_INTERIM_ANSWERS:
            return False
        self._parser = httptools.HttpResponseParser(self)
        if status > 101 and self.exchange is not None:
            try:
                notes = read_interim(self._fields)
            except BadAnswerError:
                return False
            self.exchange.on_interim(status, notes)
        return True

    def _begin_answer(self, status: int, head: bytes, rest: bytes) -> None:
        try:
            notes = read_response(self._fields, status, self._method)
        except BadAnswerError as error:
            self._fail("protocol", str(error))
            return
        self.home.version = version = self._parser.get_http_version()
        persistent = version == "1.1" and b"close" not in notes.tokens and notes.length != UNTIL_EOF
        self.kept_s = kept_for_s(self._fields)
        if self.kept_s == 0:
            persistent = False
        self._last_head = b""
        if self._method != "HEAD" and persistent and len(head) <= MAX_KEPT_BYTES:
            self._last_head = head
            self._last_answer = (status, notes, persistent)
        self._go_on(status, notes, persistent, rest)

    def _go_on(self, status: int, notes: Noted, persistent: bool, rest: bytes) -> None:
        """The answer's head is read, and `rest` came with it."""
        if self.home.failing:
            self.home.succeeded()
        self._persistent = persistent
        length = notes.length
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
            if not self._parser_is_fresh:
                self._parser = httptools.HttpResponseParser(self)
                self._parser_is_fresh = True
            self.reused = True
            self.home.released(self)
        elif self.transport is not None:
            self.transport.abort()
        return exchange

    def _may_hang_up(self) -> bool:
        """Whether an end of the connection speaks against nobody: an answer had begun, the connection had idled, or
        the request was still being sent, maybe too slowly for the app."""
        return self._reader is not None or (self.reused and not self.answered) or not self._request_sent

    def _fail(self, kind: UpstreamErrorKind, detail: str) -> None:
        exchange = self.exchange
        if kind != "reset" or not self._may_hang_up():
            self.home.failed()
        self.abort()
        self.home.closed(self)  # after the blame: its place is for nobody if the server is left out now
        if exchange is not None:
            exchange.on_upstream_error(UpstreamError(kind, detail))


def _is_tls(transport: asyncio.Transport | None) -> bool:
    return transport is not None and transport.get_extra_info("ssl_object") is not None


def _reader_for(length: int) -> BodyReader:
    if length > 0:
        return LengthBody(length)
    return ChunkedBody() if length == CHUNKED else EofBody()
