"""The life of a job: every step for real, and every way in which an attempt ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from scopegate.clock import ManualClock
from scopegate.demo.claude import Injected
from scopegate.errors import LeaseLost, StoreUnavailable
from scopegate.leads.job import AttemptState, JobState, LeadJob, StepState
from scopegate.limits.budget import Reservation, accounts
from scopegate.limits.steps import StepName
from scopegate.policy.policy import WhenSpent
from scopegate.stores.jobs import SqlJobs
from scopegate.types import Json
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures for `home`
from tests.stores.orders import intent
from tests.worker.app import Asked, answer
from tests.worker.house import JPEGS, House, ai, budget, house

STEPS = [name.value for name in StepName]


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """With the AI policy given as an indirect parameter, if any."""
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude, getattr(request, "param", None)) as built:
        yield built


def outcomes(job: LeadJob) -> dict[str, list[str]]:
    """Each step's attempts, as words."""
    return {
        step.name.value: [attempt.error_code or attempt.state.value for attempt in step.attempts]
        for step in job.steps
        if step.attempts
    }


# ── the whole way ───────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_lead_goes_all_the_way(home: House) -> None:
    queued = await home.order(home.app.photos(3), lead_id="lead-7")
    job = await home.walk(queued.job_id)
    assert (job.state, job.error_code) == (JobState.DONE, None)
    assert outcomes(job) == {step: ["done"] for step in STEPS}
    assert [call.schema for call in home.claude.calls] == ["PhotoAnalysis", "ScopeOfWork", "Estimate"]
    assert len(home.claude.calls[0].pictures) == 3
    completed, scored = home.app.messages
    assert completed["type"] == "lead.analysis.completed"
    assert completed["timestamp"] == "2027-01-15T08:00:00.000Z"
    data = completed["data"]
    assert (data["lead_id"], data["contractor"], data["job_id"]) == ("lead-7", "roofers", job.job_id)
    assert data["outcome"] == "analysed"
    assert data["photos"] == [{"photo": n, "outcome": "used", "parts": 1, "unseen": []} for n in (1, 2, 3)]
    total = sum(line["amount_cents"] for line in data["estimate"]["line_items"])
    assert data["estimate"]["total_cents"] == total > 0
    assert scored["type"] == "lead.score.updated"
    assert scored["data"]["score"] == job.score == sum(scored["data"]["parts"].values())
    assert home.app.ids == [f"msg_{job.job_id}_save", f"msg_{job.job_id}_score"]


async def test_the_history_costs_what_the_ledger_says(home: House) -> None:
    job = await home.walk((await home.order()).job_id)
    calls = await home.ledger.calls(job_id=job.job_id)
    by_step = {step.name.value: sum(attempt.cost_usd_micros for attempt in step.attempts) for step in job.steps}
    assert {call.step: call.cost_usd_micros for call in calls} == {k: v for k, v in by_step.items() if v}
    assert all(call.lead_id == job.lead.lead_id and call.contractor == "roofers" for call in calls)
    assert sum(by_step.values()) > 0


async def test_a_replay_keeps_what_is_paid(home: House) -> None:
    async def broken(asked: Asked) -> bytes:
        return answer(422)

    home.app.hook = broken
    failed = await home.walk((await home.order(photos=[])).job_id)
    assert (failed.state, failed.error_code) == (JobState.FAILED, "rejected")
    home.app.hook = None
    replay = await home.jobs.replay(failed.job_id, "job_again", home.clock.now_ms())
    assert replay is not None
    job = await home.walk("job_again")
    assert (job.state, outcomes(job)) == (JobState.DONE, {"save": ["done"], "score": ["done"]})
    assert home.claude.requests == 2
    assert home.app.messages[0]["data"]["scope"] == job.results()[StepName.SCOPE]["scope"]  # type: ignore[call-overload, index]


# ── the model ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_step_is_tried_three_times_with_growing_waits(home: House) -> None:
    home.claude.fail(*[Injected("error", 529)] * 3)
    job = await home.walk((await home.order(photos=[])).job_id)
    assert (job.state, job.due_ms - home.clock.now_ms()) == (JobState.QUEUED, 2000)
    assert isinstance(home.clock, ManualClock)
    home.clock.advance(2)
    job = await home.walk(job.job_id)
    assert (job.state, job.due_ms - home.clock.now_ms()) == (JobState.QUEUED, 4000)
    home.clock.advance(4)
    job = await home.walk(job.job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "overloaded")
    assert outcomes(job) == {"photo_analysis": ["done"], "scope": ["overloaded"] * 3}
    assert [step.state for step in job.steps][:3] == [StepState.DONE, StepState.FAILED, StepState.WAITING]
    assert home.app.messages == []


