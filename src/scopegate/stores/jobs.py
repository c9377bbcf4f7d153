"""Jobs, steps and attempts in SQL: the JobStore port, and what the outbox needs to create a job.

A lease is a row state: `running`, with a token that grows by one each time and `due_ms` as the moment the lease ends,
so that one index answers "what may run now". Every write of a lease holder first touches the job's row under its
token: the row lock keeps the next lease out until the write is committed, and a stale token writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, exists, func, select, update

from scopegate.errors import LeaseLost
from scopegate.leads.job import (
    FINAL_STATES,
    Attempt,
    AttemptState,
    JobFilter,
    JobState,
    Lead,
    LeadJob,
    Lease,
    StepRecord,
    StepState,
)
from scopegate.limits.steps import SENT_STEPS, StepName
from scopegate.stores.database import Database, insert
from scopegate.stores.schema import attempts, calls, jobs, steps
from scopegate.types import Json

LOST = "worker_lost"
"""The error code of an attempt whose worker died."""
CANCELLED = "cancelled"
"""The error code of a job that somebody ended, and of the attempt that ran then."""

_IS_OPEN = jobs.c.finished_ms.is_(None)


class SqlJobs:
    """JobStore on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, job_id: str) -> LeadJob | None:
        return await self._db.read(partial(read_job, job_id=job_id))

    async def list(self, wanted: JobFilter) -> Sequence[LeadJob]:
        return await self._db.read(partial(_list, wanted=wanted))

    async def counts(self) -> Mapping[str, int]:
        return await self._db.read(_counts)

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        return await self._db.read(partial(_due, now_ms=now_ms, limit=limit))

    async def lease(self, job_id: str, owner: str, now_ms: int, until_ms: int) -> tuple[Lease, LeadJob] | None:
        return await self._db.write(
            partial(_lease, job_id=job_id, owner=owner, now_ms=now_ms, until_ms=until_ms),
        )

    async def renew(self, lease: Lease, until_ms: int) -> Lease:
        await self._db.write(partial(_hold, lease=lease, due_ms=until_ms))
        return replace(lease, until_ms=until_ms)

    async def start_attempt(self, lease: Lease, step: StepName, now_ms: int) -> Attempt:
        return await self._db.write(partial(_start_attempt, lease=lease, step=step, now_ms=now_ms))

    async def finish_attempt(self, lease: Lease, step: StepName, attempt: Attempt, result: Json = None) -> None:
        assert attempt.state is not AttemptState.RUNNING, "a finished attempt is done, failed or lost"
        await self._db.write(partial(_finish_attempt, lease=lease, step=step, attempt=attempt, result=result))

    async def release(self, lease: Lease, due_ms: int, *, held: bool = False, error_code: str | None = None) -> None:
        state = JobState.HELD if held else JobState.QUEUED
        change = partial(_hold, lease=lease, state=state, due_ms=due_ms, error_code=error_code, lease_owner=None)
        await self._db.write(change)

    async def finish(
        self, lease: Lease, now_ms: int, *, error_code: str | None = None, score: int | None = None
    ) -> None:
        await self._db.write(partial(_finish, lease=lease, now_ms=now_ms, error_code=error_code, score=score))

    async def cancel(self, job_id: str, now_ms: int) -> LeadJob | None:
        return await self._db.write(partial(_cancel, job_id=job_id, now_ms=now_ms))

    async def replay(self, job_id: str, new_id: str, now_ms: int, from_step: StepName | None = None) -> LeadJob | None:
        """As the port says; while a replay of this job is still open, that one is returned instead of a second."""
        again = partial(_replay, job_id=job_id, new_id=new_id, now_ms=now_ms, from_step=from_step)
        return await self._db.write(again)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_job(conn: Connection, job_id: str) -> LeadJob | None:
    """With steps and attempts."""
    row = conn.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    return None if row is None else _job(row, _steps(conn, job_id))


def _list(conn: Connection, wanted: JobFilter) -> list[LeadJob]:
    query: Select[Any] = select(jobs).order_by(jobs.c.created_ms.desc(), jobs.c.job_id.desc()).limit(wanted.limit)
    for column, value in (
        (jobs.c.state, wanted.state),
        (jobs.c.offload, wanted.offload),
        (jobs.c.lead_id, wanted.lead_id),
        (jobs.c.request_id, wanted.request_id),
        (jobs.c.error_code, wanted.error_code),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.not_replayed:
        replays = jobs.alias()
        query = query.where(~exists().where(replays.c.replay_of == jobs.c.job_id))
    if wanted.ids:
        query = query.where(jobs.c.job_id.in_(wanted.ids))
    return [_job(row) for row in conn.execute(query)]


def _counts(conn: Connection) -> dict[str, int]:
    rows = conn.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    found = {state: int(count) for state, count in rows}
    return {state.value: found.get(state.value, 0) for state in JobState}


def due_query(now_ms: int, limit: int) -> Select[tuple[str]]:
    return select(jobs.c.job_id).where(_IS_OPEN, jobs.c.due_ms <= now_ms).order_by(jobs.c.due_ms).limit(limit)


def _due(conn: Connection, now_ms: int, limit: int) -> list[str]:
    return list(conn.scalars(due_query(now_ms, limit)))


def _steps(conn: Connection, job_id: str) -> tuple[StepRecord, ...]:
    tries: dict[str, list[Attempt]] = {}
    for row in conn.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.n)):
        tries.setdefault(row.step, []).append(_attempt(row))
    rows = {row.step: row for row in conn.execute(select(steps).where(steps.c.job_id == job_id))}
    return tuple(
        StepRecord(name, StepState(rows[name].state), tuple(tries.get(name, ())), rows[name].result)
        for name in StepName
        if name in rows
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        n=row.n,
        state=AttemptState(row.state),
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        error_code=row.error_code,
        error_detail=row.error_detail,
        cost_usd_micros=row.cost_usd_micros,
    )


