"""The public port: hardened HTTP/1.1, run by uvicorn in place of its own protocol classes.

Heads are read by `head`, bodies are framed by `edge/framing`, one request is read at a time: what follows in the same
packet stays unread until its turn. Deadlines are checked by the gateway's ticker. What a request means and where it
goes is `pipeline`'s business; this file knows order and time.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from scopegate.edge.caller import canonical_peer, is_trusted, limit_group
from scopegate.edge.framing import BodyReader, ChunkedBody, FramingError, LengthBody
from scopegate.edge.headers import CHUNKED
from scopegate.edge.proxy_protocol import Told, Unread, read_header
from scopegate.edge.verdict import Refusal
from scopegate.gateway.client import BodyTaker, ClientTunnel
from scopegate.gateway.connections import Connections
from scopegate.gateway.exchange import Exchange, Step
from scopegate.gateway.head import HEAD_END, HeadReader, why_never, without_empty_lines
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.shared import Shared
from scopegate.policy.policy import AddressSource

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

READ_AHEAD_BYTES = 64 * 1024
"""What may wait unread behind the request being served; reading stops beyond it."""
LINGER_S = 2.0
"""How long a client that was refused may pause while it still sends; LINGER_MOST_S is the longest in all."""
LINGER_MOST_S = 20.0
LINGER_BYTES = 16 * 1024 * 1024
STOP_GRACE_S = 1.0
"""How long a kept-alive connection stays after the wish to stop: a request that is on its way already is answered,
with `Connection: close`."""
COSTLY_BYTES = 16 * 1024
BREATH_S = 0.01
"""How long a client rests whose last read was more than COSTLY_BYTES, and most of them sizes of chunks."""
MIN_READ_BYTES_PER_S = 240
"""A client that takes its answer more slowly than this, in the long run, is gone or an attack."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_AT_ONCE = struct.pack("ii", 1, 0)
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)  # Linux alone tells of the end of what is unread
NEVER = float("inf")


