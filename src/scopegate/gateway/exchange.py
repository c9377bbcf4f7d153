"""One proxied exchange: the record that every step of the pipeline reads and completes, how its steps are run, and its
one exit.

A step returns None to go on, a Refusal or a Reply to end there, or a Pending to wait; nothing else can stop a request,
and every request leaves through `Exchange.finish`. No task is made for a request that need not wait: the connection on
either side calls the exchange back. What a request's body does is told to `incoming`, what the app does to
`forwarding`, once there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from scopegate import logs
from scopegate.clock import monotonic_s
from scopegate.edge.field_rules import REQUEST_RULES
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal, Reply, RequestHead, Target
from scopegate.errors import UpstreamError
from scopegate.gateway import answering
from scopegate.gateway.booking import Booking
from scopegate.gateway.client import Client
from scopegate.gateway.incoming import Incoming
from scopegate.gateway.ruleset import RoutePlan, Stray
from scopegate.gateway.section import NOBODY, HeaderSection
from scopegate.gateway.shared import Shared
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.gateway.watcher import NOBODY_WATCHES
from scopegate.limits.window import Spent

_GONE = 499
"""What is logged of a request whose client left before an answer."""
_UNREAD = RequestHead(b"", b"", "", [])
_UNNOTED = Noted([], REQUEST_RULES)
_log = logs.get("pipeline")


class Pending:
    """A step that waits. `then` is called with the finished future and decides how to go on."""

    __slots__ = ("future", "then")

    def __init__(self, future: asyncio.Future[Any], then: Callable[[Exchange, asyncio.Future[Any]], Outcome]) -> None:
        self.future = future
        self.then = then


Outcome = Refusal | Reply | Pending | None
Step = Callable[["Exchange"], Outcome]


class Forwarded(Protocol):
    """What an exchange asks of its app's side. `forwarding.Forwarding` is the one that serves."""

    def is_under_way(self) -> bool:
        """Whether the app has (some of) the request, and has not answered it whole."""
        ...

    def pause(self, paused: bool) -> None:
        """The client reads slower than the app answers (True), or catches up (False)."""
        ...

    def drop(self) -> None:
        """Nothing more is wanted of the app."""
        ...

    def on_deadline(self) -> None:
        """The app was waited for, in vain."""
        ...


