"""Jobs in SQL: the JobStore port. Reading and making them is here; `leases` has what happens under a lease, `turns`
which one is next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, delete, exists, func, or_, select

from scopegate.leads.job import (
    FINAL_STATES,
    MOST_SEARCHED,
    Action,
    Attempt,
    AttemptState,
    JobFilter,
    JobState,
    Lead,
    LeadJob,
    Lease,
    Precedence,
    StepState,
)
from scopegate.limits.steps import SENT_STEPS, StepName
from scopegate.stores import leases, turns
from scopegate.stores.database import Database, insert
from scopegate.stores.rows import job_of, known_job, read_job
from scopegate.stores.schema import actions, attempts, jobs, paused, steps
from scopegate.types import Json

_IS_OPEN = jobs.c.finished_ms.is_(None)
FIRST_COME = Precedence()


class SqlJobs:
    """JobStore on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, job_id: str) -> LeadJob | None:
        return await self._db.read(partial(read_job, job_id=job_id))

    async def list(self, wanted: JobFilter) -> Sequence[LeadJob]:
        return await self._db.read(partial(_list, wanted=wanted))

    async def searched_to(self, wanted: JobFilter) -> tuple[int, str] | None:
        return await self._db.read(partial(_searched_to, wanted=wanted))

    async def ended(self, since_ms: int) -> Mapping[str, int]:
        return await self._db.read(partial(_ended, since_ms=since_ms))

    async def counts(self) -> Mapping[str, int]:
        return await self._db.read(_counts)

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        return await self._db.read(partial(_due, now_ms=now_ms, limit=limit))

    async def take(
        self, owner: str, now_ms: int, until_ms: int, limit: int, precedence: Precedence = FIRST_COME
    ) -> Sequence[tuple[Lease, LeadJob]]:
        front = partial(leases.take, owner=owner, now_ms=now_ms, until_ms=until_ms, limit=limit, precedence=precedence)
        return await self._db.write(front)

    async def lease(
        self, job_id: str, owner: str, now_ms: int, until_ms: int, precedence: Precedence = FIRST_COME
    ) -> tuple[Lease, LeadJob] | None:
        one = partial(leases.lease, job_id=job_id, owner=owner, now_ms=now_ms, until_ms=until_ms, precedence=precedence)
        return await self._db.write(one)

    async def renew(self, lease: Lease, until_ms: int) -> Lease:
        await self._db.write(partial(leases.hold, lease=lease, due_ms=until_ms, turn=None))
        return replace(lease, until_ms=until_ms)

    async def start_attempt(self, lease: Lease, step: StepName, now_ms: int) -> Attempt:
        return await self._db.write(partial(leases.start_attempt, lease=lease, step=step, now_ms=now_ms))

    async def finish_attempt(
        self, lease: Lease, step: StepName, attempt: Attempt, result: Json = None, then: StepName | None = None
    ) -> tuple[Attempt, Attempt | None]:
        assert attempt.state is not AttemptState.RUNNING, "a finished attempt is done, failed or lost"
        finish = partial(leases.finish_attempt, lease=lease, step=step, attempt=attempt, result=result, then=then)
        cost, begun = await self._db.write(finish)
        return replace(attempt, cost_usd_micros=cost), begun

    async def release(
        self,
        lease: Lease,
        due_ms: int,
        *,
        held: bool = False,
        error_code: str | None = None,
        reason: str | None = None,
    ) -> None:
        state = JobState.HELD if held else JobState.QUEUED
        back = partial(leases.hold, lease=lease, state=state, due_ms=due_ms, turn=None, lease_owner=None)
        await self._db.write(partial(back, error_code=error_code, reason=reason))

    async def complete(
        self, lease: Lease, step: StepName, attempt: Attempt, result: Json, score: int, now_ms: int
    ) -> Attempt:
        last = partial(leases.complete, lease=lease, step=step, attempt=attempt, result=result)
        return replace(attempt, cost_usd_micros=await self._db.write(partial(last, score=score, now_ms=now_ms)))

    async def finish(
        self,
        lease: Lease,
        now_ms: int,
        *,
        error_code: str | None = None,
        reason: str | None = None,
        dead: bool = False,
        score: int | None = None,
    ) -> None:
        failed = JobState.DEAD if dead else JobState.FAILED
        state = JobState.DONE if error_code is None else failed
        end = partial(leases.finish, lease=lease, now_ms=now_ms, state=state, error_code=error_code)
        await self._db.write(partial(end, reason=reason, score=score))

    async def cancel(self, job_id: str, now_ms: int, actor: str = "") -> LeadJob | None:
        return await self._db.write(partial(_cancel, job_id=job_id, now_ms=now_ms, actor=actor))

    async def replay(
        self,
        job_id: str,
        new_id: str,
        now_ms: int,
        from_step: StepName | None = None,
        *,
        edited: Lead | None = None,
        in_batches: bool = False,
        actor: str = "",
    ) -> LeadJob | None:
        """As the port says; while a replay of this job is still open, that one is returned instead of a second."""
        again = partial(_replay, job_id=job_id, new_id=new_id, now_ms=now_ms, from_step=from_step)
        return await self._db.write(partial(again, edited=edited, in_batches=in_batches, actor=actor))

    async def pause(self, offload: str, now_ms: int, actor: str) -> bool:
        return await self._db.write(partial(_pause, offload=offload, now_ms=now_ms, actor=actor))

    async def resume(self, offload: str, now_ms: int, actor: str) -> bool:
        return await self._db.write(partial(_resume, offload=offload, now_ms=now_ms, actor=actor))

    async def paused(self) -> Mapping[str, int]:
        return await self._db.read(_paused)

    async def record(self, action: Action) -> None:
        await self._db.write(partial(record, action=action))

    async def actions(
        self, subject: str | None = None, limit: int = 100, before: int | None = None
    ) -> Sequence[Action]:
        return await self._db.read(partial(_actions, subject=subject, limit=limit, before=before))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _list(conn: Connection, wanted: JobFilter) -> list[LeadJob]:
    query = _newest_first(select(jobs))
    if wanted.text is None:
        query = _fitting(query, wanted)
    else:
        among = _newest_first(_fitting(select(jobs.c.job_id), wanted)).limit(MOST_SEARCHED).subquery()
        query = query.where(jobs.c.job_id.in_(select(among.c.job_id)), _says(wanted.text, in_words=wanted.in_words))
    return [job_of(row) for row in conn.execute(query.limit(wanted.limit))]


