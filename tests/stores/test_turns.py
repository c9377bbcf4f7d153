"""Which job runs next: lanes, contractors in turn and within their limits, pauses. On SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from scopegate.leads.job import JobFilter, JobState, Lease, OrderState, Precedence
from scopegate.stores import schema
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import FIRST_COME, SqlJobs
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.turns import MOST_PROMOTED
from tests.stores.orders import lead, order


@pytest.fixture
def jobs(database: Database) -> SqlJobs:
    return SqlJobs(database)


async def made(
    database: Database, *leads: tuple[str, str | None], offload: str = "photos", received_ms: int = 1_000
) -> None:
    """A job for each lead and its contractor, in this order."""
    outbox = SqlOutbox(database)
    for lead_id, contractor in leads:
        ordered = replace(order(1, received_ms, offload), order_id=f"{offload}-{lead_id}")
        await outbox.settle(ordered, OrderState.ACCEPTED, 201, lead(lead_id, contractor))


async def took(
    jobs: SqlJobs, limit: int, precedence: Precedence = FIRST_COME, now_ms: int = 2_000, owner: str = "w"
) -> list[str]:
    return [job.lead.lead_id for _, job in await jobs.take(owner, now_ms, now_ms + 1_000, limit, precedence)]


def many(contractor: str | None, count: int) -> Sequence[tuple[str, str | None]]:
    return [(f"{contractor}-{n}", contractor) for n in range(count)]


async def test_first_come_first_served(jobs: SqlJobs, database: Database) -> None:
    await made(database, *many("a", 3))
    assert await took(jobs, 2) == ["a-0", "a-1"]
    assert await took(jobs, 2) == ["a-2"]
    assert await took(jobs, 2) == []


async def test_a_lease_is_one_that_others_respect(jobs: SqlJobs, database: Database) -> None:
    await made(database, ("a", None))
    ((lease, job),) = await jobs.take("w", 2_000, 3_000, 10)
    assert lease == Lease(job.job_id, "w", 1, 3_000)
    assert (job.state, job.tries, job.due_ms) == (JobState.RUNNING, 1, 3_000)
    assert await jobs.lease(job.job_id, "x", 2_999, 9_000) is None
    assert await took(jobs, 10, now_ms=2_999) == []
    assert await took(jobs, 10, now_ms=3_000) == ["a"]


async def test_who_comes_with_the_first_is_next_in_line(jobs: SqlJobs, database: Database) -> None:
    await made(database, *many("big", 6), ("small-0", "small"))
    assert await took(jobs, 2) == ["big-0", "small-0"]
    await made(database, *many("late", 2))
    assert await took(jobs, 9) == ["big-1", "late-0", "big-2", "late-1", "big-3", "big-4", "big-5"]


async def test_leads_without_a_contractor_take_turns_as_one(jobs: SqlJobs, database: Database) -> None:
    await made(database, *many(None, 2), *many("a", 2))
    assert await took(jobs, 4) == ["None-0", "a-0", "None-1", "a-1"]


async def test_a_higher_lane_goes_first_and_an_unknown_offload_last(jobs: SqlJobs, database: Database) -> None:
    for offload in ("gone", "low", "high", "high-too"):
        await made(database, *[(f"{offload}-{n}", f"c{n}") for n in range(2)], offload=offload)
    lanes = Precedence((("high", "high-too"), (), ("low", "absent")))
    assert set(await took(jobs, 3, lanes)) < {"high-0", "high-1", "high-too-0", "high-too-1"}
    assert [lead_id.split("-")[0] for lead_id in await took(jobs, 9, lanes)] == ["high", "low", "low", "gone", "gone"]


async def test_a_paused_offload_waits_and_keeps_no_other_waiting(jobs: SqlJobs, database: Database) -> None:
    await made(database, *many("a", 2))
    await made(database, ("t", "a"), offload="texts")
    assert await jobs.pause("photos", 1_500, "ann")
    assert not await jobs.pause("photos", 1_600, "ann")
    assert await jobs.paused() == {"photos": 1_500}
    assert await took(jobs, 9) == ["t"]
    assert await jobs.due(2_000, 9) == []
    (waiting, _) = await jobs.list(JobFilter(offload="photos"))
    assert await jobs.lease(waiting.job_id, "w", 2_000, 3_000) is None, "nor does a wake-up start it"
    assert await jobs.resume("photos", 1_700, "ann")
    assert not await jobs.resume("photos", 1_800, "ann")
    assert await took(jobs, 9) == ["a-0", "a-1"]


async def test_a_contractor_has_no_more_than_may_run(jobs: SqlJobs, database: Database) -> None:
    await made(database, *many("a", 4), *many(None, 3), ("b-0", "b"))
    two = Precedence((("photos",),), {"photos": 2})
    assert sorted(await took(jobs, 9, two)) == ["None-0", "None-1", "a-0", "a-1", "b-0"]
    assert await took(jobs, 9, two) == []
    (waiting, *_) = await jobs.due(2_000, 9)
    assert await jobs.lease(waiting, "w", 2_000, 3_000, two) is None
    after_their_death = Counter(lead_id[0] for lead_id in await took(jobs, 9, two, now_ms=3_000))
    assert after_their_death == {"N": 2, "a": 2, "b": 1}


async def test_workers_at_once_take_each_job_once_and_pass_no_limit(database: Database, database_url: str) -> None:
    await made(database, *[(f"{c}-{n}", c) for n in range(8) for c in "abc"])
    other = await open_database(database_url)
    two = Precedence((("photos",),), {"photos": 2})
    try:
        stores = [SqlJobs(database), SqlJobs(other)]
        taken = await asyncio.gather(*(took(stores[n % 2], 2, two, owner=f"w{n}") for n in range(12)))
    finally:
        await other.close()
    ids = [lead_id for one in taken for lead_id in one]
    assert len(ids) == len(set(ids))
    assert Counter(lead_id[0] for lead_id in ids) == {"a": 2, "b": 2, "c": 2}


async def test_what_waited_gets_its_turn_when_it_is_due(jobs: SqlJobs, database: Database) -> None:
    await made(database, ("a-0", "a"), ("b-0", "b"))
    for (lease, _), held in zip(await jobs.take("w", 2_000, 3_000, 2), (True, False), strict=True):
        await jobs.release(lease, 5_000, held=held)
    await made(database, ("c-0", "c"))
    assert await took(jobs, 9, now_ms=4_999) == ["c-0"]
    assert sorted(await took(jobs, 9, now_ms=5_000)) == ["a-0", "b-0"]


async def test_a_whole_crowd_that_becomes_due_is_taken_in_bounded_steps(jobs: SqlJobs, database: Database) -> None:
    count = MOST_PROMOTED + 20
    await database.write(lambda conn: _crowd(conn, count))
    assert len(await took(jobs, count)) == MOST_PROMOTED
    assert len(await took(jobs, count)) == 20


def _crowd(conn: Connection, count: int) -> None:
    rows = [
        {
            "job_id": f"job_{n}", "offload": "photos", "lead_id": f"l-{n}", "contractor": f"c{n % 7}", "lead_text": "x",
            "photos": [], "request_id": "r", "state": "held", "created_ms": n, "due_ms": 1_000,
        }
        for n in range(count)
    ]  # fmt: skip
    conn.execute(schema.jobs.insert(), rows)
