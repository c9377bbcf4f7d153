"""One proxied exchange: the record that every step of the pipeline reads and completes, and what the connections on
both sides tell it once it is forwarded.

A step returns None to go on, a Refusal to end there, or a Pending to wait; nothing else can stop a request, and every
request leaves through `Exchange.finish`. No task is made for a request that need not wait: the connection on either
side calls the exchange back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from scopegate import logs
from scopegate.clock import monotonic_s
from scopegate.edge import headers
from scopegate.edge.field_rules import RATE_LIMIT_FIELDS
from scopegate.edge.framing import LAST_CHUNK, as_chunk
from scopegate.edge.headers import CHUNKED, STATUS_LINES, UNTIL_EOF, Noted
from scopegate.edge.verdict import Refusal, Reply, RequestHead, Target
from scopegate.errors import UpstreamError
from scopegate.gateway import answering
from scopegate.gateway.client import Client
from scopegate.gateway.events import begin_events
from scopegate.gateway.ruleset import RoutePlan, Ruleset
from scopegate.gateway.section import NOBODY, HeaderSection
from scopegate.gateway.upstream import Home, UpstreamConnection
from scopegate.limits import breaker
from scopegate.limits.window import Spent
from scopegate.metrics.catalogue import NO_ROUTE, UPSTREAM_ERRORS
from scopegate.types import Fields

if TYPE_CHECKING:
    from scopegate.gateway.app import Gateway
    from scopegate.gateway.bodies import FormJudge, WatchedForm
    from scopegate.gateway.intake import OrderInHand
    from scopegate.gateway.streams import Stream

HOLD_BYTES = 1024 * 1024
"""A chunked body is held back up to this size, so that one over its limit never reaches the app."""

MIN_BODY_BYTES_PER_S = 240
"""Slower than this in the long run is an attack or a dead line (Kestrel's figure)."""

_log = logs.get("pipeline")


class Pending:
    """A step that waits. `then` is called with the finished future and decides how to go on."""

    __slots__ = ("future", "then")

    def __init__(self, future: asyncio.Future[Any], then: Callable[[Exchange, asyncio.Future[Any]], Outcome]) -> None:
        self.future = future
        self.then = then


Outcome = Refusal | Reply | Pending | None
Step = Callable[["Exchange"], Outcome]


class Exchange:
    """One request and its answer. The record that every step reads and completes."""

    head: RequestHead
    section: HeaderSection
    notes: Noted
    target: Target
    again: Step
    """The step that repeats a request which is safe to repeat."""
    upstream_started_s: float

    # what holds until a step says otherwise: read from the class, so that a request sets only what it changes
    method = ""
    path = ""
    plan: RoutePlan | None = None
    caller = NOBODY
    counted_for = ""
    """The limit group among whose requests in flight this one counts; empty while it counts among nobody's."""
    scheme = b"http"
    asked_host = ""
    """The host that was asked for, where a trusted proxy told another than Host."""
    trace = b""
    stranger: Refusal | None = None
    """Why sign-in turns the visitor away, told once the request has been counted."""
    identity = b""
    spent: Spent | None = None
    form: FormJudge | WatchedForm | None = None
    """Who judges the body as it passes."""
    holds_whole = False
    """The body is gathered here to its end, as far as this process may hold it."""
    order: OrderInHand | None = None
    stream: Stream | None = None
    """A WebSocket connection or an event stream; before the answer, a handshake."""
    idle_s: float | None = None
    """The longest silence inside the answer, where the upstream's does not hold."""
    keep_alive = False
    body_length = 0
    """Of the request: bytes, or CHUNKED. A chunked body that is all here goes on with its length."""
    body_done = True
    bytes_in = 0
    bytes_out = 0
    status = 0
    answer_begun = False
    finished = False
    retried = False
    permit: breaker.Permit | None = None
    """Of the upstream's breaker, until it is told what came of the request."""
    upstream: UpstreamConnection | None = None
    tried: frozenset[Home] = frozenset()
    _answer_length = 0
    _held: bytearray | None = None
    _held_bytes = 0
    _app_paused = False
    _app_paused_at_s = 0.0
    _app_paused_for_s = 0.0
    _client_paused = False
    _waits_for_body: asyncio.Future[None] | None = None
    _pending: Pending | None = None

    def __init__(self, gate: Gateway, client: Client) -> None:
        self.gate = gate
        self.rules: Ruleset = gate.rules
        self.client = client
        self.started_s = monotonic_s()
        self.request_id = gate.next_request_id()
        gate.in_flight += 1

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
            self._take(outcome)

    def _bug(self, bug: Exception) -> Refusal:
        _log.error("request.bug", exc=bug, request_id=self.request_id.decode())
        return Refusal(500, "internal", "Something went wrong in the gateway.", close=True)

    def _take(self, outcome: Refusal | Reply | Pending) -> None:
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
        self._take(Pending(future, then))

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
            self._take(outcome)

    # ── the request's body ──────────────────────────────────────────────────────────────────────────────────────────

    def on_body(self, payload: bytes, done: bool) -> None:
        """A piece of the request's body, unframed, in order."""
        if self.finished:
            return
        self.bytes_in += len(payload)
        self.body_done = done
        if self.plan is not None and self.bytes_in > self.plan.max_body_bytes:
            self.refuse_or_break(too_large(self.plan))
        elif not done and not self._app_paused and self._is_too_slow():
            self.on_deadline()
        elif self.form is not None:
            verdict = self.form.take(payload, done)
            if isinstance(verdict, Refusal):
                self.refuse_or_break(verdict)
            else:
                self._pass_on(verdict, done)
        else:
            self._pass_on(payload, done)

    def _pass_on(self, payload: bytes, done: bool) -> None:
        if self.upstream is not None:
            self.upstream.send(self._framed(payload, done), done)
            self._wait_for_what_is_next()
        else:
            self._hold(payload)

    def _is_too_slow(self) -> bool:
        """A body may trickle for a while, but has to come at a minimum rate in the long run, and whole in `body_s`.
        The time in which the app did not take it is not the client's."""
        timeouts = self.rules.timeouts
        taken_s = self.gate.loop.time() - self.started_s - self._app_paused_for_s
        excess_s = taken_s - timeouts.body_idle_s
        return taken_s > timeouts.body_s or (excess_s > 0 and self.bytes_in < excess_s * MIN_BODY_BYTES_PER_S)

    def _wait_for_body(self) -> None:
        """For its next piece, as far as there is time left for all of it."""
        timeouts = self.rules.timeouts
        left_s = self.started_s + self._app_paused_for_s + timeouts.body_s - self.gate.loop.time()
        self.client.wait_until(min(timeouts.body_idle_s, left_s))

    def _hold(self, payload: bytes) -> None:
        if payload:
            if self._held is None:
                self._held = bytearray()
            self._held += payload
            self._held_bytes += len(payload)
            self.gate.held_bytes += len(payload)
            self.gate.holders.add(self.caller.group, len(payload))
        waiting = self._waits_for_body
        if waiting is not None and not self.body_done:
            self._wait_for_body()
        if waiting is not None and not waiting.done() and (self.body_done or not self._may_hold_more()):
            self.client.pause_body(True)
            self.client.wait_until(None)
            waiting.set_result(None)
        elif not self.body_done and waiting is None:
            self.client.pause_body(True)

    def _may_hold_more(self) -> bool:
        within = self.holds_whole or self._held_bytes < HOLD_BYTES
        return within and self.gate.may_hold(self.caller.group, 1, self._held_bytes)

    def hold_body(self) -> asyncio.Future[None]:
        """Gather the body here before the app hears of the request: all of it, or as much as may be held."""
        self._waits_for_body = self.gate.loop.create_future()
        self._wait_for_body()
        self.client.pause_body(False)
        self.client.read_body()
        return self._waits_for_body

    def held(self) -> bytes:
        return b"" if self._held is None else bytes(self._held)

    def drop_held(self) -> bytes:
        held = self.held()
        if self._held_bytes:
            self.gate.held_bytes -= self._held_bytes
            self.gate.holders.add(self.caller.group, -self._held_bytes)
        self._held = None
        self._held_bytes = 0
        self._waits_for_body = None
        return held

    def _framed(self, payload: bytes, done: bool) -> bytes:
        if self.body_length != CHUNKED:
            return payload
        framed = as_chunk(payload) if payload else b""
        return framed + LAST_CHUNK if done else framed

    # ── the app's side ──────────────────────────────────────────────────────────────────────────────────────────────

    def use(self, connection: UpstreamConnection) -> None:
        """Send the request on this connection."""
        plan = self.plan
        assert plan is not None
        if not self.body_done and not self._held:
            self.client.read_body()  # what has come with the head goes out with it
            if self.finished:
                connection.give_back()
                return
        if self.body_length == CHUNKED and self.body_done:
            self.body_length = self._held_bytes
        head = headers.request_head(
            self.target,
            self._forwarded_lines(),
            self.body_length,
            request_id=self.request_id,
            identity=self.identity,
            trace=self.trace,
        )
        may_repeat = connection.reused or len(plan.pool.servers) > 1
        retryable = may_repeat and self.is_repeatable()
        data = head + self._framed(self.drop_held(), self.body_done) if self.body_length else head
        self.upstream = connection
        self.retried = self.retried or not retryable
        self.upstream_started_s = monotonic_s()
        connection.start(self, self.method, data, self.body_done, self.stream is not None)
        self._wait_for_what_is_next()
        if not self.body_done:
            self.client.pause_body(self._app_paused)

    def is_repeatable(self) -> bool:
        """Whether it does no harm if the app sees the request twice, and all of it could be sent again."""
        return self.method in _SAFE and self.order is None and not self._held and self.body_done

    def _forwarded_lines(self) -> bytes:
        section, notes = self.section, self.notes
        is_own = notes is section.notes  # else a step has changed what goes on
        if is_own and section.lines:
            return section.lines
        lines = headers.forwarded_lines(
            notes,
            host=self.target.host,
            public=section.public if self.rules.tells_host_on else None,
            address=self.caller.address.encode(),
            chain=section.chain,
            scheme=self.scheme,
        )
        if is_own:
            section.lines = lines
        return lines

    def _wait_for_what_is_next(self) -> None:
        plan = self.plan
        assert plan is not None
        if not self.body_done and not self._app_paused:
            self._wait_for_body()
        elif self.answer_begun:
            self.client.wait_until(self.idle_s or plan.route.upstream.timeouts.idle_s)
        else:
            self.client.wait_until(plan.route.upstream.timeouts.response_s)

    def on_upstream_paused(self, paused: bool) -> None:
        """The app reads slower than the client sends: from now on it is the app that is waited for."""
        self._count_pause(paused)
        self.client.pause_body(paused)
        self._wait_for_what_is_next()

    def _count_pause(self, paused: bool) -> None:
        now_s = self.gate.loop.time()
        if self._app_paused:
            self._app_paused_for_s += now_s - self._app_paused_at_s
        self._app_paused = paused
        self._app_paused_at_s = now_s

    def on_client_paused(self, paused: bool) -> None:
        """The client reads slower than the app answers (True), or catches up (False)."""
        self._client_paused = paused
        if self.stream is not None:
            self.stream.on_client_paused(paused)
        if self.upstream is not None:
            self.upstream.pause(paused)

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        """The app's answer has begun, and with `done` it is all there."""
        plan = self.plan
        assert plan is not None
        plan.upstream_latencies.observe(monotonic_s() - self.upstream_started_s)
        if done:
            self.upstream = None
        if self.permit is not None:
            self.settle(breaker.Outcome.SUCCESS)
        if self.order is not None:
            self.order.on_answer(status, notes, payload, done)
            if self.order.collecting:
                if not done:
                    self._wait_for_what_is_next()
                return
        self.send_answer(status, notes, payload, done)

    def on_answer_body(self, payload: bytes, done: bool) -> None:
        if done:
            self.upstream = None
        if self.order is not None and self.order.collecting:
            self.order.on_answer_body(payload, done)
            if self.order.collecting and not done:
                self._wait_for_what_is_next()
            return
        self._send_body(payload, done)

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """A switch of protocols, for who asked for one."""
        assert self.stream is not None
        self.stream.on_upgrade(fields, rest)

    def send_switch(self, notes: Noted) -> None:
        """The app's 101, to the client. Neither connection will serve another request."""
        plan = self.plan
        assert plan is not None
        plan.upstream_latencies.observe(monotonic_s() - self.upstream_started_s)
        self.settle(breaker.Outcome.SUCCESS)
        self.status = 101
        self.answer_begun = self.keep_alive = True
        self.client.write(answering.app_head(self, 101, notes, UNTIL_EOF))
        self.keep_alive = False

    def on_upstream_error(self, error: UpstreamError) -> None:
        plan, connection, self.upstream = self.plan, self.upstream, None
        assert plan is not None
        UPSTREAM_ERRORS.labels(plan.route.upstream.name, error.kind).inc()
        if not self.retried and error.kind == "reset" and connection is not None and not connection.answered:
            # a kept-alive connection that the app had already closed (RFC 9112 9.3.1), or one of several servers: safe
            # requests get one more try
            self.retried = True
            self.tried |= {connection.home}
            outcome = self.again(self)
            if outcome is not None:
                self._take(outcome)
            return
        is_excused = error.kind == "reset" and not self.body_done  # the client may have been too slow for the app
        self.settle(breaker.Outcome.IGNORED if is_excused else breaker.Outcome.FAILURE)
        if self.order is not None:
            self.order.on_upstream_error(error)
        self.fail(error)

    def on_interim(self, status: int, notes: Noted) -> None:
        """To a client that knows of such (RFC 9110 15.2), before an answer that is not held back."""
        if self.head.version == "1.1" and self.order is None and not self.answer_begun:
            if self.spent is not None:
                notes = notes.without(RATE_LIMIT_FIELDS)
            self.client.write(b"%b%b\r\n" % (STATUS_LINES[status], notes.lines))

    def unreached(self, error: UpstreamError) -> Refusal:
        """The app was sent nothing: what the client is told."""
        self.settle(breaker.Outcome.IGNORED if error.kind == "busy" else breaker.Outcome.FAILURE)
        if self.order is not None:
            self.order.on_upstream_error(error)
        return refusal_for(error)

    def settle(self, outcome: breaker.Outcome) -> None:
        """Tell the upstream's breaker, once, what came of the request."""
        permit, self.permit = self.permit, None
        if permit is not None and self.plan is not None and self.plan.pool.guard is not None:
            self.plan.pool.guard.record(permit, outcome)

    def fail(self, error: UpstreamError) -> None:
        """The app gave no (whole) answer."""
        if self.answer_begun:
            self.break_off(error.kind)
            return
        self.refuse(refusal_for(error))

    # ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────

    def send_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        """Head and first bytes of the app's answer, to the client."""
        plan = self.plan
        assert plan is not None
        if plan.events is not None and not done:
            refusal = begin_events(self, plan.events, notes)
            if refusal is not None:
                self.refuse(refusal)
                return
        self.status = status
        self.answer_begun = True
        length = notes.length
        if length < 0 and done:
            length = len(payload)
        if not self.body_done or self.gate.draining:
            self.keep_alive = False
        if length < 0 and self.head.version != "1.1":
            self.keep_alive = False
            length = UNTIL_EOF
        elif length < 0:
            length = CHUNKED
        self._answer_length = length
        head = answering.app_head(self, status, notes, length)
        self.bytes_out += len(payload)
        self.client.write(head + self._framed_answer(payload, done) if payload else head)
        if done:
            self.finish()
        elif self.stream is None or self.stream.on_body(payload):
            self._wait_for_what_is_next()

    def _framed_answer(self, payload: bytes, done: bool) -> bytes:
        if self._answer_length != CHUNKED:
            return payload
        framed = as_chunk(payload) if payload else b""
        return framed + LAST_CHUNK if done else framed

    def _send_body(self, payload: bytes, done: bool) -> None:
        if self.stream is not None and not self.stream.on_body(payload):
            return
        self.bytes_out += len(payload)
        data = self._framed_answer(payload, done)
        if data:
            self.client.write(data)
        if done:
            self.finish()
        else:
            self._wait_for_what_is_next()

    def refuse(self, refusal: Refusal) -> None:
        """Answer by ourselves. The app's connection, if there is one, is dropped."""
        if self.finished:
            return
        self._drop_upstream()
        plan = self.plan
        tally = plan.tally if plan is not None else self.rules.stray
        tally.refuse(refusal.code)
        if refusal.close or not self.body_done or self.gate.draining:
            self.keep_alive = False
        if not self.keep_alive and not refusal.close:
            refusal = Refusal(refusal.status, refusal.code, refusal.detail, refusal.fields, close=True)
        self.status = refusal.status
        self.client.write(answering.refused(self, refusal))
        self.finish(refusal.code)

    def reply(self, reply: Reply) -> None:
        """Answer by ourselves what asks nothing of the app."""
        if not self.body_done or self.gate.draining:
            self.keep_alive = False
        self.status = reply.status
        self.client.write(answering.replied(self, reply))
        self.finish()

    # ── the ways out ────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, note: str = "") -> None:
        """The one exit: count, log, and let the connection go on."""
        if self.finished:
            return
        self.finished = True
        gate, plan = self.gate, self.plan
        gate.in_flight -= 1
        if self.counted_for:
            gate.askers.leave(self.counted_for)
        if self._held_bytes:
            self.drop_held()
        if self.permit is not None:
            self.settle(breaker.Outcome.IGNORED)
        seconds = monotonic_s() - self.started_s
        waited_s = seconds if self.stream is None else self.stream.leave()
        tally = plan.tally if plan is not None else self.rules.stray
        tally.count(self.status, waited_s, self.bytes_in, self.bytes_out)
        gate.access.write(
            self.request_id,
            self.caller.address or self.client.peer,
            self.method,
            self.path,
            plan.name if plan is not None else NO_ROUTE,
            self.status,
            self.bytes_in,
            self.bytes_out,
            seconds,
            note,
        )
        self.client.exchange_done(reusable=self.keep_alive and self.body_done, linger=bool(note) or self.status == 101)

    def on_deadline(self) -> None:
        """Nothing moved for as long as the policy allows."""
        if self.stream is not None and self.stream.on_deadline():
            return
        if not self.body_done and not self._app_paused:
            self.refuse_or_break(Refusal(408, "body_timeout", "The request's body came too slowly.", close=True))
        elif self._client_paused:
            self.break_off("client_stalled")
        else:
            if self.plan is not None:
                UPSTREAM_ERRORS.labels(self.plan.route.upstream.name, "timeout").inc()
            if self.upstream is not None:
                self.upstream.blame()
            self.settle(breaker.Outcome.FAILURE)
            error = UpstreamError("timeout")
            if self.order is not None:
                self.order.on_upstream_error(error)
            self.refuse_or_break(refusal_for(error))

    def refuse_or_break(self, refusal: Refusal) -> None:
        if self.answer_begun:
            self.break_off(refusal.code)
        else:
            self.refuse(refusal)

    def break_off(self, note: str) -> None:
        """End in the midst of the answer, so that the client cannot take it for a whole one."""
        self._drop_upstream()
        self.client.abort()
        self.keep_alive = False
        self.finish(note)

    def end_early(self, note: str) -> None:
        """A proper end of an answer without a length, where the protocol in it allows one at any time."""
        self._drop_upstream()
        self.keep_alive = False
        if self._answer_length == CHUNKED:
            self.client.write(LAST_CHUNK)
        self.finish(note)

    def on_client_gone(self) -> None:
        """The visitor left. An order under way goes on without them; anything else is dropped."""
        if self.finished:
            return
        if self.order is not None and self.order.goes_on_alone():
            return
        if self.stream is not None and self.stream.on_client_gone():
            return
        self._leave("client_gone")

    def on_drain(self) -> None:
        """The gateway is asked to stop. An answer may take the drain time; a stream would never end."""
        if self.stream is not None:
            self.stream.on_drain()

    def on_stop(self) -> None:
        """The drain time is over. Of an order that the app was given nobody will know what became."""
        if self.finished:
            return
        if self.order is not None:
            self.order.on_upstream_error(UpstreamError("reset", "stopped", sent=self.upstream is not None))
        self._leave("stopped")

    def _leave(self, note: str) -> None:
        self._drop_upstream()
        if self._pending is not None:
            self._pending.future.cancel()
        self.status = self.status or 499
        self.finish(note)

    def _drop_upstream(self) -> None:
        connection, self.upstream = self.upstream, None
        if connection is not None:
            connection.abort()


def _return_unused(future: asyncio.Future[Any]) -> None:
    """A connection that came too late goes back to its pool."""
    if not future.cancelled() and future.exception() is None and isinstance(future.result(), UpstreamConnection):
        future.result().give_back()


_SAFE = frozenset(["GET", "HEAD", "OPTIONS"])


def too_large(plan: RoutePlan) -> Refusal:
    return Refusal(413, "body_too_large", f"The body may have at most {plan.max_body_bytes} bytes here.", close=True)


def refusal_for(error: UpstreamError) -> Refusal:
    """How an outage of the app looks to the client."""
    if error.kind == "timeout":
        return Refusal(504, "upstream_timeout", "The app did not answer in time.")
    if error.kind in ("busy", "open"):
        wait_s = math.ceil(error.retry_after_s or 1)
        fields = ((b"retry-after", b"%d" % wait_s),)
        return Refusal(503, f"upstream_{error.kind}", "The app takes no more requests right now.", fields)
    return Refusal(502, f"upstream_{error.kind}", "The app cannot be reached or gave no valid answer.")
