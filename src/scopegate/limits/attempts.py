"""One logical model call as a table: what to do next, from what has happened so far.

Pure; the metered client walks it. There is one owner of retries, and this is it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from scopegate.limits.backoff import delay_s

MAX_REPAIRS = 1
"""A paid answer that breaks the rules is asked for again this often, however many tries are left."""


@dataclass(frozen=True, slots=True)
class TryFailure:
    """How the last try failed. `retry_after_s` is what the server asked for, uncapped; `answered` marks a paid answer
    that cannot be used, which is asked for again at most `MAX_REPAIRS` times, whatever the number of retries."""

    retryable: bool
    retry_after_s: float | None = None
    answered: bool = False


class Reason(StrEnum):
    """Why no further try is made."""

    NOT_RETRYABLE = "not_retryable"
    TRIES_SPENT = "tries_spent"
    REPAIRS_SPENT = "repairs_spent"
    RETRY_AFTER_TOO_LONG = "retry_after_too_long"
    NO_TIME_LEFT = "no_time_left"


@dataclass(frozen=True, slots=True)
class Call:
    """Make try number `n` (from 1)."""

    n: int


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: Reason


Move = Call | Wait | GiveUp


@dataclass(frozen=True, slots=True)
class CallPlan:
    """`retries` is how often a failed try is repeated: `retries=3` makes at most four calls. A plan whose last try
    succeeded is simply not asked again."""

    retries: int
    tries: int = 0
    repairs: int = 0
    fault: TryFailure | None = None
    waited: bool = False

    def next(self, jitter: float, time_left_s: float | None = None) -> Move:
        """The next move. `jitter` is uniform in 0..1; `time_left_s` None means no deadline. A wait that would end at
        or after the deadline is not begun."""
        if time_left_s is not None and time_left_s <= 0:
            return GiveUp(Reason.NO_TIME_LEFT)
        if self.fault is None or self.waited:
            return Call(self.tries + 1)
        if not self.fault.retryable:
            return GiveUp(Reason.NOT_RETRYABLE)
        if self.fault.answered and self.repairs > MAX_REPAIRS:
            return GiveUp(Reason.REPAIRS_SPENT)
        if not self.fault.answered and self.tries > self.retries:
            return GiveUp(Reason.TRIES_SPENT)
        delay = delay_s(self.tries, jitter, self.fault.retry_after_s)
        if delay is None:
            return GiveUp(Reason.RETRY_AFTER_TOO_LONG)
        if time_left_s is not None and delay >= time_left_s:
            return GiveUp(Reason.NO_TIME_LEFT)
        return Wait(delay)

    def after_wait(self) -> CallPlan:
        return replace(self, waited=True)

    def after_fault(self, fault: TryFailure) -> CallPlan:
        """The plan once a try has failed."""
        repairs = self.repairs + 1 if fault.answered else self.repairs
        return replace(self, tries=self.tries + 1, repairs=repairs, fault=fault, waited=False)
