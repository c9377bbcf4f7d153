"""Lead orders: what a route with `offload` does besides proxying.

The order is in the outbox before the request goes on, and settled with the app's answer before the client gets it:
accepted leads become a job, in the same transaction; one that cannot be read waits for a person, or is refused where
the policy asks for that. One that was sent before gets its first answer, and the app hears nothing. While the database
is away no lead is taken: 503, and the app hears nothing; or its order goes to the spool of this machine, where the
policy asks for that. When it goes in between, the order is safe there as pending; its settlement waits in memory, or in
the spool. Both are bounded. Called by `order`; owns no request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from scopegate import logs
from scopegate.clock import Clock
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreError, StoreUnavailable
from scopegate.leads.job import Earlier, LeadOrder, OrderState, Settlement
from scopegate.leads.repeats import Repeat, judge
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import Offload, OnDatabaseError
from scopegate.stores.ports import Messenger, OrderSpool, Outbox

MAX_UNRECORDED = 10_000
STORE_PATIENCE_S = 2.0
RETRY_EVERY_S = 2.0
_LEFT_ALONE_S = 1.0
"""So long after a failure nobody whose order may be spooled waits for the database."""
REPEAT_PATIENCE_S = 10.0
"""So long a repeat waits for what becomes of the first."""
_REPEAT_PAUSE_S, _LONGEST_REPEAT_PAUSE_S = 0.1, 1.0
FULL = Refusal(503, "intake_full", "Leads cannot be taken right now.", ((b"retry-after", b"30"),))
_DOWN = Refusal(503, "intake_down", "Leads cannot be taken right now. Try again shortly.", ((b"retry-after", b"5"),))
_log = logs.get("intake")

T = TypeVar("T")


class Intake:
    """Writes orders down and settles them. One per gateway process."""

    def __init__(
        self,
        outbox: Outbox,
        messenger: Messenger,
        spool: OrderSpool,
        clock: Clock,
        *,
        max_unrecorded: int = MAX_UNRECORDED,
    ) -> None:
        self._max_unrecorded = max_unrecorded
        self._outbox = outbox
        self._spool = spool
        self._away_until_s = 0.0
        self._messenger = messenger
        self._clock = clock
        self._unrecorded: deque[Settlement] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._retrying: asyncio.Task[None] | None = None
        self._emptying: asyncio.Task[None] | None = None

    def is_full(self) -> bool:
        """So much waits for the database that nothing more is taken."""
        return len(self._unrecorded) >= self._max_unrecorded

    async def place(self, order: LeadOrder, offload: Offload) -> Earlier | Refusal | None:
        """None once the order is safe; the one that it repeats, as soon as that has an answer; or why no lead can be
        taken. What becomes of the first is waited for a while: when the app refuses it, this one takes its place."""
        ends_s, pause_s = self._clock.monotonic_s() + REPEAT_PATIENCE_S, _REPEAT_PAUSE_S
        while True:
            placed = await self._put(order, offload)
            if not isinstance(placed, Earlier) or order.claim is None:
                return placed
            if judge(order.claim, placed) is not Repeat.UNDER_WAY or self._clock.monotonic_s() >= ends_s:
                return placed
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_REPEAT_PAUSE_S)

    async def _put(self, order: LeadOrder, offload: Offload) -> Earlier | Refusal | None:
        """One that is refused and may still get to the database is settled as refused, later."""
        spools = offload.on_store_error is OnDatabaseError.SPOOL
        try:
            return await self._reach(self._outbox.put(order), spools)
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "timeout"
            if spools and await self._spooled(Settlement(order, OrderState.PENDING), reason):
                return None
            _log.error("order.not_recorded", order_id=order.order_id, request_id=order.request_id, reason=reason)
            if isinstance(error, TimeoutError):
                self.run(self.settle(Settlement(order, OrderState.REFUSED), offload))
            return _DOWN

    async def settle(self, settlement: Settlement, offload: Offload) -> None:
        """Close the order. What the database does not take now it gets later; the client does not wait for that."""
        spools = offload.on_store_error is OnDatabaseError.SPOOL
        try:
            await self._reach(self._settle_now(settlement), spools)
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "timeout"
            if spools and await self._spooled(settlement, reason):
                return
            order_id = settlement.order.order_id
            _log.error("order.not_settled", order_id=order_id, state=settlement.state, reason=reason)
            self._keep(settlement)

    async def _reach(self, work: Coroutine[Any, Any, T], spools: bool) -> T:
        """In the database, in time. Whose order may be spooled does not wait for one that failed a moment ago."""
        if spools and self._clock.monotonic_s() < self._away_until_s:
            work.close()
            raise StoreUnavailable("other", "it failed a moment ago")
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                return await work
        except (StoreError, TimeoutError):
            self._away_until_s = self._clock.monotonic_s() + _LEFT_ALONE_S
            raise

    async def _spooled(self, settlement: Settlement, reason: str) -> bool:
        order = settlement.order
        try:
            await self._spool.keep(settlement)
        except StoreUnavailable as error:
            _log.error("order.not_spooled", order_id=order.order_id, reason=str(error))
            return False
        _log.warning(
            "order.spooled", order_id=order.order_id, state=settlement.state, request_id=order.request_id,
            reason=reason,
        )  # fmt: skip
        return True

    async def _settle_now(self, settlement: Settlement) -> None:
        order = settlement.order
        job = await self._outbox.settle(order, settlement.state, settlement.status, settlement.lead, settlement.answer)
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

    # ── the spool ───────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Take what gateways of this machine left in the spool, now and later, into the database."""
        self._emptying = asyncio.ensure_future(self._empty_on())

    async def _empty_on(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                await self._spool.empty(self._take_in)
            await self._clock.sleep(RETRY_EVERY_S)

    async def _take_in(self, settlement: Settlement) -> None:
        """One of the spool into the database. Raises StoreUnavailable. Whose claim is held by another was passed on all
        the same, while nobody could know."""
        if settlement.state is not OrderState.PENDING:
            await self._settle_now(settlement)
        elif await self._outbox.put(settlement.order) is not None:
            await self._outbox.put(replace(settlement.order, claim=None))

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
        for task in (self._retrying, self._emptying):
            if task is not None:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._drain()
        for one in self._unrecorded:
            _log.error(
                "order.unsettled", order_id=one.order.order_id, state=one.state,
                lead_id=one.lead.lead_id if one.lead else None, request_id=one.order.request_id,
            )  # fmt: skip
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._messenger.close()
