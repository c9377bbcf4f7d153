"""Rows of the tables as the values they mean: a job with its steps and attempts. Called by those that write them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from scopegate.leads.job import Attempt, AttemptState, JobState, Lead, LeadJob, StepRecord, StepState
from scopegate.limits.steps import StepName
from scopegate.stores.schema import attempts, jobs, steps


def read_job(conn: Connection, job_id: str) -> LeadJob | None:
    """With steps and attempts."""
    row = conn.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    return None if row is None else job_of(row, steps_of(conn, job_id))


def known_job(conn: Connection, job_id: str) -> LeadJob:
    job = read_job(conn, job_id)
    assert job is not None, job_id
    return job


def steps_of(conn: Connection, job_id: str) -> tuple[StepRecord, ...]:
    """Those that were begun, or came with their results."""
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


def job_of(row: Row[Any], records: tuple[StepRecord, ...] | None = None) -> LeadJob:
    """`records` are the steps that were begun; the others wait. Without them, as a list shows it."""
    begun = {record.name: record for record in records or ()}
    whole = tuple(begun.get(name, StepRecord(name, StepState.WAITING)) for name in StepName)
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
        reason=row.reason,
        losses=row.losses,
        score=row.score,
        replay_of=row.replay_of,
        in_batches=bool(row.batch),
        steps=() if records is None else whole,
    )
