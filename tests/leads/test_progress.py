"""Progress: what the end of an attempt means, as tables."""

from __future__ import annotations

import pytest

from scopegate.leads.job import Attempt, AttemptState, JobState, Lead, LeadJob, StepRecord, StepState
from scopegate.leads.progress import (
    ASKING,
    STOPPED,
    Again,
    AttemptFailure,
    Fail,
    Hold,
    delivering,
    failures,
    hold_until_ms,
    is_last_try,
    judge,
    next_step,
    with_attempt,
)
from scopegate.limits.steps import StepName

NOW = 1_000_000


def attempt(word: str, n: int = 1) -> Attempt:
    match word:
        case "done":
            return Attempt(n, AttemptState.DONE, 0)
        case "lost" | "stopped":
            return Attempt(n, AttemptState.LOST, 0, error_code="worker_lost" if word == "lost" else STOPPED)
        case _:
            return Attempt(n, AttemptState.FAILED, 0, error_code=word)


def history(words: str) -> tuple[Attempt, ...]:
    return tuple(attempt(word, n) for n, word in enumerate(words.split(), 1))


@pytest.mark.parametrize(
    ("words", "failed", "last"),
    [
        ("", 0, False),
        ("overloaded", 1, False),
        ("overloaded timeout", 2, True),
        ("no_budget breaker_open no_budget breaker_open", 0, False),
        ("overloaded breaker_open no_budget timeout", 2, True),
        ("lost lost stopped lost", 0, False),
    ],
)
def test_only_failures_of_its_own_count(words: str, failed: int, last: bool) -> None:
    assert failures(history(words)) == failed
    assert is_last_try(history(words), ASKING) is last


@pytest.mark.parametrize(
    ("fault", "earlier", "jitter", "verdict"),
    [
        (AttemptFailure("overloaded", retryable=True), "", 0.5, Again(NOW + 2000)),
        (AttemptFailure("overloaded", retryable=True), "", 0.0, Again(NOW + 1600)),
        (AttemptFailure("overloaded", retryable=True), "", 1.0, Again(NOW + 2400)),
        (AttemptFailure("overloaded", retryable=True), "timeout", 0.5, Again(NOW + 4000)),
        (AttemptFailure("overloaded", retryable=True), "timeout lost no_budget", 0.5, Again(NOW + 4000)),
        (AttemptFailure("overloaded", retryable=True), "timeout timeout", 0.5, Fail("overloaded")),
        (AttemptFailure("auth"), "", 0.5, Fail("auth")),
        (AttemptFailure("auth"), "lost", 0.5, Fail("auth")),
        (AttemptFailure("rate_limited", retryable=True, retry_after_s=30), "", 0.5, Again(NOW + 30_000)),
        (AttemptFailure("rate_limited", retryable=True, retry_after_s=1), "", 0.5, Again(NOW + 2000)),
        (AttemptFailure("rate_limited", retryable=True, retry_after_s=4e6), "", 0.5, Again(NOW + 86_400_000)),
        (
            AttemptFailure("breaker_open", retryable=True, retry_after_s=60),
            "timeout timeout",
            0.25,
            Again(NOW + 60_250),
        ),
        (AttemptFailure("breaker_open", retryable=True), "", 0.0, Again(NOW)),
        (AttemptFailure("no_budget"), "", 0.5, Fail("no_budget")),
        (AttemptFailure("no_budget", hold_until_ms=NOW + 5), "timeout timeout", 0.5, Hold(NOW + 5)),
        (AttemptFailure("no_budget", hold_until_ms=NOW - 5), "", 0.5, Hold(NOW)),
    ],
)
def test_what_the_end_of_an_attempt_means(fault: AttemptFailure, earlier: str, jitter: float, verdict: object) -> None:
    assert judge(fault, history(earlier), NOW, jitter, ASKING) == verdict


def test_a_result_is_sent_for_a_day_and_once_more_at_its_end() -> None:
    schedule, now_ms, waits_s = delivering(86_400), NOW, []
    earlier: tuple[Attempt, ...] = ()
    while isinstance(
        verdict := judge(AttemptFailure("unavailable", retryable=True), earlier, now_ms, 0.5, schedule), Again
    ):
        assert not is_last_try(earlier, schedule)
        waits_s.append((verdict.due_ms - now_ms) / 1000)
        earlier += (Attempt(len(earlier) + 1, AttemptState.FAILED, now_ms, error_code="unavailable"),)
        now_ms = verdict.due_ms
    assert verdict == Fail("unavailable")
    assert waits_s == [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800, 1045]
    assert now_ms == NOW + 86_400_000


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (AttemptFailure("unavailable", retryable=True, retry_after_s=300), Again(NOW + 300_000)),
        (AttemptFailure("unavailable", retryable=True, retry_after_s=1), Again(NOW + 5000)),
        (AttemptFailure("unavailable", retryable=True, retry_after_s=7200), Again(NOW + 3_600_000)),
        (AttemptFailure("rejected"), Fail("rejected")),
    ],
)
def test_an_app_that_asks_for_time_gets_it_within_the_whole(fault: AttemptFailure, verdict: object) -> None:
    assert judge(fault, (), NOW, 0.5, delivering(3600)) == verdict


def test_a_budget_without_a_period_is_looked_at_again_in_an_hour() -> None:
    assert hold_until_ms(None, NOW) == NOW + 3_600_000
    assert hold_until_ms(7, NOW) == 7


def job(*done: StepName) -> LeadJob:
    states = {name: StepState.DONE if name in done else StepState.WAITING for name in StepName}
    steps = tuple(StepRecord(name, state) for name, state in states.items())
    return LeadJob("job", "o", Lead("l", None, "", ()), "r", JobState.RUNNING, 0, 0, steps=steps)


def test_steps_run_in_order_and_a_done_one_is_passed_over() -> None:
    order = []
    current = job(StepName.SCOPE)
    while (record := next_step(current)) is not None:
        order.append(record.name)
        current = with_attempt(current, record.name, attempt("overloaded"), None)
        assert next_step(current) == StepRecord(record.name, StepState.WAITING, (attempt("overloaded"),))
        current = with_attempt(current, record.name, attempt("done", 2), {"by": record.name})
    assert order == [StepName.PHOTO_ANALYSIS, StepName.ESTIMATE, StepName.SAVE, StepName.SCORE]
    assert current.results()[StepName.SAVE] == {"by": StepName.SAVE}
    assert [len(step.attempts) for step in current.steps] == [2, 0, 2, 2, 2]