class ClientConnection(asyncio.Protocol):
    """One connection from outside. uvicorn makes it; `app_state` is `app.state_of` the gateway it belongs to."""

    __slots__ = (
        "_body",
        "_body_paused",
        "_breathing",
        "_buffer",
        "_connections",
        "_delivering",
        "_discarded",
        "_exchange",
        "_expects_continue",
        "_group",
        "_linger_until_s",
        "_lingering",
        "_reading_paused",
        "_served",
        "_shared",
        "_steps",
        "_stopping",
        "_taker",
        "_transport",
        "_tunnel",
        "_unintroduced",
        "_unsent",
        "_writing_paused",
        "deadline_s",
        "heads",
        "introduction",
        "is_tls",
        "peer",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._shared: Shared = app_state["shared"]
        self._connections: Connections = app_state["connections"]
        self._steps: tuple[Step, ...] = app_state["steps"]
        self._served: set[Any] = server_state.connections
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._buffer = b""
        self._body: BodyReader | None = None
        self._taker: BodyTaker | None = None
        self._delivering = False
        self._expects_continue = False
        self._body_paused = False
        self._breathing = False
        self._reading_paused = False
        self._stopping = False
        self._lingering = False
        self._linger_until_s = NEVER
        self._discarded = 0
        self._writing_paused = False
        self._unsent = NEVER
        self._unintroduced = False
        self._tunnel: ClientTunnel | None = None
        self._group: str | None = None
        self.heads = HeadReader()
        self.deadline_s = NEVER
        self.introduction: Told | None = None
        self.peer = ""
        self.is_tls = False

    # ── the connection ──────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._served.add(self)
        self._connections.open.add(self)
        self._stopping = self._shared.draining  # then it waited in the backlog when the process was asked to stop
        address = transport.get_extra_info("peername")
        self.peer = canonical_peer(address[0]) if isinstance(address, tuple) else "127.0.0.1"
        if transport.get_extra_info("ssl_object") is not None:
            self.is_tls = True
            # what comes while reading is paused stays in the kernel: uvloop's TLS throws away what it has of it when it
            # sees the end of the connection
            self._transport.set_read_buffer_limits(1)  # type: ignore[attr-defined]  # uvloop's TLS alone has it
        self.wait_until(self._shared.rules.timeouts.head_s)
        rules = self._shared.rules
        if not rules.trusted or not is_trusted(self.peer, rules.trusted):
            if not self._count_in():
                return
        elif rules.address_from is AddressSource.PROXY_PROTOCOL:
            self._unintroduced = True
        if len(self._connections.open) > rules.limits.connections and not self._connections.make_room():
            self._turn_away("overloaded", "Too many connections.")
        else:
            self._connections.idle[self] = None

    def _count_in(self) -> bool:
        """Whether this client may have one more connection."""
        group = limit_group(self.peer)
        if self._connections.clients.enter(group, self._shared.rules.limits.connections_per_client):
            self._group = group
            return True
        self._turn_away("too_many_connections", "Too many connections from one address.")
        return False

    def _turn_away(self, code: str, detail: str) -> None:
        """Refuse before a byte is parsed, and close at once: a crowd that lingers is still a crowd."""
        transport = self._transport
        assert transport is not None
        self._new_exchange().refuse(Refusal(503, code, detail, ((b"retry-after", b"1"),), close=True))
        transport.close()

    def give_way(self) -> None:
        """This connection has no request, and somebody else needs its place."""
        transport = self._transport
        self._connections.idle.pop(self, None)
        if transport is None or transport.get_write_buffer_size():
            self.abort()  # an answer that nobody takes would keep the place
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.idle.pop(self, None)
        self._connections.unread.discard(self)
        if self._group is not None:
            self._connections.clients.leave(self._group)
            self._group = None
        self._served.discard(self)
        self._connections.open.discard(self)
        if self._exchange is not None:
            self._exchange.on_client_gone()
        if self._exchange is not None:  # it goes on alone: its deadlines hold, and a stop waits for it
            self._served.add(self)
            self._connections.open.add(self)

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._unsent = NEVER
        if self._exchange is not None:
            self._exchange.on_client_paused(True)

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._exchange is not None:
            self._exchange.on_client_paused(False)
        elif self._buffer:
            self._shared.loop.call_soon(self._receive_next)

    def shutdown(self) -> None:
        """uvicorn stops: end when the request being served has its answer, or soon when none is."""
        self._stopping = self._shared.draining = True
        if self._exchange is not None:
            self._exchange.on_drain()
        elif self._transport is not None and not self._lingering:
            self.deadline_s = min(self.deadline_s, self._shared.loop.time() + self._stop_grace_s())

    def _stop_grace_s(self) -> float:
        return min(STOP_GRACE_S, self._shared.rules.timeouts.drain_s / 2)

    def rules_in_use(self) -> Ruleset | None:
        """The ruleset that the request being served began with."""
        return None if self._exchange is None else self._exchange.rules

    # ── bytes in ────────────────────────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            if self._lingering:
                self._discard(data)
            elif self._writing_paused:  # the answers that are there have to be taken first
                self._buffer += data
                self._update_reading()
            elif self._unintroduced:
                self._receive_introduction(self._buffer + data)
            else:
                self._receive_head(data)
        elif self._delivering:
            self._receive_body(data)
        elif self._tunnel is not None:
            self._tunnel.client_data(data)
        else:
            self._buffer += data
            self._update_reading()

    def _receive_introduction(self, data: bytes) -> None:
        """The PROXY protocol header with which a trusted peer has to begin; whom it names is the peer from here on."""
        told = read_header(data)
        if told is Unread.MORE:
            self._buffer = data
            return
        self._buffer = b""
        self._unintroduced = False
        if not isinstance(told, Told):
            refusal = Refusal(400, "bad_proxy_header", "A PROXY protocol header was expected.", close=True)
            self._new_exchange().refuse(refusal)
            return
        self.introduction = told
        if told.address is not None:
            self.peer = told.address
            if not self._count_in():
                return
        if len(data) > told.size:
            self._receive_head(data[told.size :])

    def _receive_head(self, data: bytes) -> None:
        checked = len(self._buffer)
        if checked:
            data = self._buffer + data
            self._buffer = b""
        if data[0] in b"\r\n":
            rest = without_empty_lines(data)
            if isinstance(rest, Refusal):
                self._new_exchange().refuse(rest)
                return
            data, checked = rest, 0
            if data in (b"", b"\r"):  # half an empty line is no head that has begun: the time goes on
                self._buffer = data
                return
        rules = self._shared.rules
        end = data.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END) or end > rules.limits.head_bytes:
            self._await_head(data, checked)
            return
        if end < len(data):
            self._buffer = data[end:]
            data = data[:end]
        exchange = self._new_exchange()
        head = self.heads.read(data, rules)
        if isinstance(head, Refusal):
            exchange.refuse(head)
        else:
            exchange.begin(head, self._steps)

    def _await_head(self, data: bytes, checked: int) -> None:
        """The rest of it, unless it is already clear that it cannot become a request."""
        rules = self._shared.rules
        refusal = why_never(data, checked, rules.limits)
        if refusal is not None:
            self._new_exchange().refuse(refusal)
            return
        self._buffer = data
        if not checked:
            self.wait_until(rules.timeouts.head_s)
            self._connections.idle.pop(self, None)
            self._connections.idle[self] = None

    def _receive_body(self, data: bytes) -> None:
        reader, taker = self._body, self._taker
        assert reader is not None
        assert taker is not None
        try:
            payload = reader.feed(data)
        except FramingError:
            taker.on_bad_framing()
            return
        if reader.done:
            self._buffer = reader.left_over
            self._body = None
            self._delivering = False
            self.heads.restart()
        elif len(data) > COSTLY_BYTES and len(payload) * 2 < len(data):
            self._breathe()
        if payload or reader.done:
            taker.on_body(payload, reader.done)

    def _breathe(self) -> None:
        """A read that was mostly framing, of tiny chunks, took time: others first. The transport would read on."""
        self._breathing = True
        self._update_reading()
        self._shared.loop.call_later(BREATH_S, self._breathed)

    def _breathed(self) -> None:
        self._breathing = False
        self._update_reading()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > LINGER_BYTES:
            self.abort()
        else:
            self.deadline_s = min(self._shared.loop.time() + LINGER_S, self._linger_until_s)

    def _new_exchange(self) -> Exchange:
        self._exchange = exchange = Exchange(self._shared, self)
        self._connections.idle.pop(self, None)
        self.deadline_s = NEVER
        return exchange

    # ── what an exchange asks of its client ─────────────────────────────────────────────────────────────────────────

    def open_body(self, taker: BodyTaker, length: int, *, expects_continue: bool) -> None:
        """The head announced a body of `length` bytes, or CHUNKED. Nothing is read of it until `read_body`."""
        self._taker = taker
        self._body = ChunkedBody() if length == CHUNKED else LengthBody(length)
        self._expects_continue = expects_continue

    def read_body(self) -> None:
        if self._body is None or self._delivering:
            return
        self._delivering = True
        self._body_paused = False
        if self._expects_continue and not self._buffer:
            self.write(_CONTINUE)
        data, self._buffer = self._buffer, b""
        if data:
            self._receive_body(data)
        self._update_reading()

    def pause_body(self, paused: bool) -> None:
        self._body_paused = paused
        self._update_reading()

    def _update_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        pause = (self._body_paused and (self._body is not None or self._tunnel is not None)) or (
            self._breathing or (not self._delivering and len(self._buffer) > READ_AHEAD_BYTES)
        )
        if pause != self._reading_paused:
            self._reading_paused = pause
            if pause:
                self._connections.unread.add(self)
                transport.pause_reading()
            else:
                self._connections.unread.discard(self)
                transport.resume_reading()

    def look_for_end(self) -> bool:
        """Whether the client left while nothing of it was read: its end stands behind what is unread. Then this ends,
        but for a tunnel, whose last messages are still to be passed on."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is None or self._tunnel is not None:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), _HUNG_UP)
        if poll.poll(0):
            self.abort()
            return True
        return False

    def become(self, tunnel: ClientTunnel) -> None:
        self._tunnel = tunnel
        data, self._buffer = self._buffer, b""
        if data:
            tunnel.client_data(data)
        self._update_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def wait_until(self, seconds: float | None) -> None:
        self.deadline_s = NEVER if seconds is None else self._shared.loop.time() + seconds

    def abort(self) -> None:
        """End with RST: a plain end would pass for the end of an answer that has no length."""
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        transport.abort()

    def break_off(self) -> None:
        """The process ends, and the drain time is over."""
        self.abort()
        if self._exchange is not None:
            self._exchange.on_stop()

    def exchange_done(self, *, reusable: bool, linger: bool) -> None:
        self._exchange = None
        self._taker = None
        self._tunnel = None
        if self._transport is None:
            self._served.discard(self)
            self._connections.open.discard(self)
            return
        if not reusable:
            self._end(linger=linger)
            return
        self._connections.idle[self] = None
        self._body_paused = False
        self._expects_continue = False
        self.wait_until(self._stop_grace_s() if self._stopping else self._shared.rules.timeouts.keep_alive_s)
        if self._buffer and not self._writing_paused:
            self._shared.loop.call_soon(self._receive_next)
        elif self._reading_paused:
            self._update_reading()

    def _receive_next(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return  # gone between its answer and its next request: nobody would ever end what is begun now
        if self._reading_paused and self.look_for_end():
            return
        if self._exchange is None and self._buffer and not (self._lingering or self._writing_paused):
            data, self._buffer = self._buffer, b""
            self._receive_head(data)
            self._update_reading()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_deadline(self) -> None:
        """`deadline_s` has passed. Called by the gateway's ticker."""
        transport = self._transport
        if transport is not None and self._tunnel is None and self._is_being_read(transport):
            self.wait_until(self._shared.rules.timeouts.keep_alive_s)
        elif self._exchange is not None:
            if self._reading_paused and self.look_for_end():
                return  # who left blames nobody for the time that is over
            self.deadline_s = NEVER
            self._exchange.on_deadline()
        elif transport is None or self._lingering or transport.is_closing() or transport.get_write_buffer_size():
            self.abort()
        elif self._buffer:
            refusal = Refusal(408, "head_timeout", "The request's head came too slowly.", close=True)
            self._new_exchange().refuse(refusal)
        else:
            self._end()

    def _is_being_read(self, transport: asyncio.Transport) -> bool:
        """Whether the client takes what it was sent, slowly but at a fair rate since the last deadline."""
        before = self._unsent
        self._unsent = float(transport.get_write_buffer_size())
        return 0 < self._unsent <= before - MIN_READ_BYTES_PER_S * self._shared.rules.timeouts.keep_alive_s

    def _end(self, *, linger: bool = False) -> None:
        """Close without cutting off the last answer: what the client is still sending is read and thrown away for a
        moment, since closing over unread bytes resets the connection (RFC 9112 9.6)."""
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return
        if not linger and self._body is None and not self._buffer:
            transport.close()  # what is unsent is still sent: `on_deadline` sees to it that this ends
            self.wait_until(self._shared.rules.timeouts.keep_alive_s)
            return
        self._lingering = True
        self._connections.idle[self] = None
        self._buffer = b""
        self._delivering = False
        self._body = None
        self._update_reading()
        if not self.is_tls:  # TLS has no end of one direction alone: the client ends it once it has its answer
            transport.write_eof()
        self._linger_until_s = self._shared.loop.time() + LINGER_MOST_S
        self.wait_until(LINGER_S)
