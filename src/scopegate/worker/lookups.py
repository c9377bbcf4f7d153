"""Orders that nobody settled, because their gateway died or the app was too slow: the app is asked what became of them.

When, how often, and what its answer means is decided in `leads/lookup`. Each question is counted before it is sent, and
several workers never ask the same at once. What no answer settles waits for a person.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import DeliveryError, StoreUnavailable
from scopegate.leads import lookup
from scopegate.leads.job import OrderRecord, OrderState, Settlement
from scopegate.leads.webhook import message
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import LookupOutcome
from scopegate.policy.policy import Offload
from scopegate.stores.ports import Outbox
from scopegate.tasks import first_of
from scopegate.worker.deliver import Courier

log = logs.get("lookups")

QUESTION: Final = "lead.lookup"
AT_ONCE: Final = 10
EVERY_S: Final = 2.0


class Lookups:
    """One per worker process."""

    def __init__(self, outbox: Outbox, courier: Courier, clock: Clock) -> None:
        self._outbox = outbox
        self._courier = courier
        self._clock = clock

    async def serve(self, stop: asyncio.Event, offloads: Callable[[], Mapping[str, Offload]]) -> None:
        """Ask every EVERY_S until `stop` is set. `offloads` are those of the policy in force."""
        while not stop.is_set():
            with suppress(StoreUnavailable):  # the worker says so
                await self.ask(offloads())
            await first_of(self._clock.sleep(EVERY_S), stop.wait())

    async def ask(self, offloads: Mapping[str, Offload]) -> None:
        """Ask about as many as AT_ONCE orders that are due, and settle those that the app knows of."""
        asking = [name for name, offload in offloads.items() if offload.lookup is not None]
        if not asking:
            return
        due = await self._outbox.ask(asking, self._clock.now_ms(), AT_ONCE)
        await asyncio.gather(*(self._ask(offloads[record.order.offload], record) for record in due))

    async def _ask(self, offload: Offload, record: OrderRecord) -> None:
        with logs.bound(request_id=record.order.request_id):
            settlement, why = await self._answer(offload, record)
            outcome = _outcome(settlement, record)
            metrics.ORDER_LOOKUPS.labels(offload.name, outcome).inc()
            if settlement is not None:
                await self._outbox.settle(
                    settlement.order, settlement.state, settlement.status, settlement.lead, settlement.answer
                )
            tell = log.info if outcome in ("found", "open") else log.error
            tell("order.looked_up", order_id=record.order.order_id, outcome=outcome, asked=record.asked, answer=why)

    async def _answer(self, offload: Offload, record: OrderRecord) -> tuple[Settlement | None, str]:
        """What the answer makes of the order, and the status or why there is none."""
        assert offload.lookup is not None
        said = message(QUESTION, logs.timestamp(self._clock.now_ms() / 1000), lookup.question(record))
        message_id = f"msg_{record.order.order_id}_lookup{record.asked}"
        try:
            answer = await self._courier.ask(offload.deliver, offload.lookup.url, message_id, json.dumps(said).encode())
        except DeliveryError as fault:
            return None, fault.code
        now_ms = self._clock.now_ms()
        settlement = lookup.judge(offload, offload.lookup, record, answer.status, answer.body, answer.coding, now_ms)
        return settlement, str(answer.status)


def _outcome(settlement: Settlement | None, record: OrderRecord) -> LookupOutcome:
    if settlement is None:
        return "given_up" if record.asked >= lookup.MAX_ASKED else "open"
    if settlement.state is OrderState.ACCEPTED:
        return "found"
    return "unreadable" if settlement.state is OrderState.UNREADABLE else "absent"