class Exchange:
    """One request and its answer. The record that every step reads and completes."""

    section: HeaderSection
    target: Target
    plan: RoutePlan
    """Known to every step after `find_route`; `met` is also for those before it."""

    # what holds until a step says otherwise: read from the class, so that a request sets only what it changes
    method = ""
    path = ""
    counted_for = ""
    """The limit group among whose requests in flight this one counts; empty while it counts among nobody's."""
    scheme = b"http"
    asked_host = ""
    """The host that was asked for, where a trusted proxy told another than Host."""
    trace = b""
    stranger: Refusal | None = None
    """Why sign-in turns the visitor away, told once the request has been counted."""
    identity = b""
    shown = b""
    """What flags made of it: another visitor may be shown another answer."""
    spent: Spent | None = None
    booking: Booking | None = None
    """Settles with the answer what the request counts for, where a tier asks for that."""
    keep_alive = False
    cache_word = ""
    """How the cache answered it; empty where none was asked."""
    bytes_in = 0
    bytes_out = 0
    status = 0
    answer_begun = False
    finished = False
    _client_paused = False
    _pending: Pending | None = None

    def __init__(self, shared: Shared, client: Client) -> None:
        self.shared = shared
        self.rules = rules = shared.rules
        self.met: RoutePlan | Stray = rules.stray
        self.client = client
        self.head = _UNREAD
        self.notes = _UNNOTED
        self.caller = NOBODY
        self.watcher = NOBODY_WATCHES
        self.forwarding: Forwarded | None = None
        self.incoming: Incoming | None = None
        """The request's body, where it has one."""
        self.body_done = True
        self.started_s = monotonic_s()
        self.request_id = shared.next_request_id()
        shared.in_flight += 1

    # ── running the steps ───────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, head: RequestHead, steps: Iterable[Step]) -> None:
        """The head is in: run the pipeline as far as it goes without waiting."""
        self.head = head
        self._steps = iter(steps)
        self._advance()

    def _advance(self) -> None:
        outcome: Outcome = None
        try:
            for step in self._steps:
                outcome = step(self)
                if outcome is not None:
                    break
        except Exception as bug:
            outcome = self._bug(bug)
        if outcome is not None:
            self.take(outcome)

    def _bug(self, bug: Exception) -> Refusal:
        _log.error("request.bug", exc=bug, request_id=self.request_id.decode())
        return Refusal(500, "internal", "Something went wrong in the gateway.", close=True)

    def take(self, outcome: Refusal | Reply | Pending) -> None:
        """End here, or wait."""
        if isinstance(outcome, Refusal):
            self.refuse(outcome)
            return
        if isinstance(outcome, Reply):
            self.reply(outcome)
            return
        self._pending = outcome
        outcome.future.add_done_callback(self._resume)

    def wait_for(self, future: asyncio.Future[Any], then: Callable[[Exchange, asyncio.Future[Any]], Outcome]) -> None:
        """Outside the steps: `then` goes on when the future is done. It has a time-out of its own."""
        self.client.wait_until(None)
        self.take(Pending(future, then))

    def _resume(self, future: asyncio.Future[Any]) -> None:
        pending, self._pending = self._pending, None
        if self.finished or pending is None:
            _return_unused(future)
            return
        try:
            outcome = pending.then(self, future)
        except Exception as bug:
            outcome = self._bug(bug)
        if outcome is None:
            self._advance()
        else:
            self.take(outcome)

    # ── what the client's connection tells ──────────────────────────────────────────────────────────────────────────

    def on_client_paused(self, paused: bool) -> None:
        """The client reads slower than the app answers (True), or catches up (False)."""
        self._client_paused = paused
        if not self.watcher.on_client_paused(paused) and self.forwarding is not None:
            self.forwarding.pause(paused)

    def on_deadline(self) -> None:
        """Nothing moved for as long as the policy allows."""
        if self.watcher.on_deadline():
            return
        if self.incoming is not None and self.incoming.is_awaited():
            self.refuse_or_break(Refusal(408, "body_timeout", "The request's body came too slowly.", close=True))
        elif self._client_paused:
            self.break_off("client_stalled")
        elif self.forwarding is not None:
            self.forwarding.on_deadline()

    def on_client_gone(self) -> None:
        """The visitor left. An order under way goes on without them; anything else is dropped."""
        if not self.finished and not self.watcher.on_client_gone():
            self._leave("client_gone")

    def on_drain(self) -> None:
        """The gateway is asked to stop."""
        self.watcher.on_drain()

    def on_stop(self) -> None:
        """The drain time is over. Of an order that the app was given nobody will know what became."""
        if self.finished:
            return
        sent = self.forwarding is not None and self.forwarding.is_under_way()
        self.watcher.on_upstream_error(UpstreamError("reset", "stopped", sent=sent))
        self._leave("stopped")

    # ── what we say ourselves ───────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, refusal: Refusal) -> None:
        """Answer by ourselves. The app's connection, if there is one, is dropped."""
        if self.finished:
            return
        self._drop_app()
        self.met.tally.refuse(refusal.code)
        if refusal.close or not self.body_done or self.shared.draining:
            self.keep_alive = False
        if not self.keep_alive and not refusal.close:
            refusal = Refusal(refusal.status, refusal.code, refusal.detail, refusal.fields, close=True)
        self.status = refusal.status
        self.client.write(answering.refused(self, self.met, refusal, self.shared.now_s()))
        self.finish(refusal.code)

    def reply(self, reply: Reply) -> None:
        """Answer by ourselves what asks nothing of the app."""
        if not self.body_done or self.shared.draining:
            self.keep_alive = False
        self.status = reply.status
        self.bytes_out = len(reply.body)
        self.client.write(answering.replied(self, reply, self.shared.http_date()))
        self.finish()

    # ── the ways out ────────────────────────────────────────────────────────────────────────────────────────────────

    def refuse_or_break(self, refusal: Refusal) -> None:
        if self.answer_begun:
            self.break_off(refusal.code)
        else:
            self.refuse(refusal)

    def break_off(self, note: str) -> None:
        """End in the midst of the answer, so that the client cannot take it for a whole one."""
        self._drop_app()
        self.client.abort()
        self.keep_alive = False
        self.finish(note)

    def _leave(self, note: str) -> None:
        self._drop_app()
        if self._pending is not None:
            self._pending.future.cancel()
        self.status = self.status or _GONE
        self.finish(note)

    def _drop_app(self) -> None:
        if self.forwarding is not None:
            self.forwarding.drop()

    def finish(self, note: str = "") -> None:
        """The one exit: count, log, and let the connection go on."""
        if self.finished:
            return
        self.finished = True
        shared, met = self.shared, self.met
        shared.in_flight -= 1
        if self.counted_for:
            shared.askers.leave(self.counted_for)
        if self.booking is not None:
            self.booking.settle(self.status if self.answer_begun or self.status != _GONE else 0, self.bytes_in)
        self.forwarding = None  # its sides know the exchange: no collector shall be needed to part them
        if self.incoming is not None:
            self.incoming.let_go()
            self.incoming = None
        seconds = monotonic_s() - self.started_s
        met.tally.count(self.status, self.watcher.on_finish(seconds), self.bytes_in, self.bytes_out)
        self.watcher = NOBODY_WATCHES
        shared.access.write(
            self.request_id,
            self.caller.address or self.client.peer,
            self.method,
            self.path,
            met.name,
            self.status,
            self.bytes_in,
            self.bytes_out,
            seconds,
            note or self.cache_word,
        )
        self.client.exchange_done(reusable=self.keep_alive and self.body_done, linger=bool(note) or self.status == 101)


def _return_unused(future: asyncio.Future[Any]) -> None:
    """A connection that came too late goes back to its pool."""
    if not future.cancelled() and future.exception() is None and isinstance(future.result(), UpstreamConnection):
        future.result().give_back()
