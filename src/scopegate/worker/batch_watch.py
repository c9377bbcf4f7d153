"""Looks after batches that are under way: books and keeps their results, wakes the jobs that wait for them, cancels
what nobody waits for any more, and finds batches that were made and never noted.

Everything is read from the database and the API's list, and may be done twice or by several workers: only the first
result of a question counts. Runs in every worker process.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import AIError, StoreUnavailable
from scopegate.leads.job import OPEN_OUTCOMES, CallRecord
from scopegate.limits.budget import Reservation
from scopegate.limits.pricing import Usage
from scopegate.limits.steps import StepName
from scopegate.stores.ports import BatchCall, Batches, Ledger
from scopegate.tasks import first_of
from scopegate.worker.batches import MOST_REQUESTS, answer_of
from scopegate.worker.bill import Bill
from scopegate.worker.call import BatchClient, ListedBatch, ModelReply
from scopegate.worker.tries import Purpose, Try, call_record, judge, observe, outcome_word

log = logs.get("ai")

EVERY_S: Final = 30.0
SKEW_MS: Final = 300_000
"""How far our clock and the API's may be apart."""
SENDING_MS: Final = 300_000
"""A question that was written down so long ago is sent by now, or its worker died before: waiting for room in a budget,
for others, and for the API's answer takes half of it."""
GONE_MS: Final = 48 * 3_600_000
"""A batch that the API no longer lists by then has no results that anybody could read."""


class BatchWatch:
    """`price_version` is written on the rows that are booked."""

    def __init__(
        self, client: BatchClient, batches: Batches, ledger: Ledger, bill: Bill, price_version: str, clock: Clock
    ) -> None:
        self._client = client
        self._batches = batches
        self._ledger = ledger
        self._bill = bill
        self._price_version = price_version
        self._clock = clock
        self._cancelled: set[str] = set()
        self._strangers: set[str] = set()

    async def look(self) -> None:
        """Raises StoreUnavailable. What the API does not tell now is asked again at the next look."""
        calls = await self._batches.open()
        if calls:
            try:
                await self._follow(calls)
            except AIError as error:
                log.warning("ai.batches_unseen", code=error.code, open=len(calls))
        woken = await self._batches.wake(self._clock.now_ms())
        if woken:
            log.info("ai.batch_answered", jobs=woken)

    async def _follow(self, calls: Sequence[BatchCall]) -> None:
        listed = {one.batch_id: one for one in await self._client.list_batches(calls[0].asked_ms - SKEW_MS)}
        named: defaultdict[str, list[BatchCall]] = defaultdict(list)
        for call in calls:
            if call.batch_id is not None:
                named[call.batch_id].append(call)
        for batch_id, ours in named.items():
            await self._look_at(batch_id, listed.get(batch_id), ours)
        unnamed = [call for call in calls if call.batch_id is None]
        if unnamed:
            await self._find(unnamed, [one for name, one in listed.items() if name not in named])

    async def _look_at(self, batch_id: str, batch: ListedBatch | None, ours: Sequence[BatchCall]) -> None:
        if batch is None:
            old = [call for call in ours if self._clock.now_ms() >= call.asked_ms + GONE_MS]
            for call in old:  # the ledger keeps it as unknown, at its worst case
                await self._batches.end(call.call_id, {"failed": "batch_expired"}, self._clock.now_ms())
        elif batch.has_ended:
            await self._end(await self._client.batch_results(batch_id), ours)
        elif batch_id not in self._cancelled and not any(call.is_wanted for call in ours):
            await self._client.cancel_batch(batch_id)
            self._cancelled.add(batch_id)
            log.info("ai.batch_cancelled", batch_id=batch_id, requests=len(ours))

    # ── made, and never noted ───────────────────────────────────────────────────────────────────────────────────────

    async def _find(self, unnamed: Sequence[BatchCall], batches: Collection[ListedBatch]) -> None:
        """The list says nothing of what is in a batch, only its results do: while one is under way that may be ours, it
        is waited for. Others may use the same key, and their batches are none of our business."""
        missing = {call.call_id: call for call in unnamed}
        candidates = [one for one in batches if one.requests <= MOST_REQUESTS and one.batch_id not in self._strangers]
        for batch in candidates:
            if batch.has_ended:
                results = await self._client.batch_results(batch.batch_id)
                ours = [missing.pop(name) for name in results if name in missing]
                if ours:
                    log.info("ai.batch_found", batch_id=batch.batch_id, requests=len(ours))
                    await self._batches.name([call.call_id for call in ours], batch.batch_id)
                    await self._end(results, ours)
                else:
                    self._strangers.add(batch.batch_id)
        under_way = [one for one in candidates if not one.has_ended]
        for call in missing.values():
            is_sent_by_now = self._clock.now_ms() >= call.asked_ms + SENDING_MS + SKEW_MS
            if is_sent_by_now and not any(_may_hold(one, call) for one in under_way):
                log.info("ai.batch_never_sent", call_id=call.call_id, job_id=call.job_id)
                await self._ledger.withdraw(Reservation(call.call_id, (), 0))
                await self._batches.forget(call.call_id)

    # ── results ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _end(self, results: Mapping[str, ModelReply | AIError], ours: Sequence[BatchCall]) -> None:
        for call in ours:
            reply = results.get(call.call_id, AIError("batch_expired", "no result", retryable=True))
            intent = await self._ledger.call(call.call_id)
            made = None if intent is None or intent.outcome not in OPEN_OUTCOMES else self._made(intent, reply)
            if intent is not None and made is not None:
                record = call_record(_purpose(intent), made, self._price_version)
                await self._ledger.settle(Reservation(call.call_id, (), 0), record)
            is_first = await self._batches.end(call.call_id, answer_of(reply), self._clock.now_ms())
            if is_first and intent is not None and made is not None:
                observe(_purpose(intent), made, is_timed=False)

    def _made(self, intent: CallRecord, reply: ModelReply | AIError) -> Try:
        """As a direct one is booked; whether its answer keeps the rules is found by the step that asked."""
        made = Try(
            call_id=intent.call_id,
            n=intent.call_n,
            started_ms=intent.started_ms,
            duration_s=max(0, self._clock.now_ms() - intent.started_ms) / 1000,
            outcome=outcome_word(judge(reply, lambda text: text)),
            usage=Usage(),
            cost_usd_micros=self._bill.cost(reply, intent.model, intent.cost_usd_micros),
            status=None,
            api_request_id=None,
            asked=intent.model,
            model=intent.model,
        )
        if isinstance(reply, AIError):
            return replace(made, status=reply.status)
        return replace(made, usage=reply.usage, status=200, model=reply.model)


def _may_hold(batch: ListedBatch, call: BatchCall) -> bool:
    return call.asked_ms - SKEW_MS <= batch.created_ms <= call.asked_ms + SENDING_MS + SKEW_MS


def _purpose(call: CallRecord) -> Purpose:
    step = StepName(call.step)
    return Purpose(call.job_id, call.lead_id, call.contractor, step, call.step_attempt, call.offload)


async def serve(stop: asyncio.Event, watch: Callable[[], BatchWatch | None], clock: Clock) -> None:
    """Look every EVERY_S until `stop` is set. `watch` is that of the policy in force."""
    while not stop.is_set():
        present = watch()
        if present is not None:
            with suppress(StoreUnavailable):  # the worker says so
                await present.look()
        await first_of(clock.sleep(EVERY_S), stop.wait())
