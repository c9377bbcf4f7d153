"""The life of a job under one lease: attempt after attempt until it is done, has to wait, or has failed by name.

Everything that happens is in the database before the next thing is begun. What an attempt's end means is decided in
`leads/progress`; what a step does is in `worker/steps`; who holds the lease, and for how long, is `worker/main`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, assert_never

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import (
    AIBudgetError,
    AIError,
    AIOutputError,
    DeliveryError,
    PhotoError,
    StoreError,
)
from scopegate.leads.job import Attempt, AttemptState, LeadJob, Lease, StepRecord
from scopegate.leads.progress import (
    ASKING,
    CRASHED,
    MAX_CRASHES,
    STOPPED,
    Again,
    AttemptFailure,
    Fail,
    Hold,
    Schedule,
    crashes,
    delivering,
    hold_until_ms,
    is_last_try,
    judge,
    next_step,
    spend_limit_until_ms,
    with_attempt,
)
from scopegate.limits.steps import MODEL_STEPS, StepName
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import BudgetRule, Offload, WhenSpent
from scopegate.stores.ports import JobStore, Ledger
from scopegate.types import Json
from scopegate.worker.steps import Steps, Work

log = logs.get("job")

INTERNAL: Final = "internal"
"""The error code of an attempt that met a fault of ours. The log has the stack."""
_MAX_DETAIL_CHARS: Final = 500


class Life:
    """Walks jobs. One instance serves any number of them."""

    def __init__(
        self,
        jobs: JobStore,
        ledger: Ledger,
        steps: Steps,
        budgets: Sequence[BudgetRule],
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._ledger = ledger
        self._steps = steps
        self._when_spent: Mapping[str, WhenSpent] = {rule.name: rule.when_spent for rule in budgets}
        self._clock = clock
        self._jitter = jitter

    async def walk(self, lease: Lease, job: LeadJob, offload: Offload) -> None:
        """Run the job's next steps until it ends or has to wait; the lease is then given back.

        Raises LeaseLost and StoreUnavailable: nothing more may be, or can be, written. Cancelled, it records the
        running attempt as cut short; the lease is then still to be given back.
        """
        while (record := next_step(job)) is not None:
            if crashes(record.attempts) >= MAX_CRASHES:
                await self.fail(lease, job, CRASHED)
                return
            moved = await self._attempt(lease, job, offload, record)
            if moved is None:
                return
            job = moved
        await self._finish(lease, job)

    async def fail(self, lease: Lease, job: LeadJob, code: str) -> None:
        await self._jobs.finish(lease, self._clock.now_ms(), error_code=code)
        log.error("job.failed", code=code)
        self._count_end(job, "failed")

    async def _finish(self, lease: Lease, job: LeadJob) -> None:
        result = job.results()[StepName.SCORE]
        points = result["score"] if isinstance(result, Mapping) else None
        assert isinstance(points, int)
        await self._jobs.finish(lease, self._clock.now_ms(), score=points)
        log.info("job.done", score=points, seconds=self._age_s(job))
        self._count_end(job, "done")

    # ── one attempt ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _attempt(self, lease: Lease, job: LeadJob, offload: Offload, record: StepRecord) -> LeadJob | None:
        """The job with the step done, or None when it was given back or has ended."""
        attempt = await self._jobs.start_attempt(lease, record.name, self._clock.now_ms())
        schedule = _schedule(record.name, offload)
        work = Work(job, offload, record.name, attempt.n, is_last_try(record.attempts, schedule))
        began_s = self._clock.monotonic_s()
        try:
            result = await self._steps.perform(work)
        except StoreError:  # the database or the lease is gone: the attempt is found lost by whoever comes next
            raise
        except asyncio.CancelledError:
            await self._cut_short(lease, work, attempt)
            raise
        except Exception as error:
            fault = self._fault(error)
            await self._fail_attempt(lease, work, attempt, fault, began_s)
            await self._obey(lease, job, record, fault, schedule)
            return None
        return await self._complete(lease, work, attempt, result, began_s)

    async def _complete(self, lease: Lease, work: Work, attempt: Attempt, result: Json, began_s: float) -> LeadJob:
        done = await self._ended(work, attempt, AttemptState.DONE)
        await self._jobs.finish_attempt(lease, work.step, done, result)
        self._count_attempt(work.step, "done", began_s)
        log.info("step.done", step=work.step, attempt=done.n, cost_usd_micros=done.cost_usd_micros)
        return with_attempt(work.job, work.step, done, result)

    async def _fail_attempt(
        self, lease: Lease, work: Work, attempt: Attempt, fault: AttemptFailure, began_s: float
    ) -> None:
        failed = await self._ended(work, attempt, AttemptState.FAILED, fault.code, fault.detail)
        await self._jobs.finish_attempt(lease, work.step, failed)
        self._count_attempt(work.step, fault.code, began_s)
        log.warning("step.failed", step=work.step, attempt=failed.n, code=fault.code, detail=fault.detail)

    async def _cut_short(self, lease: Lease, work: Work, attempt: Attempt) -> None:
        """For an orderly stop. After a lost lease the write is refused, as it should be."""
        with suppress(StoreError):
            cut = await self._ended(work, attempt, AttemptState.LOST, STOPPED)
            await self._jobs.finish_attempt(lease, work.step, cut)
            log.info("step.cut_short", step=work.step, attempt=attempt.n)

    async def _obey(
        self, lease: Lease, job: LeadJob, record: StepRecord, fault: AttemptFailure, schedule: Schedule
    ) -> None:
        match judge(fault, record.attempts, self._clock.now_ms(), self._jitter(), schedule):
            case Again(due_ms):
                await self._jobs.release(lease, due_ms, error_code=fault.code)
                log.info("job.waiting", reason=fault.code, seconds=self._until_s(due_ms))
            case Hold(due_ms):
                await self._jobs.release(lease, due_ms, held=True, error_code=fault.code)
                log.warning(
                    "job.held", code=fault.code, seconds=self._until_s(due_ms), until=logs.timestamp(due_ms / 1000)
                )
            case Fail(code):
                await self.fail(lease, job, code)
            case other:
                assert_never(other)

    def _until_s(self, due_ms: int) -> float:
        return max(0, due_ms - self._clock.now_ms()) / 1000

    def _fault(self, error: Exception) -> AttemptFailure:
        """What the worker's clients raise, as the decision needs it. Anything unforeseen is ours: tried again, since a
        bug met once may depend on the answer that it met."""
        detail = logs.redact_text(str(error))[:_MAX_DETAIL_CHARS]
        match error:
            case AIBudgetError(is_spent=True, budget=budget, reset_ms=reset_ms):
                return AttemptFailure(error.code, detail, hold_until_ms=self._held_until_ms(budget, reset_ms))
            case AIError(code="spend_limit"):
                return AttemptFailure(error.code, detail, hold_until_ms=spend_limit_until_ms(self._clock.now_ms()))
            case AIOutputError():  # it was asked for again once already, and paid both times
                return AttemptFailure(error.code, detail)
            case AIError():
                return AttemptFailure(error.code, detail, error.retryable, error.retry_after_s)
            case PhotoError():
                return AttemptFailure(error.code, detail, error.retryable)
            case DeliveryError():
                return AttemptFailure(error.code, detail, error.retryable, error.retry_after_s)
            case _:
                log.error("step.broken", exc=error)
                return AttemptFailure(INTERNAL, type(error).__name__, retryable=True)

    def _held_until_ms(self, budget: str, reset_ms: int | None) -> int | None:
        """How long a job waits for this budget; None where it fails instead."""
        match self._when_spent.get(budget, WhenSpent.FAIL):
            case WhenSpent.HOLD | WhenSpent.CHEAPER_MODEL:
                return hold_until_ms(reset_ms, self._clock.now_ms())
            case WhenSpent.FAIL:
                return None
            case never:
                assert_never(never)

    async def _ended(
        self, work: Work, attempt: Attempt, state: AttemptState, code: str | None = None, detail: str | None = None
    ) -> Attempt:
        """The attempt with its end and its cost: what the ledger booked for it, so that history and ledger agree."""
        calls = await self._ledger.calls(job_id=work.job.job_id)
        ours = (call for call in calls if call.step == work.step and call.step_attempt == attempt.n)
        return replace(
            attempt,
            state=state,
            finished_ms=self._clock.now_ms(),
            error_code=code,
            error_detail=detail or None,
            cost_usd_micros=sum(call.cost_usd_micros for call in ours),
        )

    # ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_attempt(self, step: StepName, outcome: str, began_s: float) -> None:
        metrics.STEP_ATTEMPTS.labels(step, outcome).inc()
        metrics.STEP_SECONDS.labels(step).observe(self._clock.monotonic_s() - began_s)

    def _count_end(self, job: LeadJob, state: str) -> None:
        metrics.JOBS_FINISHED.labels(job.offload, state).inc()
        metrics.JOB_SECONDS.labels(job.offload).observe(self._age_s(job))

    def _age_s(self, job: LeadJob) -> float:
        return max(0.0, (self._clock.now_ms() - job.created_ms) / 1000)


def _schedule(step: StepName, offload: Offload) -> Schedule:
    return ASKING if step in MODEL_STEPS else delivering(offload.deliver.retry_for_s)
