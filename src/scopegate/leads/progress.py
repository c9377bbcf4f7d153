"""How a job moves on: which step is next, and what an attempt's end means for the job.

Pure. Three counts are kept apart: attempts that failed by their own fault (as many as the step's schedule has; then the
job fails by that fault's name), waits that are nobody's fault (a spent budget, an open breaker: any number), and
workers that died at it (five in a row, wherever they were, then the job is dead). Called by `worker/life`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from scopegate.leads.job import Attempt, AttemptState, LeadJob, StepRecord, StepState
from scopegate.limits.steps import StepName
from scopegate.types import Json

MAX_LOSSES: Final = 5
CRASHED: Final = "crashed"
"""The error code of a job that took its workers down MAX_LOSSES times in a row."""
STOPPED: Final = "worker_stopped"
"""The error code of an attempt cut short by an orderly stop: neither a failure nor a crash."""

_BLAMELESS: Final = frozenset({"no_budget", "no_retries", "breaker_open", "spend_limit", "batched"})
"""Attempts that ended before anything was sent, were refused for want of money, or have handed their question in."""

_SPREAD: Final = 0.2
_LONGEST_WAIT_S: Final = 86_400.0
_HOLD_S: Final = 3_600.0
"""For a budget without a period: look again after this."""
_SPEND_LIMIT_S: Final = 600.0
"""The provider takes no more of our money: nobody tells when somebody has seen to it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds before each further attempt, ± 20 %. They end with the last one, or where `for_s` is given go on with it
    until that long after the first attempt, and one more is made just then."""

    waits_s: tuple[float, ...]
    for_s: float | None = None


ASKING: Final = Schedule((2.0, 4.0))
"""Of steps that ask the model: within each attempt the metered client has tried again already."""


def delivering(for_s: float) -> Schedule:
    """Of steps that send a result to the app, which may be away for a night: much as Standard Webhooks 1.0 has it."""
    return Schedule((5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0), for_s)


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """Why an attempt failed. `code` is a closed set fit for labels and history; `retry_after_s` is what the other side
    asked for; `hold_until_ms` is set when a budget is spent and the policy says to wait."""

    code: str
    detail: str = ""
    retryable: bool = False
    retry_after_s: float | None = None
    hold_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt, not before `due_ms`."""

    due_ms: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The job waits for a budget until `due_ms`."""

    due_ms: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The job ends here, by this name, until somebody replays it."""

    code: str


Verdict = Again | Hold | Fail


def next_step(job: LeadJob) -> StepRecord | None:
    """The first step without a result; None when the job is complete."""
    records = {record.name: record for record in job.steps}
    for name in StepName:
        record = records.get(name, StepRecord(name, StepState.WAITING))
        if record.state is not StepState.DONE:
            return record
    return None


def failures(attempts: Sequence[Attempt]) -> int:
    """Attempts that failed by their own fault."""
    return sum(attempt.state is AttemptState.FAILED and attempt.error_code not in _BLAMELESS for attempt in attempts)


def is_last_try(attempts: Sequence[Attempt], schedule: Schedule) -> bool:
    """Will a failure of the attempt that starts now be the job's end, however early it comes?"""
    return schedule.for_s is None and failures(attempts) >= len(schedule.waits_s)


def judge(fault: AttemptFailure, earlier: Sequence[Attempt], now_ms: int, jitter: float, schedule: Schedule) -> Verdict:
    """What the end of an attempt by this fault means. `earlier` are the step's attempts before it; `jitter` is uniform
    in 0..1. Waits are never shorter than what the other side asked for, but for the last one of a time that ends."""
    if fault.hold_until_ms is not None:
        return Hold(max(fault.hold_until_ms, now_ms))
    if fault.code in _BLAMELESS and fault.retryable:
        return Again(now_ms + _ms((fault.retry_after_s or 0.0) + jitter))
    ends_ms = _ends_ms(schedule, earlier, now_ms)
    if not fault.retryable or (now_ms >= ends_ms if ends_ms is not None else is_last_try(earlier, schedule)):
        return Fail(fault.code)
    nominal_s = schedule.waits_s[min(failures(earlier), len(schedule.waits_s) - 1)]
    own_s = nominal_s * (1 - _SPREAD + 2 * _SPREAD * jitter)
    due_ms = now_ms + _ms(max(own_s, fault.retry_after_s or 0.0))
    return Again(due_ms if ends_ms is None else min(due_ms, ends_ms))


def _ends_ms(schedule: Schedule, earlier: Sequence[Attempt], now_ms: int) -> int | None:
    """When a schedule that has an end ends; None of one that has none."""
    if schedule.for_s is None:
        return None
    return (earlier[0].started_ms if earlier else now_ms) + round(schedule.for_s * 1000)


def hold_until_ms(reset_ms: int | None, now_ms: int) -> int:
    """When a held job looks again: the end of the budget's period, or in an hour when it has none."""
    return now_ms + _ms(_HOLD_S) if reset_ms is None else reset_ms


def spend_limit_until_ms(now_ms: int) -> int:
    """When a job looks again that met a spend limit of the provider."""
    return now_ms + _ms(_SPEND_LIMIT_S)


def with_attempt(job: LeadJob, name: StepName, attempt: Attempt, result: Json) -> LeadJob:
    """The job after one more finished attempt, as the database has it."""
    return replace(job, steps=tuple(_moved(record, name, attempt, result) for record in job.steps))


def _moved(record: StepRecord, name: StepName, attempt: Attempt, result: Json) -> StepRecord:
    if record.name is not name:
        return record
    attempts = (*record.attempts, attempt)
    if attempt.state is AttemptState.DONE:
        return StepRecord(name, StepState.DONE, attempts, result)
    return replace(record, attempts=attempts)


def _ms(seconds: float) -> int:
    return round(min(seconds, _LONGEST_WAIT_S) * 1000)
