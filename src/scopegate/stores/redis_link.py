"""One pipelined connection to Redis, for the few commands that run on every request.

Commands sent during one turn of the event loop leave in one write; answers come back in order. A batched check costs
5 microseconds of CPU this way and 50 through redis-py, which everything else that talks to Redis uses. The wire format
is read by hiredis. Used by `redis_limits` only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

from hiredis import HiredisError, Reader, ReplyError

from scopegate.errors import StoreUnavailable
from scopegate.stores.redis_address import RedisAddress
from scopegate.stores.redis_errors import kind_of_answer

_RETRY_S = 0.25  # between attempts to reach a server that is down
_FOLLOW_S = 0.02  # to the node that a cluster names: two that name each other must not make us spin
_CONNECT_S = 1.0  # for one attempt, which nobody waits for longer than for an answer


class Outage(NamedTuple):
    """Why a command has no answer. Each waiter makes an error of its own: a shared one would collect tracebacks."""

    kind: StoreUnavailable.Kind
    detail: str

    def error(self) -> StoreUnavailable:
        return StoreUnavailable(self.kind, self.detail)


class Waiter(Protocol):
    """What waits for one answer. Exactly one of the two is called, once, and neither may raise."""

    def answered(self, reply: object) -> None:
        """The answer as hiredis reads it; an error answer is a `hiredis.ReplyError`."""
        ...

    def failed(self, outage: Outage) -> None: ...


def outage(reply: ReplyError) -> Outage:
    """A server's error answer as an outage."""
    text = str(reply)
    return Outage(kind_of_answer(text), text[:200])


