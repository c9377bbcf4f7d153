"""Jobs, orders and calls as the JSON API shows them: moments in words, money in both units, no visitor's words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scopegate.admin import records
from scopegate.leads.job import (
    Attempt,
    AttemptState,
    JobState,
    Lead,
    LeadJob,
    OpenOrder,
    OrderState,
    StepRecord,
    StepState,
)
from scopegate.limits.steps import StepName
from tests.stores.orders import call

AT_MS = 1_800_000_000_000
ATTEMPTS = (
    Attempt(1, AttemptState.FAILED, AT_MS, AT_MS + 1500, "timeout", "too slow", 700),
    Attempt(2, AttemptState.RUNNING, AT_MS + 2000),
)
JOB = LeadJob(
    "job-1",
    "photos",
    Lead("lead-1", "roofers", "PLANTED words", ("https://b.test/1.jpg?Signature=PLANTED", "https://b.test/2.jpg")),
    "req-1",
    JobState.RUNNING,
    AT_MS,
    AT_MS + 250,
    tries=2,
    steps=(StepRecord(StepName.SCOPE, StepState.RUNNING, ATTEMPTS),),
)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (AT_MS + 250, "2027-01-15T08:00:00.250Z"),
    ],
)
def test_a_moment_is_rfc_3339_in_utc(ms: int | None, text: str | None) -> None:
    assert records.moment(ms) == text


def test_a_job_in_short() -> None:
    assert records.job_summary(JOB) == {
        "job_id": "job-1",
        "lead_id": "lead-1",
        "offload": "photos",
        "contractor": "roofers",
        "photos": 2,
        "request_id": "req-1",
        "state": "running",
        "created": "2027-01-15T08:00:00.000Z",
        "due": "2027-01-15T08:00:00.250Z",
        "finished": None,
        "tries": 2,
        "error_code": None,
        "reason": None,
        "score": None,
        "replay_of": None,
    }


def test_a_job_in_full_has_its_attempts_and_what_its_calls_cost() -> None:
    calls = [call("a", 700), call("b", 1_300_000)]
    detail = json.loads(json.dumps(records.job_detail(JOB, calls)))
    assert (detail["cost_usd_micros"], detail["cost_usd"]) == (1_300_700, 1.3007)
    assert [[row["call_id"], row["cost_usd"]] for row in detail["calls"]] == [["a", 0.0007], ["b", 1.3]]
    [step] = detail["steps"]
    failed, running = step["attempts"]
    assert (step["name"], step["state"], step["result"]) == ("scope", "running", None)
    assert (failed["duration_ms"], failed["error_code"], failed["cost_usd_micros"]) == (1500, "timeout", 700)
    assert (running["duration_ms"], running["finished"]) == (None, None)


def test_neither_the_leads_words_nor_its_addresses_are_shown() -> None:
    finished = replace(JOB, finished_ms=AT_MS, score=70)
    assert "PLANTED" not in json.dumps([records.job_summary(finished), records.job_detail(finished, [call("a", 1)])])


def test_an_open_order() -> None:
    order = OpenOrder("order-1", "photos", "submit-lead", "req-1", AT_MS, OrderState.UNKNOWN, None)
    assert records.order_summary(order) == {
        "order_id": "order-1",
        "state": "unknown",
        "offload": "photos",
        "route": "submit-lead",
        "request_id": "req-1",
        "received": "2027-01-15T08:00:00.000Z",
        "status": None,
    }


def test_usage_has_its_cost_in_dollars_too() -> None:
    assert records.usage_row({"day": "2027-01-15", "cost_usd_micros": 2_500_000, "unknown_usd_micros": 500_000}) == {
        "day": "2027-01-15",
        "cost_usd_micros": 2_500_000,
        "cost_usd": 2.5,
        "unknown_usd_micros": 500_000,
        "unknown_usd": 0.5,
    }
