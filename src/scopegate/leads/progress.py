"""How a job moves on: which step is next, and what an attempt's end means for the job.

Pure. Three counts are kept apart: attempts that failed by their own fault (three, then the job fails by that fault's
name), waits that are nobody's fault (a spent budget, an open breaker: any number), and crashes of the worker in the
middle of an attempt (five in a row, then the job is poison). Called by `worker/life`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from scopegate.leads.job import Attempt, AttemptState, LeadJob, StepRecord, StepState
from scopegate.limits.steps import StepName
from scopegate.types import Json

MAX_ATTEMPTS: Final = 3
MAX_CRASHES: Final = 5
CRASHED: Final = "crashed"
"""The error code of a job whose step took its worker down MAX_CRASHES times in a row."""
STOPPED: Final = "worker_stopped"
"""The error code of an attempt cut short by an orderly stop: neither a failure nor a crash."""

_BLAMELESS: Final = frozenset({"no_budget", "breaker_open", "spend_limit"})
"""Attempts that ended before anything was sent, or were refused for want of money."""

_FIRST_DELAY_S: Final = 2.0
_SPREAD: Final = 0.2
_LONGEST_WAIT_S: Final = 86_400.0
_HOLD_S: Final = 3_600.0
"""For a budget without a period: look again after this."""
_SPEND_LIMIT_S: Final = 600.0
"""The provider takes no more of our money: nobody tells when somebody has seen to it."""


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
    """Attempts that count towards MAX_ATTEMPTS."""
    return sum(attempt.state is AttemptState.FAILED and attempt.error_code not in _BLAMELESS for attempt in attempts)


def crashes(attempts: Sequence[Attempt]) -> int:
    """Attempts at the end of the history whose worker died. An orderly stop is no crash, and breaks no row of them."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.state is not AttemptState.LOST:
            break
        count += attempt.error_code != STOPPED
    return count


def is_last_try(attempts: Sequence[Attempt]) -> bool:
    """Will a failure of the attempt that starts now be the job's end?"""
    return failures(attempts) + 1 >= MAX_ATTEMPTS


def judge(fault: AttemptFailure, earlier: Sequence[Attempt], now_ms: int, jitter: float) -> Verdict:
    """What the end of an attempt by this fault means. `earlier` are the step's attempts before it; `jitter` is uniform
    in 0..1. Waits are 2 s, then 4 s, each ± 20 %, and never shorter than what the other side asked for."""
    if fault.hold_until_ms is not None:
        return Hold(max(fault.hold_until_ms, now_ms))
    if fault.code in _BLAMELESS and fault.retryable:
        return Again(now_ms + _ms((fault.retry_after_s or 0.0) + jitter))
    failed = failures(earlier) + 1
    if not fault.retryable or failed >= MAX_ATTEMPTS:
        return Fail(fault.code)
    own_s = _FIRST_DELAY_S * 2 ** (failed - 1) * (1 - _SPREAD + 2 * _SPREAD * jitter)
    return Again(now_ms + _ms(max(own_s, fault.retry_after_s or 0.0)))


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
