"""One lead on its way through the gateway: its body gathered, its order written, the app's answer held back until that
is settled.

What is written where, and what happens while the database is away, is `intake`'s business. Called by the pipeline.
"""

from __future__ import annotations

import asyncio
from functools import partial

from scopegate import logs
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal
from scopegate.errors import UpstreamError
from scopegate.gateway import repeats
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.incoming import Incoming
from scopegate.gateway.intake import FULL, Intake
from scopegate.gateway.watcher import NOBODY_WATCHES, AppSide, Watcher
from scopegate.leads.intake import judge_request, read_lead
from scopegate.leads.job import Earlier, Lead, LeadOrder, OrderState, Settlement, Unreadable
from scopegate.leads.reading import read_body
from scopegate.leads.repeats import kept
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import OrderOutcome
from scopegate.policy.policy import Offload, OnUnreadable

MAX_ANSWER_BYTES = 1024 * 1024
_log = logs.get("intake")


def begin(intake: Intake, x: Exchange, offload: Offload) -> Outcome:
    """A pipeline step: gather the body, write the order, go on."""
    incoming = x.incoming
    room = x.body_done or x.shared.held.may_add(x.caller.group, max(x.notes.length, 1))
    if intake.is_full() or not room:
        return FULL
    order = x.watcher = OrderInHand(intake, x, offload)
    if incoming is None:
        return order.record(b"")
    if x.body_done:
        return order.record(incoming.held())
    return Pending(incoming.hold(whole=True), partial(_body_is_here, order, incoming))


class OrderInHand(Watcher):
    """One lead on its way through the gateway."""

    may_repeat = False
    passes_interim = False

    def __init__(self, intake: Intake, x: Exchange, offload: Offload) -> None:
        self._intake = intake
        self._x = x
        self._offload = offload
        self._order: LeadOrder | None = None
        self._status = 0
        self._notes: Noted | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._settled = False
        self._app: AppSide
        self._collecting = False
        """The app's answer is held back until the order is settled."""

    def record(self, body: bytes) -> Outcome:
        """The body is complete: write the order, or refuse what cannot be read where the policy asks for that."""
        x = self._x
        request = read_body(body, _said(x.notes, b"content-type"), _said(x.notes, b"content-encoding"))
        if self._offload.on_unreadable is OnUnreadable.REFUSE and (fault := judge_request(self._offload, request)):
            self._unreadable(fault.reason)
            x.watcher = NOBODY_WATCHES
            return Refusal(400, "lead_unreadable", f"This request cannot be read as a lead: {fault.reason}.")
        claim = repeats.claim_of(x, self._offload, body)
        if isinstance(claim, Refusal):
            x.watcher = NOBODY_WATCHES
            return claim
        x.notes = x.notes.replacing(b"accept-encoding", b"identity")  # the answer has to be read here
        order_id = b"ord_%b" % x.shared.next_request_id()
        x.identity += b"x-scopegate-order: %b\r\n" % order_id
        self._order = LeadOrder(
            order_id=order_id.decode(),
            offload=self._offload.name,
            route=x.plan.name,
            request_id=x.request_id.decode(),
            received_ms=x.shared.now_ms(),
            request=request,
            claim=claim,
        )
        return Pending(self._intake.run(self._intake.place(self._order, self._offload)), self._placed)

    def _placed(self, x: Exchange, future: asyncio.Future[Earlier | Refusal | None]) -> Outcome:
        """A lead is passed on only once its order is safe: whatever happens then, somebody knows of it."""
        placed = future.result()
        if placed is None:
            return None
        x.watcher = NOBODY_WATCHES
        if isinstance(placed, Refusal):
            return placed
        assert self._order is not None
        assert self._order.claim is not None
        _log.info("order.repeated", order_id=placed.order_id, state=placed.state, request_id=self._order.request_id)
        return repeats.reply(x, self._order.claim, placed)

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        """The app has spoken. Only an answer that may hold a lead is held back."""
        self._app, self._status, self._notes = app, status, notes
        if status not in self._offload.when_status:
            self._settle_beside(OrderState.REFUSED, "refused")
            return True
        self._collecting = True
        return self.on_answer_body(payload, done)

    def on_answer_body(self, payload: bytes, done: bool) -> bool:
        if not self._collecting:
            return True
        self._parts.append(payload)
        self._size += len(payload)
        if done:
            self._settle_first()
        elif self._size > MAX_ANSWER_BYTES:
            self._let_through()
        return False

    def _settle_first(self) -> None:
        body = b"".join(self._parts)
        lead = self._lead(body)
        assert self._order is not None
        assert self._notes is not None
        self._settled = True
        state = OrderState.UNREADABLE if lead is None else OrderState.ACCEPTED
        answer = None if self._order.claim is None else kept(self._status, self._notes.passed, body)
        work = self._intake.settle(Settlement(self._order, state, self._status, lead, answer), self._offload)
        self._x.wait_for(self._intake.run(work), self._answer)

    def _answer(self, _x: Exchange, future: asyncio.Future[None]) -> None:
        """The order is settled: the client gets what the app said."""
        future.result()
        self._collecting = False
        assert self._notes is not None
        self._app.send_answer(self._status, self._notes, b"".join(self._parts), True)

    def _let_through(self) -> None:
        """Too large to be read: the client gets it as it comes, the order is kept without a job."""
        self._collecting = False
        assert self._notes is not None
        self._unreadable("the answer is too large")
        self._settle_beside(OrderState.UNREADABLE, "unreadable")
        self._app.send_answer(self._status, self._notes, b"".join(self._parts), False)

    def _lead(self, body: bytes) -> Lead | None:
        assert self._order is not None
        assert self._notes is not None
        response = read_body(body, coding=_said(self._notes, b"content-encoding"))
        found = read_lead(self._offload, self._order.request, response)
        if isinstance(found, Unreadable):
            self._unreadable(found.reason)
            metrics.ORDERS.labels(self._offload.name, "unreadable").inc()
            return None
        metrics.ORDERS.labels(self._offload.name, "accepted").inc()
        return found

    def _unreadable(self, reason: str) -> None:
        _log.error(
            "order.unreadable", offload=self._offload.name, request_id=self._x.request_id.decode(), reason=reason
        )

    def on_upstream_error(self, error: UpstreamError) -> None:
        """No answer: an order the app may have seen is unknown, one it cannot have seen is dropped."""
        if error.sent:
            self._settle_beside(OrderState.UNKNOWN, "unknown")
        else:
            self._settle_beside(OrderState.REFUSED, "refused")

    def on_client_gone(self) -> bool:
        """A lead that has arrived whole is delivered all the same."""
        return self._order is not None

    def _settle_beside(self, state: OrderState, outcome: OrderOutcome) -> None:
        if self._order is not None and not self._settled:
            self._settled = True
            metrics.ORDERS.labels(self._offload.name, outcome).inc()
            self._intake.run(self._intake.settle(Settlement(self._order, state, self._status or None), self._offload))


def _said(notes: Noted, name: bytes) -> str:
    return b", ".join(notes.get(name)).decode("latin-1")


def _body_is_here(order: OrderInHand, incoming: Incoming, x: Exchange, future: asyncio.Future[None]) -> Outcome:
    future.result()
    if not x.body_done:
        x.watcher = NOBODY_WATCHES
        return FULL
    return order.record(incoming.held())