def _job(row: Row[Any], records: tuple[StepRecord, ...] = ()) -> LeadJob:
    return LeadJob(
        job_id=row.job_id,
        offload=row.offload,
        lead=Lead(row.lead_id, row.contractor, row.lead_text, tuple(row.photos)),
        request_id=row.request_id,
        state=JobState(row.state),
        created_ms=row.created_ms,
        due_ms=row.due_ms,
        tries=row.tries,
        finished_ms=row.finished_ms,
        error_code=row.error_code,
        score=row.score,
        replay_of=row.replay_of,
        steps=records,
    )


# ── creating ────────────────────────────────────────────────────────────────────────────────────────────────────────


def create_job(conn: Connection, job: LeadJob) -> LeadJob:
    """Insert a queued job with its steps; when its lead has a job already, that one comes back untouched."""
    if _insert_job(conn, job, {}):
        return _known(conn, job.job_id)
    found = select(jobs.c.job_id).where(
        jobs.c.offload == job.offload, jobs.c.lead_id == job.lead.lead_id, jobs.c.replay_of.is_(None)
    )
    return _known(conn, conn.execute(found).scalar_one())


def _insert_job(conn: Connection, job: LeadJob, results: Mapping[StepName, Json]) -> bool:
    """False, and nothing is written, when a unique index says that there is such a job."""
    row = insert(conn, jobs).values(
        job_id=job.job_id,
        offload=job.offload,
        lead_id=job.lead.lead_id,
        contractor=job.lead.contractor,
        lead_text=job.lead.text,
        photos=list(job.lead.photos),
        request_id=job.request_id,
        state=JobState.QUEUED,
        created_ms=job.created_ms,
        due_ms=job.due_ms,
        replay_of=job.replay_of,
    )
    if conn.execute(row.on_conflict_do_nothing().returning(jobs.c.job_id)).one_or_none() is None:
        return False
    conn.execute(steps.insert(), [_step_row(job.job_id, name, results) for name in StepName])
    return True


def _step_row(job_id: str, name: StepName, results: Mapping[StepName, Json]) -> dict[str, object]:
    state = StepState.DONE if name in results else StepState.WAITING
    return {"job_id": job_id, "step": name, "state": state, "result": results.get(name)}


def _replay(conn: Connection, job_id: str, new_id: str, now_ms: int, from_step: StepName | None) -> LeadJob | None:
    old = read_job(conn, job_id)
    if old is None or old.state not in FINAL_STATES:
        return None
    new = LeadJob(new_id, old.offload, old.lead, old.request_id, JobState.QUEUED, now_ms, now_ms, replay_of=job_id)
    if _insert_job(conn, new, _kept(old, from_step)):
        return _known(conn, new_id)
    found = select(jobs.c.job_id).where(jobs.c.replay_of == job_id, (jobs.c.job_id == new_id) | _IS_OPEN)
    return _known(conn, conn.execute(found).scalars().first() or new_id)


def _kept(old: LeadJob, from_step: StepName | None) -> Mapping[StepName, Json]:
    """What a replay need not do again. One of a done job is asked for because its result must be sent once more."""
    if from_step is not None:
        earlier = list(StepName)[: list(StepName).index(from_step)]
        return {name: result for name, result in old.results().items() if name in earlier}
    sent_anew = SENT_STEPS if old.state is JobState.DONE else ()
    return {name: result for name, result in old.results().items() if name not in sent_anew}


def _known(conn: Connection, job_id: str) -> LeadJob:
    job = read_job(conn, job_id)
    assert job is not None, job_id
    return job


# ── under a lease ───────────────────────────────────────────────────────────────────────────────────────────────────


def _lease(conn: Connection, job_id: str, owner: str, now_ms: int, until_ms: int) -> tuple[Lease, LeadJob] | None:
    taken = conn.execute(
        update(jobs)
        .where(jobs.c.job_id == job_id, _IS_OPEN, jobs.c.due_ms <= now_ms)
        .values(
            state=JobState.RUNNING,
            due_ms=until_ms,
            lease_owner=owner,
            lease_token=jobs.c.lease_token + 1,
            tries=jobs.c.tries + 1,
        )
        .returning(jobs.c.lease_token)
    ).one_or_none()
    if taken is None:
        return None
    _lose_attempts(conn, job_id, now_ms)
    return Lease(job_id, owner, taken.lease_token, until_ms), _known(conn, job_id)


