"""Lead orders: what a route with `offload` does besides proxying.

The order is in the outbox before the request goes on, and settled with the app's answer before the client gets it:
accepted leads become a job, in the same transaction; one that cannot be read waits for a person, or is refused where
the policy asks for that. While the database is away no lead is taken: 503, and the app hears nothing. When it goes in
between, the order is safe there as pending; its settlement waits here, in memory and bounded. Called by the pipeline;
owns no request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar

from scopegate import logs
from scopegate.clock import Clock
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreError, StoreUnavailable, UpstreamError
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.incoming import Incoming
from scopegate.gateway.watcher import NOBODY_WATCHES, AppSide, Watcher
from scopegate.leads.intake import judge_request, read_lead
from scopegate.leads.job import Lead, LeadOrder, OrderState, Unreadable
from scopegate.leads.reading import read_body
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import OrderOutcome
from scopegate.policy.policy import Offload, OnUnreadable
from scopegate.stores.ports import Messenger, Outbox

MAX_ANSWER_BYTES = 1024 * 1024
MAX_UNRECORDED = 10_000
STORE_PATIENCE_S = 2.0
RETRY_EVERY_S = 2.0
_FULL = Refusal(503, "intake_full", "Leads cannot be taken right now.", ((b"retry-after", b"30"),))
_log = logs.get("intake")

T = TypeVar("T")
Settlement = tuple[LeadOrder, OrderState, int | None, Lead | None]


class Intake:
    """Writes orders down and settles them. One per gateway process."""

    def __init__(
        self, outbox: Outbox, messenger: Messenger, clock: Clock, *, max_unrecorded: int = MAX_UNRECORDED
    ) -> None:
        self._max_unrecorded = max_unrecorded
        self._outbox = outbox
        self._messenger = messenger
        self._clock = clock
        self._unrecorded: deque[Settlement] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retrying: asyncio.Task[None] | None = None

    def begin(self, x: Exchange, offload: Offload) -> Outcome:
        """A pipeline step: gather the body, write the order, go on."""
        incoming = x.incoming
        room = x.body_done or x.shared.held.may_add(x.caller.group, max(x.notes.length, 1))
        if len(self._unrecorded) >= self._max_unrecorded or not room:
            return _FULL
        order = x.watcher = OrderInHand(self, x, offload)
        if incoming is None:
            return order.record(b"")
        if x.body_done:
            return order.record(incoming.held())
        return Pending(incoming.hold(whole=True), partial(_body_is_here, order, incoming))

    async def put(self, order: LeadOrder) -> bool:
        """Whether the order is in the database. One that may still get there is settled as refused, later."""
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                await self._outbox.put(order)
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "timeout"
            _log.error("order.not_recorded", order_id=order.order_id, request_id=order.request_id, reason=reason)
            if isinstance(error, TimeoutError):
                self.run(self.settle(order, OrderState.REFUSED, None, None))
            return False
        return True

    async def settle(self, order: LeadOrder, state: OrderState, status: int | None, lead: Lead | None) -> None:
        """Close the order. What the database does not take now it gets later; the client does not wait for that."""
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                await self._settle_now((order, state, status, lead))
        except (StoreError, TimeoutError) as error:
            _log.error("order.not_settled", order_id=order.order_id, state=state, reason=str(error))
            self._keep((order, state, status, lead))

    async def _settle_now(self, settlement: Settlement) -> None:
        order, state, status, lead = settlement
        job = await self._outbox.settle(order, state, status, lead)
        if job is None:
            return
        _log.info(
            "order.accepted", order_id=order.order_id, job_id=job.job_id, lead_id=job.lead.lead_id,
            request_id=order.request_id,
        )  # fmt: skip
        self.run(self._wake(job.job_id))

    async def _wake(self, job_id: str) -> None:
        try:
            await self._messenger.wake(job_id)
        except StoreUnavailable as error:
            _log.warning("job.not_announced", job_id=job_id, reason=str(error))  # the worker's sweep finds it

    def run(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Do it beside the request; a stop waits for it."""
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ── orders the database has not taken ───────────────────────────────────────────────────────────────────────────

    def _keep(self, settlement: Settlement) -> None:
        self._unrecorded.append(settlement)
        metrics.ORDERS_UNRECORDED.set(len(self._unrecorded))
        if self._retrying is None or self._retrying.done():
            self._retrying = asyncio.ensure_future(self._retry())

    async def _retry(self) -> None:
        while self._unrecorded:
            await self._clock.sleep(RETRY_EVERY_S)
            await self._drain()

    async def _drain(self) -> None:
        """Settle what waits, oldest first, until the database refuses again."""
        while self._unrecorded:
            try:
                async with asyncio.timeout(STORE_PATIENCE_S):
                    await self._settle_now(self._unrecorded[0])
            except (StoreError, TimeoutError):
                return
            self._unrecorded.popleft()
            metrics.ORDERS_UNRECORDED.set(len(self._unrecorded))

    async def close(self) -> None:
        """Finish what is under way. What the database still does not take stays pending there, becomes unknown, and is
        named in the log, one line each."""
        if self._retrying is not None:
            self._retrying.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._drain()
        for order, state, _status, lead in self._unrecorded:
            _log.error(
                "order.unsettled", order_id=order.order_id, state=state, lead_id=lead.lead_id if lead else None,
                request_id=order.request_id,
            )  # fmt: skip
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._messenger.close()


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
        x.notes = x.notes.replacing(b"accept-encoding", b"identity")  # the answer has to be read here
        self._order = LeadOrder(
            order_id=f"ord_{x.shared.next_request_id().decode()}",
            offload=self._offload.name,
            route=x.plan.name,
            request_id=x.request_id.decode(),
            received_ms=x.shared.now_ms(),
            request=request,
        )
        return Pending(self._intake.run(self._intake.put(self._order)), _recorded)

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
        lead = self._lead(b"".join(self._parts))
        assert self._order is not None
        self._settled = True
        state = OrderState.UNREADABLE if lead is None else OrderState.ACCEPTED
        work = self._intake.settle(self._order, state, self._status, lead)
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
            self._intake.run(self._intake.settle(self._order, state, self._status or None, None))


def _said(notes: Noted, name: bytes) -> str:
    return b", ".join(notes.get(name)).decode("latin-1")


def _body_is_here(order: OrderInHand, incoming: Incoming, x: Exchange, future: asyncio.Future[None]) -> Outcome:
    future.result()
    if not x.body_done:
        x.watcher = NOBODY_WATCHES
        return _FULL
    return order.record(incoming.held())


def _recorded(x: Exchange, future: asyncio.Future[bool]) -> Outcome:
    """A lead is passed on only once its order is safe: whatever happens then, somebody knows of it."""
    if future.result():
        return None
    x.watcher = NOBODY_WATCHES
    return Refusal(503, "intake_down", "Leads cannot be taken right now. Try again shortly.", ((b"retry-after", b"5"),))
