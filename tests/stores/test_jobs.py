"""The JobStore port, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select

from scopegate.errors import LeaseLost
from scopegate.leads.job import (
    Action,
    Attempt,
    AttemptState,
    JobFilter,
    JobState,
    LeadJob,
    Lease,
    OrderState,
    StepState,
)
from scopegate.limits.steps import StepName
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.leases import CANCELLED
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.schema import steps
from scopegate.types import Json
from tests.stores.orders import HOSTILE, accepted, booked, call, lead, order

PHOTOS, SCOPE = StepName.PHOTO_ANALYSIS, StepName.SCOPE
RESULT: Json = {"rooms": ["roof", HOSTILE], "confidence": 0.5, "none": None, "big": 2**53}


@pytest.fixture
def jobs(database: Database) -> SqlJobs:
    return SqlJobs(database)


async def leased(jobs: SqlJobs, job_id: str, now_ms: int = 2_000, until_ms: int = 3_000) -> Lease:
    taken = await jobs.lease(job_id, "worker-1", now_ms, until_ms)
    assert taken is not None
    return taken[0]


async def loaded(jobs: SqlJobs, job_id: str) -> LeadJob:
    job = await jobs.get(job_id)
    assert job is not None
    return job


async def run_step(jobs: SqlJobs, lease: Lease, step: StepName, result: object = RESULT) -> None:
    attempt = await jobs.start_attempt(lease, step, 2_000)
    done = replace(attempt, state=AttemptState.DONE, finished_ms=2_050, cost_usd_micros=70)
    await jobs.finish_attempt(lease, step, done, result)  # type: ignore[arg-type]


async def fail_step(jobs: SqlJobs, lease: Lease, step: StepName) -> Attempt:
    attempt = await jobs.start_attempt(lease, step, 2_000)
    failed = replace(attempt, state=AttemptState.FAILED, finished_ms=2_050, error_code="timeout", error_detail=HOSTILE)
    await jobs.finish_attempt(lease, step, failed)
    return failed


# ── leases ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lease_takes_the_job_once(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    taken = await jobs.lease(job.job_id, "worker-1", 1_000, 1_500)
    assert taken is not None
    lease, leased_job = taken
    assert lease == Lease(job.job_id, "worker-1", 1, 1_500)
    assert leased_job == replace(job, state=JobState.RUNNING, due_ms=1_500, tries=1)
    assert await jobs.lease(job.job_id, "worker-2", 1_499, 9_000) is None


async def test_what_is_not_due_or_not_there_is_not_leased(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database, received_ms=1_000)
    assert await jobs.lease(job.job_id, "worker-1", 999, 9_000) is None
    assert await jobs.lease("job_unknown", "worker-1", 9_000, 9_999) is None


async def test_an_expired_lease_can_be_taken_over_with_a_higher_token(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    first = await leased(jobs, job.job_id, until_ms=3_000)
    second = await jobs.lease(job.job_id, "worker-2", 3_000, 4_000)
    assert second is not None
    assert second[0].token > first.token
    assert second[1].tries == 2


async def test_many_at_once_on_two_connections_give_one_lease(database: Database, database_url: str) -> None:
    job = await accepted(database)
    other = await open_database(database_url)
    try:
        stores = [SqlJobs(database), SqlJobs(other)]
        taken = await asyncio.gather(*(stores[n % 2].lease(job.job_id, f"w{n}", 2_000, 3_000) for n in range(40)))
    finally:
        await other.close()
    assert sum(answer is not None for answer in taken) == 1


async def test_renewing_moves_the_end(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await jobs.renew(await leased(jobs, job.job_id, until_ms=3_000), 5_000)
    assert lease.until_ms == 5_000
    assert await jobs.lease(job.job_id, "worker-2", 4_999, 9_000) is None
    assert await jobs.lease(job.job_id, "worker-2", 5_000, 9_000) is not None


async def test_an_expired_lease_that_nobody_took_still_writes(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id, until_ms=2_001)
    await run_step(jobs, lease, PHOTOS)
    assert (await loaded(jobs, job.job_id)).results() == {PHOTOS: RESULT}


WRITES: dict[str, Callable[[SqlJobs, Lease, Attempt], Awaitable[object]]] = {
    "renew": lambda jobs, lease, _: jobs.renew(lease, 9_000),
    "start_attempt": lambda jobs, lease, _: jobs.start_attempt(lease, SCOPE, 2_000),
    "finish_attempt": lambda jobs, lease, attempt: jobs.finish_attempt(
        lease, PHOTOS, replace(attempt, state=AttemptState.DONE), RESULT
    ),
    "release": lambda jobs, lease, _: jobs.release(lease, 9_000),
    "hold": lambda jobs, lease, _: jobs.release(lease, 9_000, held=True, error_code="no_budget"),
    "finish": lambda jobs, lease, _: jobs.finish(lease, 9_000),
    "fail": lambda jobs, lease, _: jobs.finish(lease, 9_000, error_code="timeout"),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_stale_token_writes_nothing(jobs: SqlJobs, database: Database, name: str) -> None:
    job = await accepted(database)
    stale = await leased(jobs, job.job_id, until_ms=3_000)
    attempt = await jobs.start_attempt(stale, PHOTOS, 2_000)
    await leased(jobs, job.job_id, now_ms=3_000, until_ms=4_000)
    before = await jobs.get(job.job_id)
    with pytest.raises(LeaseLost):
        await WRITES[name](jobs, stale, attempt)
    assert await jobs.get(job.job_id) == before


@pytest.mark.parametrize("name", WRITES)
async def test_nothing_is_written_after_giving_the_job_back(jobs: SqlJobs, database: Database, name: str) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    attempt = await jobs.start_attempt(lease, PHOTOS, 2_000)
    await jobs.release(lease, 2_000)
    before = await jobs.get(job.job_id)
    with pytest.raises(LeaseLost):
        await WRITES[name](jobs, lease, attempt)
    assert await jobs.get(job.job_id) == before


# ── steps and attempts ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_attempt_runs_then_ends_with_the_step(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    assert await jobs.start_attempt(lease, PHOTOS, 2_000) == Attempt(1, AttemptState.RUNNING, 2_000)
    assert (await loaded(jobs, job.job_id)).steps[0].state is StepState.RUNNING
    done = Attempt(1, AttemptState.DONE, 2_000, 2_050, cost_usd_micros=70)
    await booked(SqlLedger(database), call("c1", 70, job_id=job.job_id, step="photo_analysis"))
    assert await jobs.finish_attempt(lease, PHOTOS, replace(done, cost_usd_micros=0), RESULT) == (done, None)
    step = (await loaded(jobs, job.job_id)).steps[0]
    assert (step.name, step.state, step.attempts, step.result) == (PHOTOS, StepState.DONE, (done,), RESULT)


async def test_failed_attempts_are_counted_and_the_step_waits(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    first = await fail_step(jobs, lease, PHOTOS)
    second = await fail_step(jobs, lease, PHOTOS)
    step = (await loaded(jobs, job.job_id)).steps[0]
    assert step.attempts == (first, second)
    assert [attempt.n for attempt in step.attempts] == [1, 2]
    assert (step.state, step.result) == (StepState.WAITING, None)


async def test_a_done_step_is_never_overwritten(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    attempt = await jobs.start_attempt(lease, PHOTOS, 2_000)
    await jobs.finish_attempt(lease, PHOTOS, replace(attempt, state=AttemptState.DONE), RESULT)
    before = await jobs.get(job.job_id)
    await jobs.finish_attempt(lease, PHOTOS, replace(attempt, state=AttemptState.DONE), {"other": 1})
    await jobs.finish_attempt(lease, PHOTOS, replace(attempt, state=AttemptState.FAILED, error_code="late"))
    with pytest.raises(AssertionError, match="is done"):
        await jobs.start_attempt(lease, PHOTOS, 2_100)
    assert await jobs.get(job.job_id) == before


async def test_what_a_dead_worker_was_doing_is_lost_with_its_bill(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    dead = await leased(jobs, job.job_id, until_ms=3_000)
    await run_step(jobs, dead, PHOTOS)
    await jobs.start_attempt(dead, SCOPE, 2_100)
    ledger = SqlLedger(database)
    for n in (1, 2):
        await booked(ledger, call(f"c{n}", 40, job_id=job.job_id, step="scope", call_n=n))
    await booked(ledger, call("c3", 500, job_id=job.job_id, step="scope", step_attempt=2))
    taken = await jobs.lease(job.job_id, "worker-2", 3_000, 4_000)
    assert taken is not None
    photos, scope = taken[1].steps[:2]
    assert (photos.state, photos.result) == (StepState.DONE, RESULT)
    assert scope.state is StepState.WAITING
    assert scope.attempts == (Attempt(1, AttemptState.LOST, 2_100, 3_000, "worker_lost", None, 80),)
    assert (await jobs.start_attempt(taken[0], SCOPE, 3_100)).n == 2


async def test_what_was_given_back_in_the_middle_of_an_attempt_is_lost(jobs: SqlJobs, database: Database) -> None:
    """Found by the simulation: a stop, and a database that does not take the attempt's end but the job's release."""
    job = await accepted(database)
    stopped = await leased(jobs, job.job_id)
    await jobs.start_attempt(stopped, PHOTOS, 2_100)
    await jobs.release(stopped, 2_200)
    taken = await jobs.lease(job.job_id, "worker-2", 2_300, 4_000)
    assert taken is not None
    assert [attempt.state for attempt in taken[1].steps[0].attempts] == [AttemptState.LOST]
    assert taken[1].losses == 0


async def test_the_next_step_begins_as_the_last_one_ends(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    attempt = await jobs.start_attempt(lease, PHOTOS, 2_000)
    done = replace(attempt, state=AttemptState.DONE, finished_ms=2_050)
    assert await jobs.finish_attempt(lease, PHOTOS, done, RESULT, then=SCOPE) == (
        done,
        Attempt(1, AttemptState.RUNNING, 2_050),
    )
    assert [step.state.value for step in (await loaded(jobs, job.job_id)).steps[:3]] == ["done", "running", "waiting"]


async def test_a_step_that_is_newer_than_its_job_begins_all_the_same(jobs: SqlJobs, database: Database) -> None:
    """No row of a step is there before it is started: an open job meets the steps of the program that runs it."""
    job = await accepted(database)
    assert await database.read(lambda conn: conn.scalar(select(func.count()).select_from(steps))) == 0
    assert [step.state for step in job.steps] == [StepState.WAITING] * len(StepName)
    lease = await leased(jobs, job.job_id)
    await run_step(jobs, lease, StepName.SCORE)
    assert (await loaded(jobs, job.job_id)).results() == {StepName.SCORE: RESULT}


async def test_the_last_step_ends_the_job(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    attempt = await jobs.start_attempt(lease, StepName.SCORE, 2_000)
    done = replace(attempt, state=AttemptState.DONE, finished_ms=2_400)
    assert await jobs.complete(lease, StepName.SCORE, done, RESULT, 61, 2_500) == done
    ended = await loaded(jobs, job.job_id)
    assert (ended.state, ended.score, ended.finished_ms) == (JobState.DONE, 61, 2_500)
    assert ended.results() == {StepName.SCORE: RESULT}
    with pytest.raises(LeaseLost):
        await jobs.complete(lease, StepName.SCORE, done, RESULT, 61, 2_600)


async def test_holders_that_died_are_counted_until_one_speaks(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    for n in range(3):
        taken = await jobs.lease(job.job_id, f"w{n}", 2_000 + n, 2_001 + n)
        assert taken is not None
        assert taken[1].losses == n
    assert taken is not None
    await fail_step(jobs, taken[0], PHOTOS)
    assert (await loaded(jobs, job.job_id)).losses == 0
    await jobs.release(taken[0], 2_100)
    again = await jobs.lease(job.job_id, "w9", 2_100, 2_200)
    assert again is not None
    assert again[1].losses == 0, "who gives a job back has not died"


async def test_a_dead_job_is_final_and_says_why(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    await jobs.finish(await leased(jobs, job.job_id), 2_500, error_code="crashed", reason="it kills", dead=True)
    dead = await loaded(jobs, job.job_id)
    assert (dead.state, dead.error_code, dead.reason) == (JobState.DEAD, "crashed", "it kills")
    assert await jobs.due(9_000, 10) == []
    assert await jobs.list(JobFilter(JobState.FAILED)) == []
    again = await jobs.replay(job.job_id, "job_again", 9_000)
    assert again is not None
    assert again.losses == 0


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_given_back_runs_again_when_due(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    await jobs.release(await leased(jobs, job.job_id), 8_000, error_code="overloaded")
    back = await loaded(jobs, job.job_id)
    assert (back.state, back.due_ms, back.error_code) == (JobState.QUEUED, 8_000, "overloaded")
    assert await jobs.lease(job.job_id, "worker-2", 7_999, 9_000) is None
    assert await jobs.lease(job.job_id, "worker-2", 8_000, 9_000) is not None


async def test_a_held_job_waits_for_money(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    await jobs.release(await leased(jobs, job.job_id), 8_000, held=True, error_code="no_budget")
    assert (await loaded(jobs, job.job_id)).state is JobState.HELD
    assert (await jobs.due(7_999, 10), await jobs.due(8_000, 10)) == ([], [job.job_id])


async def test_done_is_final(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    await jobs.finish(await leased(jobs, job.job_id), 2_500, score=73)
    done = await loaded(jobs, job.job_id)
    assert (done.state, done.finished_ms, done.score, done.error_code) == (JobState.DONE, 2_500, 73, None)
    assert await jobs.lease(job.job_id, "worker-2", 9_000, 9_999) is None
    assert await jobs.due(9_000, 10) == []


async def test_failed_is_final_and_names_the_step(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    await run_step(jobs, lease, PHOTOS)
    await fail_step(jobs, lease, SCOPE)
    await jobs.finish(lease, 2_500, error_code="timeout")
    failed = await loaded(jobs, job.job_id)
    assert (failed.state, failed.error_code, failed.finished_ms) == (JobState.FAILED, "timeout", 2_500)
    assert [step.state.value for step in failed.steps] == ["done", "failed", "waiting", "waiting", "waiting"]
    assert await jobs.lease(job.job_id, "worker-2", 9_000, 9_999) is None


async def test_an_attempt_still_running_at_the_end_is_lost(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    await jobs.start_attempt(lease, PHOTOS, 2_000)
    await jobs.finish(lease, 2_500, error_code="poison")
    step = (await loaded(jobs, job.job_id)).steps[0]
    assert (step.state, step.attempts[0].state) == (StepState.FAILED, AttemptState.LOST)


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_due_is_oldest_first_and_bounded(jobs: SqlJobs, database: Database) -> None:
    made = [await accepted(database, n, received_ms) for n, received_ms in enumerate((3_000, 1_000, 2_000, 9_000))]
    a, b, c, _ = (job.job_id for job in made)
    assert await jobs.due(3_000, 10) == [b, c, a]
    assert await jobs.due(3_000, 2) == [b, c]
    await leased(jobs, b, now_ms=3_000, until_ms=5_000)
    assert await jobs.due(4_999, 10) == [c, a]
    assert await jobs.due(5_000, 10) == [c, a, b]


async def test_listing_filters_newest_first_without_steps(jobs: SqlJobs, database: Database) -> None:
    one, two, three = [await accepted(database, n, n * 1_000) for n in (1, 2, 3)]
    other = await SqlOutbox(database).settle(
        order(4, 4_000, offload="texts"), OrderState.ACCEPTED, 201, lead("lead-1", None)
    )
    assert other is not None
    await jobs.finish(await leased(jobs, two.job_id), 2_500)

    async def ids(wanted: JobFilter) -> list[str]:
        return [job.job_id for job in await jobs.list(wanted)]

    assert await ids(JobFilter()) == [other.job_id, three.job_id, two.job_id, one.job_id]
    assert await ids(JobFilter(limit=2)) == [other.job_id, three.job_id]
    assert await ids(JobFilter(state=JobState.DONE)) == [two.job_id]
    assert await ids(JobFilter(offload="photos", lead_id="lead-1")) == [one.job_id]
    assert await ids(JobFilter(ids=(one.job_id, two.job_id, "none"))) == [two.job_id, one.job_id]
    assert (await jobs.list(JobFilter()))[-1] == replace(one, steps=())


async def test_counts_name_every_state(jobs: SqlJobs, database: Database) -> None:
    assert await jobs.counts() == {"queued": 0, "running": 0, "held": 0, "done": 0, "failed": 0, "dead": 0}
    first = await accepted(database, 1)
    await accepted(database, 2)
    await leased(jobs, first.job_id)
    assert await jobs.counts() == {"queued": 1, "running": 1, "held": 0, "done": 0, "failed": 0, "dead": 0}


async def test_an_unknown_job_is_none(jobs: SqlJobs) -> None:
    assert await jobs.get("job_unknown") is None


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_waiting_job_is_cancelled_once(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    ended = await jobs.cancel(job.job_id, 2_000)
    assert ended is not None
    assert (ended.state, ended.error_code, ended.finished_ms) == (JobState.FAILED, CANCELLED, 2_000)
    assert await jobs.due(9_000, 10) == []
    assert await jobs.cancel(job.job_id, 2_100) is None
    assert await jobs.cancel("job_unknown", 2_100) is None


async def test_whoever_holds_a_cancelled_job_writes_nothing_more(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    await run_step(jobs, lease, PHOTOS)
    attempt = await jobs.start_attempt(lease, SCOPE, 2_200)
    ended = await jobs.cancel(job.job_id, 2_500)
    assert ended is not None
    assert [(step.state.value, [one.error_code for one in step.attempts]) for step in ended.steps[:3]] == [
        ("done", [None]), ("failed", [CANCELLED]), ("waiting", []),
    ]  # fmt: skip
    for late in (
        lambda: jobs.renew(lease, 9_000),
        lambda: jobs.finish_attempt(lease, SCOPE, replace(attempt, state=AttemptState.DONE, finished_ms=2_600), RESULT),
        lambda: jobs.finish(lease, 2_600, score=1),
    ):
        with pytest.raises(LeaseLost):
            await late()
    assert await loaded(jobs, job.job_id) == ended
    again = await jobs.replay(job.job_id, "job_again", 9_000)
    assert again is not None
    assert list(again.results()) == [PHOTOS]


# ── replay ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def failed_job(jobs: SqlJobs, database: Database) -> LeadJob:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    await run_step(jobs, lease, PHOTOS)
    await fail_step(jobs, lease, SCOPE)
    await jobs.finish(lease, 2_500, error_code="timeout")
    return await loaded(jobs, job.job_id)


async def test_a_replay_keeps_what_was_paid_for(jobs: SqlJobs, database: Database) -> None:
    old = await failed_job(jobs, database)
    new = await jobs.replay(old.job_id, "job_again", 9_000)
    assert new is not None
    assert (new.job_id, new.replay_of, new.state, new.created_ms, new.due_ms) == (
        "job_again",
        old.job_id,
        JobState.QUEUED,
        9_000,
        9_000,
    )
    assert (new.lead, new.offload, new.request_id, new.tries) == (old.lead, old.offload, old.request_id, 0)
    assert new.results() == {PHOTOS: RESULT}
    assert [step.attempts for step in new.steps] == [()] * 5
    assert await jobs.get(old.job_id) == old
    assert await jobs.due(9_000, 10) == ["job_again"]


async def test_a_replay_of_a_done_job_sends_its_result_again(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    for step in StepName:
        await run_step(jobs, lease, step)
    await jobs.finish(lease, 2_500, score=70)
    new = await jobs.replay(job.job_id, "job_again", 9_000)
    assert new is not None
    assert new.results() == dict.fromkeys((PHOTOS, SCOPE, StepName.ESTIMATE), RESULT)
    assert [step.state for step in new.steps[3:]] == [StepState.WAITING] * 2


async def test_only_a_final_job_is_replayed(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    assert await jobs.replay("job_unknown", "job_again", 9_000) is None
    assert await jobs.replay(job.job_id, "job_again", 9_000) is None
    await leased(jobs, job.job_id)
    assert await jobs.replay(job.job_id, "job_again", 9_000) is None


async def test_replays_asked_for_at_once_are_one_job(jobs: SqlJobs, database: Database) -> None:
    old = await failed_job(jobs, database)
    made = await asyncio.gather(*(jobs.replay(old.job_id, f"job_again_{n}", 9_000) for n in range(10)))
    assert len({job.job_id for job in made if job}) == 1
    assert len(await jobs.list(JobFilter())) == 2


async def test_a_finished_replay_does_not_stop_the_next(jobs: SqlJobs, database: Database) -> None:
    old = await failed_job(jobs, database)
    await jobs.replay(old.job_id, "job_again", 9_000)
    await jobs.finish(await leased(jobs, "job_again", 9_000, 9_999), 9_500, error_code="timeout")
    third = await jobs.replay(old.job_id, "job_third", 9_600)
    of_replay = await jobs.replay("job_again", "job_fourth", 9_600)
    assert third is not None
    assert of_replay is not None
    assert (third.job_id, of_replay.job_id, of_replay.results()) == ("job_third", "job_fourth", {PHOTOS: RESULT})


async def test_the_lead_sent_again_finds_its_first_job_not_the_replay(jobs: SqlJobs, database: Database) -> None:
    old = await failed_job(jobs, database)
    await jobs.replay(old.job_id, "job_again", 9_000)
    again = await SqlOutbox(database).settle(order(9), OrderState.ACCEPTED, 200, lead("lead-1"))
    assert again is not None
    assert again.job_id == old.job_id


async def test_a_replay_may_begin_at_a_step_of_its_own(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    for step in StepName:
        await run_step(jobs, lease, step)
    await jobs.finish(lease, 2_500, score=1)
    for step in StepName:
        new = await jobs.replay(job.job_id, f"job_{step}", 9_000, step)
        assert new is not None
        assert list(new.results()) == list(StepName)[: list(StepName).index(step)]
        await jobs.cancel(new.job_id, 9_100)


async def test_listing_can_leave_out_what_was_replayed_and_look_for_an_error(jobs: SqlJobs, database: Database) -> None:
    old = await failed_job(jobs, database)
    code = old.error_code
    assert code is not None
    listed = partial(jobs.list, JobFilter(JobState.FAILED, error_code=code, not_replayed=True))
    assert [job.job_id for job in await listed()] == [old.job_id]
    assert await jobs.list(JobFilter(error_code="another")) == []
    await jobs.replay(old.job_id, "job_again", 9_000)
    assert await listed() == []


# ── by hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_replay_with_another_input_begins_at_the_first_step_and_says_who_asked(
    jobs: SqlJobs, database: Database
) -> None:
    old = await failed_job(jobs, database)
    edited = replace(old.lead, text="The roof does not leak.", photos=())
    new = await jobs.replay(old.job_id, "job_again", 9_000, edited=edited, actor="ann")
    assert new is not None
    assert (new.lead, new.results(), new.replay_of) == (edited, {}, old.job_id)
    assert await jobs.get(old.job_id) == old
    (action,) = await jobs.actions("job_again")
    assert action == Action(
        9_000, "ann", "replay", "job_again", f"of {old.job_id} with another text with another photos"
    )


async def test_what_is_done_by_hand_is_written_down_newest_first(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    await jobs.pause("photos", 1_000, "ann")
    await jobs.cancel(job.job_id, 2_000, "bob")
    await jobs.cancel(job.job_id, 2_100, "bob")
    await jobs.resume("photos", 3_000, HOSTILE)
    await jobs.record(Action(4_000, "ann", "discard", "order-1"))
    assert [(one.name, one.actor, one.subject) for one in await jobs.actions()] == [
        ("discard", "ann", "order-1"),
        ("resume", HOSTILE, "photos"),
        ("cancel", "bob", job.job_id),
        ("pause", "ann", "photos"),
    ]
    assert len(await jobs.actions(limit=2)) == 2
    assert [one.name for one in await jobs.actions("photos")] == ["resume", "pause"]


async def test_listing_by_contractor_request_and_time(jobs: SqlJobs, database: Database) -> None:
    made = [await accepted(database, n, n * 1_000) for n in (1, 2, 3)]

    async def ids(**wanted: Any) -> list[str]:
        return [job.job_id for job in await jobs.list(JobFilter(**wanted))]

    one, two, three = (job.job_id for job in made)
    assert await ids(contractor="roofers") == [three, two, one]
    assert await ids(contractor="others") == []
    assert await ids(request_id="req-2") == [two]
    assert await ids(since_ms=2_000) == [three, two]
    assert await ids(until_ms=2_000) == [one]
    await jobs.cancel(two, 9_000)
    assert await ids(is_open=True) == [three, one]


# ── what the console asks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_page_of_jobs_goes_on_where_one_ended(jobs: SqlJobs, database: Database) -> None:
    made = [await accepted(database, n) for n in range(5)]
    order_of = [job.job_id for job in await jobs.list(JobFilter())]
    seen: list[str] = []
    after: tuple[int, str] | None = None
    while page := await jobs.list(JobFilter(after=after, limit=2)):
        seen += [job.job_id for job in page]
        after = (page[-1].created_ms, page[-1].job_id)
    assert seen == order_of
    assert len(seen) == len(made)


async def test_a_text_is_found_in_ids_errors_and_where_it_may_be_in_words(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database, 100)
    lease = await leased(jobs, job.job_id)
    await fail_step(jobs, lease, PHOTOS)
    await jobs.finish(lease, 2_100, error_code="bad_answer", reason="the model said NO_1")

    async def found(text: str, *, in_words: bool = False) -> bool:
        return bool(await jobs.list(JobFilter(text=text, in_words=in_words)))

    for text in ("LEAD-100", "BAD_answer", "no_1", job.job_id[:12]):
        assert await found(text), text
    for text in ("lead-1000", "lead%100", "no_12", "nowhere"):
        assert not await found(text), text
    words = job.lead.text[:20]
    assert not await found(words)
    assert await found(words, in_words=True)
    assert await jobs.searched_to(JobFilter(text="lead")) is None, "all was looked through"


async def test_what_has_ended_lately_is_counted(jobs: SqlJobs, database: Database) -> None:
    job = await accepted(database)
    lease = await leased(jobs, job.job_id)
    await jobs.finish(lease, 2_100, score=5)
    assert await jobs.ended(2_100) == {"done": 1, "failed": 0, "dead": 0}
    assert await jobs.ended(2_101) == {"done": 0, "failed": 0, "dead": 0}


async def test_actions_are_paged_by_their_numbers(jobs: SqlJobs) -> None:
    for n in range(5):
        await jobs.record(Action(n, "anna", "pause", f"offload-{n}"))
    first = await jobs.actions(limit=2)
    rest = await jobs.actions(before=first[-1].number)
    assert [one.subject for one in (*first, *rest)] == [f"offload-{n}" for n in (4, 3, 2, 1, 0)]