def _searched_to(conn: Connection, wanted: JobFilter) -> tuple[int, str] | None:
    query = _newest_first(_fitting(select(jobs.c.created_ms, jobs.c.job_id), wanted))
    row = conn.execute(query.offset(MOST_SEARCHED - 1).limit(1)).one_or_none()
    return None if row is None else (row.created_ms, row.job_id)


def _newest_first(query: Select[Any]) -> Select[Any]:
    return query.order_by(jobs.c.created_ms.desc(), jobs.c.job_id.desc())


def _fitting(query: Select[Any], wanted: JobFilter) -> Select[Any]:
    """All but its text."""
    for column, value in (
        (jobs.c.state, wanted.state),
        (jobs.c.offload, wanted.offload),
        (jobs.c.lead_id, wanted.lead_id),
        (jobs.c.contractor, wanted.contractor),
        (jobs.c.request_id, wanted.request_id),
        (jobs.c.error_code, wanted.error_code),
        (jobs.c.replay_of, wanted.replay_of),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since_ms is not None:
        query = query.where(jobs.c.created_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(jobs.c.created_ms < wanted.until_ms)
    if wanted.after is not None:
        created_ms, job_id = wanted.after
        earlier = (jobs.c.created_ms < created_ms) | ((jobs.c.created_ms == created_ms) & (jobs.c.job_id < job_id))
        query = query.where(jobs.c.created_ms <= created_ms, earlier)
    if wanted.is_open:
        query = query.where(_IS_OPEN)
    if wanted.not_replayed:
        replays = jobs.alias()
        query = query.where(~exists().where(replays.c.replay_of == jobs.c.job_id))
    return query.where(jobs.c.job_id.in_(wanted.ids)) if wanted.ids else query


def _says(words: str, *, in_words: bool) -> ColumnElement[bool]:
    """What a lead says is stored as ASCII JSON, so it is looked for as that."""
    said = [jobs.c.job_id, jobs.c.lead_id, jobs.c.request_id, jobs.c.error_code, jobs.c.reason]
    found = [cast(column, Text).icontains(words, autoescape=True) for column in said]
    told = attempts.c.error_detail
    found.append(exists().where(attempts.c.job_id == jobs.c.job_id, cast(told, Text).icontains(words, autoescape=True)))
    if in_words:
        as_stored = json.dumps(words)[1:-1]
        found += [
            cast(column, Text).icontains(as_stored, autoescape=True) for column in (jobs.c.lead_text, jobs.c.photos)
        ]
    return or_(*found)


def _counts(conn: Connection) -> dict[str, int]:
    rows = conn.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    found = {state: int(count) for state, count in rows}
    return {state.value: found.get(state.value, 0) for state in JobState}


def _ended(conn: Connection, since_ms: int) -> dict[str, int]:
    lately = select(jobs.c.state, func.count()).where(jobs.c.finished_ms >= since_ms).group_by(jobs.c.state)
    found = {state: int(count) for state, count in conn.execute(lately)}
    return {state.value: found.get(state.value, 0) for state in FINAL_STATES}


def due_query(now_ms: int, limit: int) -> Select[tuple[str]]:
    return select(jobs.c.job_id).where(_IS_OPEN, jobs.c.due_ms <= now_ms).order_by(jobs.c.due_ms).limit(limit)


def _due(conn: Connection, now_ms: int, limit: int) -> list[str]:
    stopped = turns.paused_offloads(conn)
    query = due_query(now_ms, limit)
    return list(conn.scalars(query.where(jobs.c.offload.not_in(stopped)) if stopped else query))


# ── making ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def create_job(conn: Connection, job: LeadJob) -> LeadJob:
    """Insert a queued job; when its lead has a job already, that one comes back untouched."""
    if _insert_job(conn, job, {}):
        return known_job(conn, job.job_id)
    found = select(jobs.c.job_id).where(
        jobs.c.offload == job.offload, jobs.c.lead_id == job.lead.lead_id, jobs.c.replay_of.is_(None)
    )
    return known_job(conn, conn.execute(found).scalar_one())


def _insert_job(conn: Connection, job: LeadJob, results: Mapping[StepName, Json]) -> bool:
    """False, and nothing is written, when a unique index says that there is such a job."""
    (turn,) = turns.next_turns(conn, [turns.Flow(job.offload, job.lead.contractor)])
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
        turn=turn,
        replay_of=job.replay_of,
        batch=int(job.in_batches),
    )
    if conn.execute(row.on_conflict_do_nothing().returning(jobs.c.job_id)).one_or_none() is None:
        return False
    kept = [
        {"job_id": job.job_id, "step": name, "state": StepState.DONE, "result": result}
        for name, result in results.items()
    ]
    if kept:
        conn.execute(steps.insert(), kept)
    return True


# ── by hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(conn: Connection, action: Action) -> None:
    conn.execute(
        actions.insert().values(
            at_ms=action.at_ms, actor=action.actor, name=action.name, subject=action.subject, detail=action.detail
        )
    )


def _actions(conn: Connection, subject: str | None, limit: int, before: int | None) -> list[Action]:
    query = select(actions).order_by(actions.c.action_id.desc()).limit(limit)
    if subject is not None:
        query = query.where(actions.c.subject == subject)
    if before is not None:
        query = query.where(actions.c.action_id < before)
    return [
        Action(row.at_ms, row.actor, row.name, row.subject, row.detail, row.action_id) for row in conn.execute(query)
    ]


def _cancel(conn: Connection, job_id: str, now_ms: int, actor: str) -> LeadJob | None:
    ended = leases.cancel(conn, job_id, now_ms)
    if ended is not None:
        record(conn, Action(now_ms, actor, "cancel", job_id))
    return ended


def _replay(
    conn: Connection,
    job_id: str,
    new_id: str,
    now_ms: int,
    from_step: StepName | None,
    edited: Lead | None,
    in_batches: bool,
    actor: str,
) -> LeadJob | None:
    old = read_job(conn, job_id)
    if old is None or old.state not in FINAL_STATES:
        return None
    lead = old.lead if edited is None else edited
    new = LeadJob(new_id, old.offload, lead, old.request_id, JobState.QUEUED, now_ms, now_ms, replay_of=job_id)
    new = replace(new, in_batches=in_batches)
    if _insert_job(conn, new, {} if edited is not None else _kept(old, from_step)):
        how = ["in batches"] if in_batches else []
        detail = " ".join([f"of {job_id}", *(f"with another {name}" for name in _edited(old.lead, lead)), *how])
        record(conn, Action(now_ms, actor, "replay", new_id, detail))
        return known_job(conn, new_id)
    found = select(jobs.c.job_id).where(jobs.c.replay_of == job_id, (jobs.c.job_id == new_id) | _IS_OPEN)
    return known_job(conn, conn.execute(found).scalars().first() or new_id)


def _edited(old: Lead, new: Lead) -> list[str]:
    return [name for name in ("contractor", "text", "photos") if getattr(old, name) != getattr(new, name)]


def _kept(old: LeadJob, from_step: StepName | None) -> Mapping[StepName, Json]:
    """What a replay need not do again. One of a done job is asked for because its result must be sent once more."""
    if from_step is not None:
        earlier = list(StepName)[: list(StepName).index(from_step)]
        return {name: result for name, result in old.results().items() if name in earlier}
    sent_anew = SENT_STEPS if old.state is JobState.DONE else ()
    return {name: result for name, result in old.results().items() if name not in sent_anew}


def _pause(conn: Connection, offload: str, now_ms: int, actor: str) -> bool:
    row = insert(conn, paused).values(offload=offload, since_ms=now_ms)
    if conn.execute(row.on_conflict_do_nothing().returning(paused.c.offload)).one_or_none() is None:
        return False
    record(conn, Action(now_ms, actor, "pause", offload))
    return True


def _resume(conn: Connection, offload: str, now_ms: int, actor: str) -> bool:
    if conn.execute(delete(paused).where(paused.c.offload == offload)).rowcount != 1:
        return False
    record(conn, Action(now_ms, actor, "resume", offload))
    return True


def _paused(conn: Connection) -> dict[str, int]:
    return {row.offload: row.since_ms for row in conn.execute(select(paused).order_by(paused.c.since_ms))}
