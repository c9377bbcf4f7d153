"""A job knows which of its steps have a result."""

from __future__ import annotations

import pytest

from scopegate.leads.job import JobState, Lead, LeadJob, StepRecord, StepState
from scopegate.limits.steps import StepName

DONE = StepRecord(StepName.PHOTO_ANALYSIS, StepState.DONE, result={"outcome": "analysed"})
EMPTY = StepRecord(StepName.SCOPE, StepState.DONE, result=None)


def job(*steps: StepRecord) -> LeadJob:
    return LeadJob("job-1", "photos", Lead("l", None, "", ()), "req", JobState.RUNNING, 0, 0, steps=steps)


@pytest.mark.parametrize("state", [state for state in StepState if state is not StepState.DONE])
def test_only_a_finished_step_has_a_result(state: StepState) -> None:
    other = StepRecord(StepName.SCOPE, state, result="a remnant")
    assert job(DONE, other).results() == {StepName.PHOTO_ANALYSIS: {"outcome": "analysed"}}


def test_a_finished_step_may_have_null_for_its_result() -> None:
    assert job(EMPTY).results() == {StepName.SCOPE: None}
    assert job().results() == {}


def test_the_steps_are_in_the_order_they_run() -> None:
    assert [step.value for step in StepName] == ["photo_analysis", "scope", "estimate", "save", "score"]