def _hold(conn: Connection, lease: Lease, **changes: object) -> None:
    """The guard of every write under a lease, and its change to the job's row if any. Raises LeaseLost."""
    held = (
        update(jobs)
        .where(
            jobs.c.job_id == lease.job_id,
            jobs.c.lease_token == lease.token,
            jobs.c.state == JobState.RUNNING,
        )
        .values(changes or {"lease_token": jobs.c.lease_token})
    )
    if conn.execute(held).rowcount != 1:
        raise LeaseLost(f"job {lease.job_id}, token {lease.token}")


def _lose_attempts(conn: Connection, job_id: str, now_ms: int, code: str = LOST) -> None:
    """What a dead worker left running is lost; its cost is what the ledger booked for it."""
    cost = (
        select(func.coalesce(func.sum(calls.c.cost_usd_micros), 0))
        .where(
            calls.c.job_id == attempts.c.job_id,
            calls.c.step == attempts.c.step,
            calls.c.step_attempt == attempts.c.n,
        )
        .scalar_subquery()
    )
    lost = conn.execute(
        update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.state == AttemptState.RUNNING)
        .values(state=AttemptState.LOST, finished_ms=now_ms, error_code=code, cost_usd_micros=cost)
    )
    if lost.rowcount:
        _set_steps(conn, job_id, StepState.WAITING, steps.c.state == StepState.RUNNING)


def _set_steps(conn: Connection, job_id: str, state: StepState, *where: Any) -> int:
    """Move unfinished steps: a done step is never overwritten."""
    moved = update(steps).where(steps.c.job_id == job_id, steps.c.state != StepState.DONE, *where).values(state=state)
    return conn.execute(moved).rowcount


def _start_attempt(conn: Connection, lease: Lease, step: StepName, now_ms: int) -> Attempt:
    _hold(conn, lease)
    moved = _set_steps(conn, lease.job_id, StepState.RUNNING, steps.c.step == step)
    assert moved == 1, f"step {step} of job {lease.job_id} is done: it is not started again"
    of_step = and_(attempts.c.job_id == lease.job_id, attempts.c.step == step)
    last = conn.scalar(select(func.coalesce(func.max(attempts.c.n), 0)).where(of_step))
    attempt = Attempt(int(last or 0) + 1, AttemptState.RUNNING, now_ms)
    row = {"job_id": lease.job_id, "step": step, "n": attempt.n, "state": attempt.state, "started_ms": now_ms}
    conn.execute(attempts.insert().values(row))
    return attempt


def _finish_attempt(conn: Connection, lease: Lease, step: StepName, attempt: Attempt, result: Json) -> None:
    _hold(conn, lease)
    conn.execute(
        update(attempts)
        .where(
            attempts.c.job_id == lease.job_id,
            attempts.c.step == step,
            attempts.c.n == attempt.n,
            attempts.c.state == AttemptState.RUNNING,
        )
        .values(
            state=attempt.state,
            finished_ms=attempt.finished_ms,
            error_code=attempt.error_code,
            error_detail=attempt.error_detail,
            cost_usd_micros=attempt.cost_usd_micros,
        )
    )
    unfinished = (steps.c.job_id == lease.job_id, steps.c.step == step, steps.c.state != StepState.DONE)
    if attempt.state is AttemptState.DONE:
        conn.execute(update(steps).where(*unfinished).values(state=StepState.DONE, result=result))
    else:
        conn.execute(update(steps).where(*unfinished).values(state=StepState.WAITING))


def _finish(conn: Connection, lease: Lease, now_ms: int, error_code: str | None, score: int | None) -> None:
    state = JobState.DONE if error_code is None else JobState.FAILED
    _hold(conn, lease, state=state, finished_ms=now_ms, due_ms=now_ms, error_code=error_code, score=score)
    _lose_attempts(conn, lease.job_id, now_ms)
    if state is JobState.FAILED:
        _fail_tried_steps(conn, lease.job_id)


def _fail_tried_steps(conn: Connection, job_id: str) -> None:
    tried = exists().where(attempts.c.job_id == steps.c.job_id, attempts.c.step == steps.c.step)
    _set_steps(conn, job_id, StepState.FAILED, tried)


def _cancel(conn: Connection, job_id: str, now_ms: int) -> LeadJob | None:
    """The token grows, so that whoever holds the job writes nothing more and stops at its next renewal."""
    ended = (
        update(jobs)
        .where(jobs.c.job_id == job_id, _IS_OPEN)
        .values(
            state=JobState.FAILED,
            finished_ms=now_ms,
            due_ms=now_ms,
            error_code=CANCELLED,
            lease_owner=None,
            lease_token=jobs.c.lease_token + 1,
        )
    )
    if conn.execute(ended).rowcount != 1:
        return None
    _lose_attempts(conn, job_id, now_ms, CANCELLED)
    _fail_tried_steps(conn, job_id)
    return _known(conn, job_id)