@pytest.mark.parametrize(("status", "code"), [(401, "auth"), (400, "bad_request")])
async def test_a_final_error_is_not_tried_again(
    home: House,
    status: int,
    code: str,
) -> None:
    home.claude.fail(Injected("error", status))
    job = await home.walk((await home.order(photos=[])).job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, code)
    assert outcomes(job) == {"photo_analysis": ["done"], "scope": [code]}


async def test_an_answer_that_breaks_the_schema_costs_money_and_is_not_stored(home: House) -> None:
    home.claude.fail(Injected("wrong_schema"))
    job = await home.walk_to_end((await home.order()).job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["photo_analysis"] == ["done"]
    calls = [one for one in await home.ledger.calls(job_id=job.job_id) if one.step == "photo_analysis"]
    assert [one.outcome for one in calls] == ["invalid_output", "ok"]
    assert all(one.cost_usd_micros > 0 for one in calls)


async def test_a_second_bad_answer_ends_the_job_by_name_and_nothing_more_is_paid(home: House) -> None:
    home.claude.fail(Injected("wrong_schema"), Injected("wrong_schema"))
    job = await home.walk_to_end((await home.order()).job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "invalid_output")
    assert outcomes(job)["photo_analysis"] == ["invalid_output"]
    calls = await home.ledger.calls(job_id=job.job_id)
    assert [(one.outcome, one.call_n, one.cost_usd_micros > 0) for one in calls] == [
        ("invalid_output", 1, True),
        ("invalid_output", 2, True),
    ]
    assert job.steps[0].attempts[0].cost_usd_micros == sum(one.cost_usd_micros for one in calls)
    assert home.claude.requests == 2


async def test_retry_after_is_kept_to(home: House) -> None:
    home.claude.fail(Injected("error", 429, retry_after="300"))
    job = await home.walk((await home.order(photos=[])).job_id)
    assert (job.state, job.due_ms - home.clock.now_ms(), job.error_code) == (JobState.QUEUED, 300_000, "rate_limited")


async def test_an_open_breaker_is_waited_for_without_burning_a_try(home: House) -> None:
    job = await home.order(photos=[])
    home.breakers.denied_s = 42
    for _ in range(5):
        job = await home.walk(job.job_id)
        assert (job.state, job.due_ms - home.clock.now_ms()) == (JobState.QUEUED, 42_500)
        assert isinstance(home.clock, ManualClock)
        home.clock.advance(42.5)
    home.breakers.denied_s = None
    home.claude.fail(Injected("error", 529), Injected("error", 529))
    job = await home.walk_to_end(job.job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["scope"] == ["breaker_open"] * 5 + ["overloaded"] * 2 + ["done"]


@pytest.mark.parametrize("home", [ai(budget(100))], indirect=True)
async def test_a_spent_budget_holds_the_job_until_the_period_ends(home: House) -> None:
    job = await home.walk((await home.order()).job_id)
    assert (job.state, job.error_code) == (JobState.HELD, "no_budget")
    assert job.due_ms == home.clock.now_ms() + 16 * 3_600_000  # midnight, UTC
    assert home.claude.requests == 0


@pytest.mark.parametrize("home", [ai(budget(100, WhenSpent.FAIL))], indirect=True)
async def test_a_spent_budget_fails_the_job_when_the_policy_says_so(home: House) -> None:
    job = await home.walk((await home.order()).job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "no_budget")


SMALL = budget(100_000, WhenSpent.FAIL)


@pytest.mark.parametrize("home", [ai(SMALL)], indirect=True)
async def test_a_budget_that_is_only_set_aside_is_waited_for(home: House) -> None:
    """Also where a spent one fails the job."""
    job = await home.order(photos=[])
    now_ms = home.clock.now_ms()
    held = await home.ledger.reserve(accounts([SMALL], now_ms, {}), intent(100_000, now_ms), now_ms + 3_600_000)
    assert isinstance(held, Reservation)
    job = await home.walk(job.job_id)
    assert (job.state, job.error_code) == (JobState.QUEUED, "no_budget")
    await home.ledger.withdraw(held)
    job = await home.walk_to_end(job.job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["scope"] == ["no_budget", "done"]


@pytest.mark.parametrize(
    "refusal",
    [
        Injected("error", 402),
        Injected("error", 429, error_code="enforced_spend_limit_reached"),
        Injected("error", 400, message="Your credit balance is too low to access the API."),
    ],
)
async def test_a_spend_limit_of_the_provider_is_waited_out(home: House, refusal: Injected) -> None:
    home.claude.fail(*[refusal] * 5)
    job = await home.order(photos=[])
    for _ in range(5):
        job = await home.walk(job.job_id)
        assert (job.state, job.error_code) == (JobState.HELD, "spend_limit")
        assert job.due_ms - home.clock.now_ms() == 600_000
        assert isinstance(home.clock, ManualClock)
        home.clock.advance(600)
    job = await home.walk_to_end(job.job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["scope"] == ["spend_limit"] * 5 + ["done"]


# ── the app ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_an_app_that_is_down_gets_the_same_message_again(home: House) -> None:
    seen: list[Asked] = []

    async def restarting(asked: Asked) -> bytes | None:
        seen.append(asked)
        return None if len(seen) == 1 else answer(503) if len(seen) == 2 else home.app.take(asked)

    home.app.hook = restarting
    job = await home.walk_to_end((await home.order(photos=[])).job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["save"] == ["unreachable", "unavailable", "done"]
    assert len({asked.get("webhook-id") for asked in seen[:3]}) == 1


# ── stops, crashes, outages, bugs ───────────────────────────────────────────────────────────────────────────────────
async def test_a_cancelled_walk_leaves_a_cut_attempt_and_no_failure(home: House) -> None:
    home.claude.fail(Injected("hang"))
    queued = await home.order(photos=[])
    walk = asyncio.create_task(home.walk(queued.job_id))
    while home.claude.requests < 1:
        await asyncio.sleep(0)
    walk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walk
    job = await home.job(queued.job_id)
    assert outcomes(job) == {"photo_analysis": ["done"], "scope": ["worker_stopped"]}
    booked = sum(call.cost_usd_micros for call in await home.ledger.calls(job_id=job.job_id))
    assert sum(attempt.cost_usd_micros for step in job.steps for attempt in step.attempts) == booked


async def test_a_job_that_took_five_workers_down_is_dead(home: House) -> None:
    job = await home.order()
    for _ in range(5):
        taken = await home.jobs.lease(job.job_id, "dies", home.clock.now_ms(), home.clock.now_ms() + 1)
        assert taken is not None
        await home.jobs.start_attempt(taken[0], StepName.PHOTO_ANALYSIS, home.clock.now_ms())
        assert isinstance(home.clock, ManualClock)
        home.clock.advance(1)
    job = await home.walk(job.job_id)
    assert (job.state, job.error_code, job.reason) == (JobState.DEAD, "crashed", "5 workers in a row died at it")
    assert [attempt.state for attempt in job.steps[0].attempts] == [AttemptState.LOST] * 5


async def test_a_stolen_lease_writes_nothing_more(home: House) -> None:
    queued = await home.order()

    async def steal(asked: Asked) -> bytes:
        assert isinstance(home.clock, ManualClock)
        home.clock.advance(20)
        assert await home.jobs.lease(queued.job_id, "thief", home.clock.now_ms(), home.clock.now_ms() + 15_000)
        return answer(200, JPEGS[asked.target])

    home.app.photo = steal
    with pytest.raises(LeaseLost):
        await home.walk(queued.job_id)
    job = await home.job(queued.job_id)
    assert (job.state, outcomes(job)) == (JobState.RUNNING, {"photo_analysis": ["worker_lost"]})


async def test_a_fault_of_ours_ends_by_name(home: House) -> None:
    """A stored analysis that breaks its own schema: what only a bug of ours, or a hand in the database, can leave."""
    queued, now_ms = await home.order(), home.clock.now_ms()
    taken = await home.jobs.lease(queued.job_id, "hand", now_ms, now_ms + 15_000)
    assert taken is not None
    attempt = await home.jobs.start_attempt(taken[0], StepName.PHOTO_ANALYSIS, now_ms)
    nonsense: Json = {"outcome": "analysed", "photos": [], "analysis": {"summary": "<script>"}}
    done = replace(attempt, state=AttemptState.DONE)
    await home.jobs.finish_attempt(taken[0], StepName.PHOTO_ANALYSIS, done, nonsense)
    await home.jobs.release(taken[0], now_ms)
    job = await home.walk_to_end(queued.job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "internal")
    assert outcomes(job)["scope"] == ["internal"] * 3
    assert job.steps[1].attempts[0].error_detail == "ValueError"


class _NoDisk(SqlJobs):
    """The disk is full from the first result on."""

    async def finish_attempt(self, *args: object, **kwargs: object) -> NoReturn:
        raise StoreUnavailable("full")


async def test_a_full_disk_leaves_the_attempt_to_the_next_holder(home: House) -> None:
    queued = await home.order(photos=[])
    home.life._jobs = _NoDisk(home.database)
    with pytest.raises(StoreUnavailable):
        await home.walk(queued.job_id)
    home.life._jobs = home.jobs
    assert isinstance(home.clock, ManualClock)
    home.clock.advance(20)
    job = await home.walk(queued.job_id)
    assert job.state is JobState.DONE
    assert outcomes(job)["photo_analysis"] == ["worker_lost", "done"]
