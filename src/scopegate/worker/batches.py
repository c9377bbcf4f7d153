"""Asking in batches: a step's question is handed in with those of other jobs, and its answer looked at later.

A question is written down before money is set aside for it, and the money before it is sent. Its id there, in the
ledger and in the batch is one and the same, derived from job, step and attempt. What happens to a batch is
`worker/batch_watch`'s business. Called by the steps.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, NoReturn, TypeVar

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import AIBatchedError, AIError, AIOutputError, StoreUnavailable
from scopegate.leads.findings import Broken
from scopegate.limits.pricing import Usage
from scopegate.stores.ports import BatchCall, Batches
from scopegate.types import Json
from scopegate.worker.call import BatchClient, ModelReply, ModelRequest
from scopegate.worker.purse import Batched, Granted, Purse
from scopegate.worker.tries import Bug, Purpose, judge

log = logs.get("ai")

GATHER_S: Final = 2.0
"""So long a question waits for others, which go in the same batch."""
MOST_REQUESTS: Final = 10
"""Of one batch: as many as one worker has jobs at a time."""
RESERVED_S: Final = 26 * 3600.0
"""A batch ends within a day of its creation, and its results are looked at within minutes."""
REFUSED_PAUSE_S: Final = 60.0
"""When a question is handed in again that the API did not take for now."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Collected(Generic[T]):
    """What a batch has said. `may_ask`: nothing was asked yet and there is time. `value` with what was `given` besides;
    `error`: it was paid, and breaks these rules."""

    may_ask: bool
    value: T | None = None
    given: Mapping[str, Json] = field(default_factory=dict)
    error: AIOutputError | None = None


class _Group:
    """Questions that go together. `sent` is done once the API has them, or has the creation's error."""

    def __init__(self) -> None:
        self.granted: dict[str, Granted] = {}
        self.is_full = asyncio.Event()
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class BatchLane:
    """One instance serves any number of concurrent jobs."""

    def __init__(
        self,
        client: BatchClient,
        purse: Purse,
        batches: Batches,
        clock: Clock,
        *,
        gather_s: float = GATHER_S,
        most: int = MOST_REQUESTS,
    ) -> None:
        assert most <= MOST_REQUESTS, "a larger one is taken for somebody else's"
        self._client = client
        self._purse = purse
        self._batches = batches
        self._clock = clock
        self._gather_s = gather_s
        self._most = most
        self._group: _Group | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def collect(
        self, purpose: Purpose, until_ms: int, parse_of: Callable[[Mapping[str, Json]], Callable[[str], T | Broken]]
    ) -> Collected[T]:
        """Raises AIBatchedError while the answer is under way and may still be waited for, AIError for a refusal."""
        assert purpose.job_id is not None
        asked = await self._batches.find(purpose.job_id, purpose.step)
        has_time = self._clock.now_ms() < until_ms
        if asked is None:
            return Collected(may_ask=has_time)
        if asked.answer is None:
            if has_time:
                raise AIBatchedError(until_ms)
            log.warning("ai.batch_late", call_id=asked.call_id, **purpose.fields())
            return Collected(may_ask=False)
        if "failed" in asked.answer:
            log.warning("ai.batch_failed", code=asked.answer["failed"], call_id=asked.call_id, **purpose.fields())
            return Collected(may_ask=False)
        verdict = judge(reply_of(asked.answer), parse_of(asked.given))
        if isinstance(verdict, Bug):
            raise verdict.error
        if isinstance(verdict, AIOutputError):
            return Collected(may_ask=False, error=verdict)
        if isinstance(verdict, AIError):
            raise verdict
        return Collected(may_ask=False, value=verdict, given=asked.given)

    async def ask(self, purpose: Purpose, request: ModelRequest, given: Mapping[str, Json], until_ms: int) -> NoReturn:
        """Hand the question in. Raises AIBatchedError once it is, AIError where it is not, AIBudgetError where there is
        no money for it, StoreUnavailable."""
        assert purpose.job_id is not None
        call_id = custom_id(purpose)
        call = BatchCall(call_id, purpose.job_id, purpose.step, self._clock.now_ms(), given)
        await self._batches.ask(call)
        try:
            wanted = self._purse.want(purpose, request, batched=Batched(call_id, RESERVED_S))
            granted = await self._purse.make_room(wanted, 1, 0)
        except AIError:
            await self._batches.forget(call_id)
            raise
        try:
            await asyncio.shield(self._join(call_id, granted))
        except AIError as error:
            if not error.retryable:
                raise
            log.warning("ai.batch_refused", code=error.code, seconds=REFUSED_PAUSE_S, **purpose.fields())
            raise AIBatchedError(self._clock.now_ms() + round(REFUSED_PAUSE_S * 1000)) from None
        raise AIBatchedError(until_ms)

    # ── together ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _join(self, call_id: str, granted: Granted) -> asyncio.Future[None]:
        group = self._group
        if group is None:
            group = self._group = _Group()
            task = asyncio.create_task(self._send_soon(group))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        group.granted[call_id] = granted
        if len(group.granted) >= self._most:
            self._group = None
            group.is_full.set()
        return group.sent

    async def _send_soon(self, group: _Group) -> None:
        try:
            async with asyncio.timeout(self._gather_s):
                await group.is_full.wait()
        except TimeoutError:
            pass
        if self._group is group:
            self._group = None
        try:
            await self._send(group)
        except (AIError, StoreUnavailable) as fault:
            group.sent.set_exception(fault)
            group.sent.exception()  # whoever asked may be gone
        else:
            group.sent.set_result(None)

    async def _send(self, group: _Group) -> None:
        """Where nobody knows whether the API has it, it counts as sent: `batch_watch` finds out."""
        try:
            batch_id = await self._client.create_batch({
                call_id: granted.wanted.request for call_id, granted in group.granted.items()
            })  # fmt: skip
        except AIError as error:
            if error.maybe_billed:
                log.warning("ai.batch_unknown", code=error.code, requests=len(group.granted))
                return
            for call_id, granted in group.granted.items():
                await self._purse.withdraw(granted)
                await self._batches.forget(call_id)
            raise
        log.info("ai.batch_sent", batch_id=batch_id, requests=len(group.granted))
        await self._batches.name([*group.granted], batch_id)


def custom_id(purpose: Purpose) -> str:
    """Of the question of this attempt: its call's id in the ledger as well."""
    asked = f"{purpose.job_id} {purpose.step} {purpose.step_attempt}"
    return f"batch_{hashlib.sha256(asked.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def answer_of(reply: ModelReply | AIError) -> Mapping[str, Json]:
    """A result as it is kept."""
    if isinstance(reply, AIError):
        return {"failed": reply.code}
    return {"text": reply.text, "stop_reason": reply.stop_reason, "model": reply.model}


def reply_of(answer: Mapping[str, Json]) -> ModelReply:
    """What was kept. Its bill is in the ledger."""
    return ModelReply(str(answer["text"]), Usage(), str(answer["stop_reason"]), None, str(answer["model"]))
