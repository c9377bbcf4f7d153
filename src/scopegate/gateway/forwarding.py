"""The forwarding side of an exchange: a connection to the app, the request on its way there, and the app's answer on
its way to the client.

`begin` is the pipeline's last step. What happens from there on, the connection tells (`upstream.Exchanging`). Whatever
comes of it, the upstream's breaker is told once.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial

from scopegate.clock import monotonic_s
from scopegate.edge import headers
from scopegate.edge.framing import LAST_CHUNK, as_chunk
from scopegate.edge.headers import CHUNKED, UNTIL_EOF, Noted
from scopegate.edge.verdict import Refusal
from scopegate.errors import UpstreamError
from scopegate.gateway import answering
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.upstream import Home, UpstreamConnection
from scopegate.gateway.waiting import Connecting
from scopegate.limits import breaker
from scopegate.limits.breaker import Denied
from scopegate.metrics.catalogue import UPSTREAM_ERRORS
from scopegate.types import Fields

_SAFE = frozenset(["GET", "HEAD", "OPTIONS"])
_NOWHERE: frozenset[Home] = frozenset()


class Forwarding:
    """One request at the app."""

    __slots__ = (
        "_answer_length",
        "_connection",
        "_idle_s",
        "_permit",
        "_plan",
        "_repeatable",
        "_retried",
        "_started_s",
        "_tried",
        "_x",
    )

    def __init__(self, x: Exchange) -> None:
        self._x = x
        self._plan = x.plan
        self._connection: UpstreamConnection | None = None
        self._permit: breaker.Permit | None = None
        """Of the upstream's breaker, until it is told what came of the request."""
        self._tried = _NOWHERE
        self._repeatable = False
        self._retried = False
        self._started_s = 0.0
        self._idle_s: float | None = None
        """The longest silence inside the answer, where the upstream's does not hold."""
        self._answer_length = 0

    # ── finding a connection ────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> Outcome:
        """To the app, also once more."""
        pool = self._plan.pool
        if pool.guard is not None and self._permit is None:
            verdict = pool.guard.admit()
            if isinstance(verdict, Denied):
                return self._unreached(UpstreamError("open", sent=False, retry_after_s=verdict.retry_after_s))
            self._permit = verdict
        self._repeatable = self._is_repeatable()
        connection = pool.acquire(self._tried, fresh=self._retried, once=not self._repeatable)
        if isinstance(connection, Connecting):
            self._x.client.wait_until(None)
            return Pending(connection.future, partial(self._connected, connection))
        self._use(connection)
        return None

    def _connected(self, waited: Connecting, _x: Exchange, future: asyncio.Future[UpstreamConnection]) -> Outcome:
        plan = self._plan
        if waited.server is not None:
            self._tried |= {waited.server}
        try:
            connection = future.result()
            if not (connection.is_usable() or connection.reused):
                raise UpstreamError("connect", "closed at once", sent=False)
        except UpstreamError as error:
            if error.kind != "busy":
                UPSTREAM_ERRORS.labels(plan.route.upstream.name, error.kind).inc()
                if len(self._tried) < len(plan.pool.servers):
                    return self.begin()  # nothing was sent: any request may try elsewhere
            return self._unreached(error)
        if not connection.is_usable():
            return self.begin()
        self._use(connection)
        return None

    def _unreached(self, error: UpstreamError) -> Refusal:
        """The app was sent nothing: what the client is told."""
        self._settle(breaker.CallOutcome.IGNORED if error.kind == "busy" else breaker.CallOutcome.FAILURE)
        self._x.watcher.on_upstream_error(error)
        return refusal_for(error)

    def _settle(self, outcome: breaker.CallOutcome) -> None:
        """Tell the upstream's breaker, once, what came of the request."""
        permit, self._permit = self._permit, None
        if permit is not None and self._plan.pool.guard is not None:
            self._plan.pool.guard.record(permit, outcome)

    # ── the request ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _use(self, connection: UpstreamConnection) -> None:
        """Send the request on this connection."""
        x, incoming = self._x, self._x.incoming
        length = 0
        if incoming is not None:
            incoming.read_now()
            if x.finished:
                connection.give_back()
                return
            incoming.go_on_to(self)
            length = incoming.length
        head = headers.request_head(
            x.target,
            self._lines(),
            length,
            request_id=x.request_id,
            identity=x.identity,
            trace=x.trace,
        )
        if incoming is not None and length:
            head += _framed(length, incoming.let_go(), x.body_done)
        self._connection = connection
        if not (self._repeatable and (connection.reused or len(self._plan.pool.servers) > 1)):
            self._retried = True
        self._started_s = monotonic_s()
        connection.start(self, x.method, head, x.body_done, x.watcher.switches)
        self._wait_for_what_is_next()
        if incoming is not None and not x.body_done:
            x.client.pause_body(incoming.app_paused)

    def _is_repeatable(self) -> bool:
        """Whether it does no harm if the app sees the request twice, and all of it could be sent again."""
        x = self._x
        if x.method not in _SAFE or not x.body_done or not x.watcher.may_repeat:
            return False
        return x.incoming is None or not x.incoming.holds_any()

    def _lines(self) -> bytes:
        """The request's field lines, kept with the section they were made of."""
        x = self._x
        section, notes = x.section, x.notes
        is_own = notes is section.notes  # else a step has changed what goes on
        if is_own and section.lines:
            return section.lines
        lines = headers.forwarded_lines(
            notes,
            host=x.target.host,
            public=section.public if x.rules.tells_host_on else None,
            address=x.caller.address.encode(),
            chain=section.chain,
            scheme=x.scheme,
        )
        if is_own:
            section.lines = lines
        return lines

    def send_body(self, payload: bytes, done: bool) -> None:
        """More of the request's body."""
        incoming = self._x.incoming
        if self._connection is not None and incoming is not None:
            self._connection.send(_framed(incoming.length, payload, done), done)
            self._wait_for_what_is_next()

    def _wait_for_what_is_next(self) -> None:
        x = self._x
        if x.incoming is not None and x.incoming.is_awaited():
            x.incoming.wait()
            return
        plan = self._plan
        x.client.wait_until((self._idle_s or plan.idle_s) if x.answer_begun else plan.response_s)

    # ── what an exchange asks ───────────────────────────────────────────────────────────────────────────────────────

    def is_under_way(self) -> bool:
        return self._connection is not None

    def pause(self, paused: bool) -> None:
        if self._connection is not None:
            self._connection.pause(paused)

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self._permit is not None:
            self._settle(breaker.CallOutcome.IGNORED)

    def on_deadline(self) -> None:
        UPSTREAM_ERRORS.labels(self._plan.route.upstream.name, "timeout").inc()
        if self._connection is not None:
            self._connection.blame()
        self._settle(breaker.CallOutcome.FAILURE)
        error = UpstreamError("timeout")
        self._x.watcher.on_upstream_error(error)
        if not self._x.finished:
            self._x.refuse_or_break(refusal_for(error))

    # ── what the app's connection tells ─────────────────────────────────────────────────────────────────────────────

    def on_upstream_paused(self, paused: bool) -> None:
        """The app reads slower than the client sends: from now on it is the app that is waited for."""
        if self._x.incoming is not None:
            self._x.incoming.pause(paused)
        self._x.client.pause_body(paused)
        self._wait_for_what_is_next()

    def on_interim(self, status: int, notes: Noted) -> None:
        """To a client that knows of such (RFC 9110 15.2), before an answer that is not held back."""
        x = self._x
        if x.head.version == "1.1" and x.watcher.passes_interim and not x.answer_begun:
            x.client.write(answering.interim(x, status, notes))

    def on_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        """The app's answer has begun, and with `done` it is all there."""
        self._plan.upstream_latencies.observe(monotonic_s() - self._started_s)
        if done:
            self._connection = None
        if self._permit is not None:
            self._settle(breaker.CallOutcome.SUCCESS)
        if self._x.watcher.on_answer(self, status, notes, payload, done):
            self.send_answer(status, notes, payload, done)
        elif not done:
            self._wait_unless_finished()

    def on_answer_body(self, payload: bytes, done: bool) -> None:
        if done:
            self._connection = None
        if self._x.watcher.on_answer_body(payload, done):
            self._send_body(payload, done)
        elif not done:
            self._wait_unless_finished()

    def _wait_unless_finished(self) -> None:
        if not self._x.finished:
            self._wait_for_what_is_next()

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """A switch of protocols, for who asked for one."""
        assert self._connection is not None
        self._x.watcher.on_upgrade(self, self._connection, fields, rest)

    def on_upstream_error(self, error: UpstreamError) -> None:
        """The app gave no (whole) answer."""
        x, connection, self._connection = self._x, self._connection, None
        UPSTREAM_ERRORS.labels(self._plan.route.upstream.name, error.kind).inc()
        if not self._retried and error.kind == "reset" and connection is not None and not connection.answered:
            # a kept-alive connection that the app had already closed (RFC 9112 9.3.1), or one of several servers: safe
            # requests get one more try
            self._retried = True
            self._tried |= {connection.home}
            outcome = self.begin()
            if outcome is not None:
                x.take(outcome)
            return
        is_excused = error.kind == "reset" and not x.body_done  # the client may have been too slow for the app
        self._settle(breaker.CallOutcome.IGNORED if is_excused else breaker.CallOutcome.FAILURE)
        x.watcher.on_upstream_error(error)
        if x.finished:
            return
        if x.answer_begun:
            x.break_off(error.kind)
        else:
            x.refuse(refusal_for(error))

    # ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────────

    def send_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        """Head and first bytes of the app's answer, to the client."""
        x = self._x
        x.status = status
        x.answer_begun = True
        if x.booking is not None:
            x.booking.on_answer(notes)
        length = notes.length
        if length < 0 and done:
            length = len(payload)
        if not x.body_done or x.shared.draining:
            x.keep_alive = False
        if length < 0 and x.head.version != "1.1":
            x.keep_alive = False
            length = UNTIL_EOF
        elif length < 0:
            length = CHUNKED
        self._answer_length = length
        head = answering.app_head(x, self._plan, status, notes, length, x.shared)
        x.bytes_out += len(payload)
        x.client.write(head + _framed(length, payload, done) if payload else head)
        if done:
            x.finish()
        elif x.watcher.on_answer_body(payload, False):
            self._wait_for_what_is_next()

    def _send_body(self, payload: bytes, done: bool) -> None:
        x = self._x
        x.bytes_out += len(payload)
        data = _framed(self._answer_length, payload, done)
        if data:
            x.client.write(data)
        if done:
            x.finish()
        else:
            self._wait_for_what_is_next()

    def send_switch(self, notes: Noted) -> None:
        """The app's 101, to the client. Neither connection will serve another request."""
        x = self._x
        self._plan.upstream_latencies.observe(monotonic_s() - self._started_s)
        self._settle(breaker.CallOutcome.SUCCESS)
        x.status = 101
        x.answer_begun = x.keep_alive = True
        x.client.write(answering.app_head(x, self._plan, 101, notes, UNTIL_EOF, x.shared))
        x.keep_alive = False

    def set_apart(self, idle_s: float) -> None:
        """The answer is a stream, which takes no place of requests any more and may be silent for `idle_s`."""
        self._idle_s = idle_s
        if self._connection is not None:
            self._connection.set_apart()

    def end_early(self, note: str) -> None:
        """A proper end of an answer without a length, where the protocol in it allows one at any time."""
        x = self._x
        self.drop()
        x.keep_alive = False
        if self._answer_length == CHUNKED:
            x.client.write(LAST_CHUNK)
        x.finish(note)


def _framed(length: int, payload: bytes, done: bool) -> bytes:
    """A piece of a body of `length` bytes, or CHUNKED, or UNTIL_EOF, as it is written."""
    if length != CHUNKED:
        return payload
    framed = as_chunk(payload) if payload else b""
    return framed + LAST_CHUNK if done else framed


def refusal_for(error: UpstreamError) -> Refusal:
    """How an outage of the app looks to the client."""
    if error.kind == "timeout":
        return Refusal(504, "upstream_timeout", "The app did not answer in time.")
    if error.kind in ("busy", "open"):
        wait_s = math.ceil(error.retry_after_s or 1)
        fields = ((b"retry-after", b"%d" % wait_s),)
        return Refusal(503, f"upstream_{error.kind}", "The app takes no more requests right now.", fields)
    return Refusal(502, f"upstream_{error.kind}", "The app cannot be reached or gave no valid answer.")
