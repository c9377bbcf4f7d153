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
    AIBatchedError,
    AIBudgetError,
    AIError,
    AIOutputError,
    DeliveryError,
    PhotoError,
    StoreError,
)
from scopegate.leads.job import Attempt, AttemptState, JobState, LeadJob, Lease, StepRecord
from scopegate.leads.progress import (
    ASKING,
    CRASHED,
    MAX_LOSSES,
    STOPPED,
    Again,
    AttemptFailure,
    Fail,
    Hold,
    Schedule,
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
from scopegate.stores.ports import JobStore
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
        steps: Steps,
        budgets: Sequence[BudgetRule],
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._steps = steps
        self._when_spent: Mapping[str, WhenSpent] = {rule.name: rule.when_spent for rule in budgets}
        self._clock = clock
        self._jitter = jitter

    async def walk(self, lease: Lease, job: LeadJob, offload: Offload) -> None:
        """Run the job's next steps until it ends or has to wait; the lease is then given back.

        Raises LeaseLost and StoreUnavailable: nothing more may be, or can be, written. Cancelled, it records the
        running attempt as cut short; the lease is then still to be given back.
        """
        if job.losses >= MAX_LOSSES:
            await self.fail(lease, job, CRASHED, f"{job.losses} workers in a row died at it", dead=True)
            return
        record = next_step(job)
        if record is None:  # ended by a program that wrote the job's end after its last step's
            last = job.steps[-1]
            await self._finish(lease, job, last.name, last.attempts[-1], last.result)
            return
        attempt: Attempt | None = await self._jobs.start_attempt(lease, record.name, self._clock.now_ms())
        while attempt is not None and record is not None:
            job, attempt = await self._perform(lease, job, offload, record, attempt)
            record = next_step(job)

    async def fail(self, lease: Lease, job: LeadJob, code: str, reason: str = "", *, dead: bool = False) -> None:
        await self._jobs.finish(lease, self._clock.now_ms(), error_code=code, reason=reason or None, dead=dead)
        log.error("job.dead" if dead else "job.failed", code=code, reason=reason)
        self._count_end(job, JobState.DEAD if dead else JobState.FAILED)

    # ── one attempt ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _perform(
        self, lease: Lease, job: LeadJob, offload: Offload, record: StepRecord, attempt: Attempt
    ) -> tuple[LeadJob, Attempt | None]:
        """The job with the step done and the next one's attempt begun; None when the job was given back or has
        ended."""
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
            return job, None
        return await self._complete(lease, work, attempt, result, began_s)

    async def _complete(
        self, lease: Lease, work: Work, attempt: Attempt, result: Json, began_s: float
    ) -> tuple[LeadJob, Attempt | None]:
        done = self._ended(attempt, AttemptState.DONE)
        job = with_attempt(work.job, work.step, done, result)
        record = next_step(job)
        if record is None:
            done, begun = await self._finish(lease, job, work.step, done, result), None
        else:
            done, begun = await self._jobs.finish_attempt(lease, work.step, done, result, then=record.name)
        self._count_attempt(work.step, "done", began_s)
        log.info("step.done", step=work.step, attempt=done.n, cost_usd_micros=done.cost_usd_micros)
        return job, begun

    async def _finish(self, lease: Lease, job: LeadJob, step: StepName, attempt: Attempt, result: Json) -> Attempt:
        """The last step, and the job with it."""
        scored = job.results()[StepName.SCORE]
        points = scored["score"] if isinstance(scored, Mapping) else None
        assert isinstance(points, int)
        done = await self._jobs.complete(lease, step, attempt, result, points, self._clock.now_ms())
        log.info("job.done", score=points, seconds=self._age_s(job))
        self._count_end(job, JobState.DONE)
        return done

    async def _fail_attempt(
        self, lease: Lease, work: Work, attempt: Attempt, fault: AttemptFailure, began_s: float
    ) -> None:
        failed = self._ended(attempt, AttemptState.FAILED, fault.code, fault.detail)
        await self._jobs.finish_attempt(lease, work.step, failed)
        self._count_attempt(work.step, fault.code, began_s)
        log.warning("step.failed", step=work.step, attempt=failed.n, code=fault.code, detail=fault.detail)

    async def _cut_short(self, lease: Lease, work: Work, attempt: Attempt) -> None:
        """For an orderly stop. After a lost lease the write is refused, as it should be."""
        with suppress(StoreError):
            cut = self._ended(attempt, AttemptState.LOST, STOPPED)
            await self._jobs.finish_attempt(lease, work.step, cut)
            log.info("step.cut_short", step=work.step, attempt=attempt.n)

    async def _obey(
        self, lease: Lease, job: LeadJob, record: StepRecord, fault: AttemptFailure, schedule: Schedule
    ) -> None:
        reason = f"{record.name}: {fault.detail}" if fault.detail else record.name
        match judge(fault, record.attempts, self._clock.now_ms(), self._jitter(), schedule):
            case Again(due_ms):
                await self._jobs.release(lease, due_ms, error_code=fault.code, reason=reason)
                log.info("job.waiting", reason=fault.code, seconds=self._until_s(due_ms))
            case Hold(due_ms):
                await self._jobs.release(lease, due_ms, held=True, error_code=fault.code, reason=reason)
                log.warning(
                    "job.held", code=fault.code, seconds=self._until_s(due_ms), until=logs.timestamp(due_ms / 1000)
                )
            case Fail(code):
                await self.fail(lease, job, code, reason)
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
            case AIBatchedError(until_ms=until_ms):
                return AttemptFailure(error.code, detail, hold_until_ms=until_ms)
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

    def _ended(
        self, attempt: Attempt, state: AttemptState, code: str | None = None, detail: str | None = None
    ) -> Attempt:
        return replace(
            attempt, state=state, finished_ms=self._clock.now_ms(), error_code=code, error_detail=detail or None
        )

    # ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_attempt(self, step: StepName, outcome: str, began_s: float) -> None:
        metrics.STEP_ATTEMPTS.labels(step, outcome).inc()
        metrics.STEP_SECONDS.labels(step).observe(self._clock.monotonic_s() - began_s)

    def _count_end(self, job: LeadJob, state: JobState) -> None:
        metrics.JOBS_FINISHED.labels(job.offload, state.value).inc()
        metrics.JOB_SECONDS.labels(job.offload).observe(self._age_s(job))

    def _age_s(self, job: LeadJob) -> float:
        return max(0.0, (self._clock.now_ms() - job.created_ms) / 1000)


def _schedule(step: StepName, offload: Offload) -> Schedule:
    return ASKING if step in MODEL_STEPS else delivering(offload.deliver.retry_for_s)