def bulk(word: bytes) -> bytes:
    """One word as it goes over the wire (RESP 2 bulk string)."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def pack(*words: bytes) -> bytes:
    """One command as it goes over the wire."""
    return b"".join((b"*%d\r\n" % len(words), *map(bulk, words)))


Ask: TypeAlias = "Callable[[bytes], Awaitable[object]]"
"""Sends one packed command and gives its answer; an error answer, or none in time, ends the attempt to connect."""


class Link:
    """The connection, made at the first command and again whenever it was lost.

    A breaker of its own: a command that is not answered within `timeout_s` proves the server hung, and everything
    waiting fails. From then on, after a failed attempt to connect, and after `leave`, commands fail at once while the
    link tries again behind them, now and then every quarter second. It is back when `prepare` has had all its answers,
    each within `timeout_s`: a dead or slow server delays visitors once and not each of them.
    """

    def __init__(self, url: str, *, timeout_s: float, setup: Sequence[bytes]) -> None:
        """`setup` is sent on every new connection before anything else, and must succeed."""
        self._address = RedisAddress(url)
        self._timeout_s = timeout_s
        self._setup = (*_greeting(self._address), *setup)
        self._wire: _Wire | None = None
        self._down: Outage | None = None
        self._closed = False
        self._connecting: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._unsent: list[tuple[bytes, Waiter]] = []
        self._prepare: Callable[[Ask], Awaitable[None]] = _nothing
        self._told: Callable[[Outage | None], None] = _nobody

    def tell(self, prepare: Callable[[Ask], Awaitable[None]], told: Callable[[Outage | None], None]) -> None:
        """`prepare` talks to each new server before any other command; `told` hears of each outage's begin, and of its
        end as None. To be called before the first command."""
        self._prepare, self._told = prepare, told

    async def open(self) -> None:
        """Connect; returns when that has worked or is known not to, as of now."""
        self._connect()
        if self._connecting is not None:
            await asyncio.wait({self._connecting})

    def send(self, command: bytes, waiter: Waiter) -> None:
        """Queue one packed command; it leaves at the end of this turn of the running loop, or when connected."""
        if self._down is not None:
            waiter.failed(self._down)
        elif self._wire is not None:
            self._wire.queue(command, waiter)
        else:
            self._unsent.append((command, waiter))
            if self._patience is None:
                self._patience = asyncio.get_running_loop().call_later(self._timeout_s, self._waited)
            self._connect()

    def leave(self, outage: Outage) -> None:
        """This server answers, but cannot do its work: an outage, until whoever the address names by then can."""
        if self._wire is not None:
            wire, self._wire = self._wire, None
            self._is_down(outage)
            wire.close()

    async def close(self) -> None:
        """Everything still waiting fails; so does every later command."""
        self._closed = True
        self._down = Outage("connect", "closed")
        if self._retry is not None:
            self._retry.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._fail_unsent(self._down)
        if self._wire is not None:
            wire = self._wire
            wire.close()
            await wire.closed.wait()

    def _connect(self) -> None:
        self._retry = None
        if self._connecting is None and not self._closed:
            self._connecting = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        connect_s = max(_CONNECT_S, self._timeout_s)
        wire = _Wire(self, connect_s)
        fault: Outage | None = None
        try:
            async with asyncio.timeout(connect_s):
                await self._address.dial(lambda: wire)
                await asyncio.gather(*[wire.ask(command) for command in self._setup])
            wire.expect_answers_in(self._timeout_s)
            await self._prepare(wire.ask)
        except _NoAnswerError as unanswered:
            fault = unanswered.outage
        except TimeoutError:
            fault = Outage("timeout", "no connection in time")
        except OSError as error:
            fault = Outage("connect", str(error)[:200])
        else:
            self._is_up(wire)
        finally:
            if self._wire is not wire:
                wire.close()
                await wire.closed.wait()
            self._connecting = None
            if fault is not None:
                self._is_down(fault, _FOLLOW_S if self._address.follow(fault.detail) else _RETRY_S)

    def _is_up(self, wire: _Wire) -> None:
        self._wire = wire
        was_down, self._down = self._down, None
        unsent, self._unsent = self._unsent, []
        self._end_patience()
        for command, waiter in unsent:
            wire.queue(command, waiter)
        if was_down is not None:
            self._told(None)

    def _is_down(self, outage: Outage, retry_s: float = 0.0) -> None:
        was_down, self._down = self._down, outage
        self._fail_unsent(outage)
        if self._retry is None and self._connecting is None and not self._closed:
            self._retry = asyncio.get_running_loop().call_later(retry_s, self._connect)
        if was_down is None and not self._closed:
            self._told(outage)

    def _waited(self) -> None:
        """Nobody waits longer for a connection than for an answer; the attempt goes on."""
        self._patience = None
        if self._unsent:
            self._is_down(Outage("timeout", "no connection in time"), _RETRY_S)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _fail_unsent(self, outage: Outage) -> None:
        self._end_patience()
        unsent, self._unsent = self._unsent, []
        for _, waiter in unsent:
            waiter.failed(outage)

    def lost(self, wire: _Wire, outage: Outage) -> None:
        """Called by the wire when it ends. A hang-up is made good at the next command; a hang is an outage."""
        if self._wire is wire:
            self._wire = None
            if outage.kind == "timeout":
                self._is_down(outage)


async def _nothing(ask: Ask) -> None:
    """A server that needs no more than its setup."""


def _nobody(outage: Outage | None) -> None:
    """Nobody listens."""


class _Wire(asyncio.Protocol):
    """One connection's life. Answers belong to the waiters in the order sent."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._out: list[bytes] = []
        self._pending: deque[Waiter] = deque()
        self._queued = 0
        self._answered = 0
        self._due: deque[tuple[float, int]] = deque()  # (loop time, commands queued by then), one per write
        self._watch: asyncio.TimerHandle | None = None
        self._outage: Outage | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not subclasses

    def expect_answers_in(self, timeout_s: float) -> None:
        """From now on, when all before has been answered."""
        self._timeout_s = timeout_s
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._due.clear()

    def ask(self, command: bytes) -> asyncio.Future[object]:
        """The answer, or _NoAnswerError."""
        waiter = _Once()
        self.queue(command, waiter)
        return waiter.future

    def queue(self, command: bytes, waiter: Waiter) -> None:
        if self._outage is not None:
            waiter.failed(self._outage)
            return
        self._pending.append(waiter)
        self._queued += 1
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)

    def _flush(self) -> None:
        out = self._out
        if not out or self._transport is None:
            return
        due_s = self._loop.time() + self._timeout_s
        self._due.append((due_s, self._queued))
        if self._watch is None:
            self._watch = self._loop.call_at(due_s, self._look)
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        self._out = []

    def _look(self) -> None:
        """One timer for everything in flight: has the oldest write had all its answers in time? Both loops read their
        sockets before they run their timers, so a loop that stood still does not take answers for missing."""
        due, now_s = self._due, self._loop.time()
        while due and due[0][1] <= self._answered:
            due.popleft()
        if due and due[0][0] <= now_s:
            self._end(Outage("timeout", "no answer in time"))
        else:
            self._watch = self._loop.call_at(due[0][0], self._look) if due else None

    def data_received(self, data: bytes) -> None:
        pending, gets = self._pending, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := gets()) is not False:
                self._answered += 1
                pending.popleft().answered(reply)
        except (HiredisError, IndexError) as error:
            self._end(Outage("other", f"not an answer of Redis: {type(error).__name__}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Outage("reset", str(exc)[:200] if exc else "connection closed"))
        self.closed.set()

    def close(self) -> None:
        self._end(Outage("reset", "closed by us"))

    def _end(self, outage: Outage) -> None:
        if self._outage is not None:
            return
        self._outage = outage
        self._out = []
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is None:
            self.closed.set()
        else:
            self._transport.abort()
        self._link.lost(self, outage)
        pending, self._pending = self._pending, deque()
        for waiter in pending:
            waiter.failed(outage)


class _NoAnswerError(Exception):
    def __init__(self, outage: Outage) -> None:
        self.outage = outage
        super().__init__(outage.kind)


class _Once:
    """A waiter as a future."""

    def __init__(self) -> None:
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def answered(self, reply: object) -> None:
        if isinstance(reply, ReplyError):
            self.failed(outage(reply))
        elif not self.future.done():
            self.future.set_result(reply)

    def failed(self, outage: Outage) -> None:
        if not self.future.done():
            self.future.set_exception(_NoAnswerError(outage))


def _greeting(address: RedisAddress) -> list[bytes]:
    login = [pack(b"AUTH", *address.login)] if address.login else []
    database = [pack(b"SELECT", b"%d" % address.db)] if address.db else []
    return login + database
