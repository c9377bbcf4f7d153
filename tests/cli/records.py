"""A state directory with jobs and calls in it, for the commands that read them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from scopegate.leads.job import AttemptState, Lead, LeadJob, LeadOrder, OrderState
from scopegate.limits.steps import StepName
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from tests.stores.orders import booked, call

NOW_MS = 1_800_000_000_000
HOSTILE = "x\x1b[2J\r\n\u202eroof\x00"
T = TypeVar("T")


def within(folder: Path, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on the folder's database, made when absent."""

    async def opened() -> T:
        database = await open_database(f"sqlite:///{folder}/scopegate.db")
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(opened())


async def put_job(database: Database, lead_id: str, *, fails: bool, at_ms: int = NOW_MS, n: int = 1) -> LeadJob:
    """A job whose photo analysis is done and paid; its scope then fails for good when `fails`, else it is queued."""
    jobs = SqlJobs(database)
    order = LeadOrder(f"order-{lead_id}", "lead-photos", "submit-lead", f"req-{lead_id}", at_ms, {})
    lead = Lead(lead_id, "roofers", "words", ("https://b.s3.test/1.jpg?X-Amz-Signature=PLANTED",))
    job = await SqlOutbox(database).settle(order, OrderState.ACCEPTED, 201, lead)
    assert job is not None
    taken = await jobs.lease(job.job_id, "test", at_ms, at_ms + 15_000)
    assert taken is not None
    lease = taken[0]
    analysed = await jobs.start_attempt(lease, StepName.PHOTO_ANALYSIS, at_ms)
    paid = call(
        f"call-{lead_id}", 1234, job_id=job.job_id, lead_id=lead_id, step="photo_analysis", started_ms=at_ms + 10
    )
    await booked(SqlLedger(database), paid)
    done = replace(analysed, state=AttemptState.DONE, finished_ms=at_ms + 1500, cost_usd_micros=1234)
    await jobs.finish_attempt(lease, StepName.PHOTO_ANALYSIS, done, {"outcome": "no_photos"})
    if not fails:
        await jobs.release(lease, at_ms + 2000)
        return job
    scope = await jobs.start_attempt(lease, StepName.SCOPE, at_ms + 1500)
    failed = replace(
        scope, state=AttemptState.FAILED, finished_ms=at_ms + 1700, error_code="auth", error_detail=HOSTILE
    )
    await jobs.finish_attempt(lease, StepName.SCOPE, failed)
    await jobs.finish(lease, at_ms + 1700, error_code="auth")
    return job
