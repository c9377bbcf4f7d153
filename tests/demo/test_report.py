"""Whether the demo's story came true, as a table of ways in which it did not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scopegate.demo.report import (
    Answer,
    CallView,
    JobView,
    StepView,
    StoryResult,
    as_json,
    complaints,
    job_view,
    median_ms,
    quick_complaints,
)


def accepted(n: int, **fields: str) -> Answer:
    limits = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": str(10 - n), "x-ratelimit-reset": "10"}
    return Answer(201, limits | fields, 0.004)


def limited(**fields: str) -> Answer:
    limits = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "10", "retry-after": "9"}
    return Answer(429, limits | {"content-type": "application/problem+json"} | fields, 0.001)


QUICK = tuple([accepted(n) for n in range(1, 11)] + [limited()] * 5)
CALLS = (
    CallView("photo_analysis", 1, "overloaded", 0, 0, 150, 0),
    CallView("photo_analysis", 2, "server_error", 0, 0, 150, 0),
    CallView("photo_analysis", 3, "ok", 1000, 100, 160, 150),
    CallView("scope", 1, "ok", 500, 100, 160, 100),
    CallView("estimate", 1, "ok", 500, 100, 160, 100),
)
STEPS = tuple(StepView(name, "done", 1) for name in ("photo_analysis", "scope", "estimate", "save", "score"))
JOB = JobView("job_1", "lead_1", "done", None, STEPS, CALLS, 350)
TRUE = StoryResult(QUICK, QUICK[:10], JOB, 2, 350, True, 80, 30)


def test_a_story_that_came_true() -> None:
    assert complaints(TRUE) == []
    assert as_json(TRUE) == {
        "leads": {"sent": 15, "accepted": 10, "limited": 5},
        "job": {
            "id": "job_1",
            "lead_id": "lead_1",
            "state": "done",
            "steps": [{"name": step.name, "state": "done", "attempts": 1} for step in STEPS],
        },
        "ai": {"calls": 5, "failed": 2, "input_tokens": 2000, "output_tokens": 300, "cost_usd": 0.00035},
        "accept_ms": {"gateway_p50": 4.0, "direct_p50": 4.0},
        "delivered": True,
        "metrics_families": 30,
    }


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (replace(TRUE, job=replace(JOB, state="failed", error_code="auth")), "the job is failed (auth)"),
        (
            replace(TRUE, job=replace(JOB, steps=(*STEPS[:4], StepView("score", "waiting", 0)))),
            "steps: photo_analysis done, scope done, estimate done, save done, score waiting",
        ),
        (replace(TRUE, job=replace(JOB, steps=STEPS[:4])), "steps: photo_analysis done, scope done"),
        (replace(TRUE, promised_failures=1), "2 model calls failed instead of 1"),
        (replace(TRUE, job=replace(JOB, calls=CALLS[:4], cost_usd_micros=250)), "no paid call for estimate"),
        (replace(TRUE, ledger_usd_micros=349), "the calls' costs do not add up"),
        (replace(TRUE, job=replace(JOB, cost_usd_micros=349)), "the calls' costs do not add up"),
        (replace(TRUE, has_analysis=False), "the result did not arrive"),
        (replace(TRUE, score=None), "the result did not arrive"),
        (replace(TRUE, metrics_families=0), "no metrics"),
    ],
)
def test_what_is_wrong_is_said(outcome: StoryResult, complaint: str) -> None:
    found = complaints(outcome)
    assert any(one.startswith(complaint) for one in found)
    assert as_json(outcome)["failed"] == found


def test_with_the_real_api_nobody_promises_failures() -> None:
    assert complaints(replace(TRUE, promised_failures=None)) == []


@pytest.mark.parametrize(
    ("n", "answer", "complaint"),
    [
        (11, accepted(10), "of 15 quick leads 11 were accepted and 4 limited"),
        (3, limited(), "of 15 quick leads 9 were accepted and 6 limited"),
        (3, Answer(502, {}, 0.1), "quick lead 3: no number in x-ratelimit-limit"),
        (4, accepted(4, **{"x-ratelimit-limit": "30"}), "quick lead 4: x-ratelimit-limit is 30"),
        (5, accepted(4), "quick lead 5: x-ratelimit-remaining is 6"),
        (6, accepted(6, **{"x-ratelimit-reset": "soon"}), "quick lead 6: no number in x-ratelimit-reset"),
        (12, limited(**{"retry-after": "0"}), "quick lead 12: retry-after is 0"),
        (12, limited(**{"retry-after": "11"}), "quick lead 12: retry-after is 11"),
        (12, limited(**{"retry-after": ""}), "quick lead 12: retry-after is absent"),
        (12, limited(**{"content-type": "text/html"}), "quick lead 12: a 429 that is not problem+json"),
    ],
)
def test_the_limits_promise_is_checked_to_the_last_field(n: int, answer: Answer, complaint: str) -> None:
    answers = (*QUICK[: n - 1], answer, *QUICK[n:])
    assert any(one.startswith(complaint) for one in quick_complaints(answers))


def test_the_median_is_of_accepted_leads_only() -> None:
    answers = [replace(accepted(1), seconds=s) for s in (0.001, 0.002, 0.1)] + [limited()] * 9
    assert median_ms(answers) == 2.0
    assert median_ms([limited()]) == 0.0


def test_a_job_is_read_from_the_admin_ports_json() -> None:
    call = {"call_id": "c", "model": "m", "step": "scope", "call_n": 1, "outcome": "ok", "input_tokens": 1}
    call |= {"output_tokens": 2, "duration_ms": 3, "cost_usd_micros": 4}
    attempts = [{"n": 1, "error_code": "timeout"}, {"n": 2, "error_code": None}]
    detail: dict[str, Any] = {"job_id": "j", "lead_id": "l", "state": "running", "error_code": None}
    detail |= {"steps": [{"name": "scope", "state": "running", "attempts": attempts}], "calls": [call]}
    job = job_view(detail | {"cost_usd_micros": 4})
    assert job == JobView(
        "j",
        "l",
        "running",
        None,
        (StepView("scope", "running", 2, ("timeout",)),),
        (CallView("scope", 1, "ok", 1, 2, 3, 4),),
        4,
    )
    assert not job.is_final
    assert replace(job, state="failed").is_final
