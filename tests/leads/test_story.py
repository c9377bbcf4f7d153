"""The story of a lead: order of time, one sum, nothing of the visitor."""

from __future__ import annotations

import json

from scopegate.leads.job import (
    SENT,
    Attempt,
    AttemptState,
    JobState,
    Lead,
    LeadJob,
    LeadOrder,
    OrderRecord,
    OrderState,
    StepRecord,
    StepState,
)
from scopegate.leads.story import OnRecord, cost_usd_micros, tell
from scopegate.limits.steps import StepName
from tests.stores.orders import call

ORDER = OrderRecord(LeadOrder("ord-1", "photos", "lead", "req-1", 1000, {"t": "WORDS"}), OrderState.ACCEPTED, 201, "j")
ANALYSED = StepRecord(
    StepName.PHOTO_ANALYSIS,
    StepState.DONE,
    (
        Attempt(1, AttemptState.FAILED, 1010, 1020, "overloaded", "DETAIL", 5),
        Attempt(2, AttemptState.DONE, 1030, 1090, cost_usd_micros=700),
    ),
    {"analysis": "WORDS"},
)
SENT_STEP = StepRecord(StepName.SAVE, StepState.RUNNING, (Attempt(1, AttemptState.RUNNING, 1100),))
JOB = LeadJob(
    "job-1",
    "photos",
    Lead("lead-1", "roofers", "WORDS", ("https://x/?Signature=WORDS",)),
    "req-1",
    JobState.RUNNING,
    1000,
    0,
    steps=(ANALYSED, SENT_STEP),
)


def test_everything_is_told_in_order_of_time_and_each_dollar_once() -> None:
    failed, good = call("c1", 5, started_ms=1011, outcome="overloaded"), call("c2", 700, started_ms=1031)
    events = tell(OnRecord((ORDER,), (JOB,), (good, failed)))
    assert [(event.at_ms, event.kind, event.subject) for event in events] == [
        (1000, "order", "ord-1"),
        (1000, "job", "job-1"),
        (1010, "attempt", "photo_analysis"),
        (1011, "call", "c1"),
        (1030, "attempt", "photo_analysis"),
        (1031, "call", "c2"),
        (1100, "delivery", "save"),
    ]
    assert events[0].detail == "request req-1 of route lead: accepted, the app said 201"
    assert events[2].detail == "attempt 1: failed, overloaded"
    assert [event.took_ms for event in events] == [None, None, 10, failed.duration_ms, 60, good.duration_ms, None]
    assert cost_usd_micros(events) == 705
    assert "WORDS" not in json.dumps([event.to_json() for event in events])


def test_how_a_job_ended_and_what_it_repeats() -> None:
    done = LeadJob("j2", "o", JOB.lead, "r", JobState.DONE, 1, 1, finished_ms=9, score=61, replay_of="j1")
    failed = LeadJob("j3", "o", JOB.lead, "r", JobState.FAILED, 2, 2, finished_ms=8, error_code="auth")
    assert [event.detail for event in tell(OnRecord((), (done, failed), ()))] == [
        "offload o, 1 photo, replay of j1",
        "offload o, 1 photo",
        "failed, auth",
        "done, score 61",
    ]


def test_a_call_in_flight_has_no_length_yet() -> None:
    [event] = tell(OnRecord((), (), (call("c", 9, outcome=SENT),)))
    assert event.took_ms is None
