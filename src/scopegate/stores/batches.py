"""Batched calls in SQL: which step's question is asked in which batch, and what came of it.

A row is there before the batch is, and has the call's id, which is the question's `custom_id` as well: so a batch that
was made and never noted is found again by what is in it. Rows go with their job, or once it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, select, update

from scopegate.leads.job import AttemptState, JobState, StepState
from scopegate.limits.steps import StepName
from scopegate.stores.database import Database, insert
from scopegate.stores.leases import booked_cost
from scopegate.stores.ports import BatchCall
from scopegate.stores.schema import attempts, batch_calls, jobs, steps
from scopegate.types import Json

BATCHED = "batched"
"""The error code of a job that waits for an answer out of a batch."""

_IS_OPEN = batch_calls.c.ended_ms.is_(None)


class SqlBatches:
    """Batches on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def ask(self, call: BatchCall) -> None:
        await self._db.write(partial(_ask, call=call))

    async def forget(self, call_id: str) -> None:
        await self._db.write(
            lambda conn: conn.execute(delete(batch_calls).where(batch_calls.c.call_id == call_id, _IS_OPEN))
        )

    async def name(self, call_ids: Sequence[str], batch_id: str) -> None:
        await self._db.write(partial(_name, call_ids=call_ids, batch_id=batch_id))

    async def find(self, job_id: str, step: StepName) -> BatchCall | None:
        return await self._db.read(partial(_find, job_id=job_id, step=step))

    async def open(self) -> Sequence[BatchCall]:
        return await self._db.read(_open)

    async def end(self, call_id: str, answer: Mapping[str, Json], now_ms: int) -> bool:
        return await self._db.write(partial(_end, call_id=call_id, answer=answer, now_ms=now_ms))

    async def wake(self, now_ms: int) -> int:
        return await self._db.write(partial(_wake, now_ms=now_ms))


def _ask(conn: Connection, call: BatchCall) -> None:
    row = {"job_id": call.job_id, "step": call.step, "call_id": call.call_id, "asked_ms": call.asked_ms}
    conn.execute(insert(conn, batch_calls).values(**row, given=dict(call.given)).on_conflict_do_nothing())


def _name(conn: Connection, call_ids: Sequence[str], batch_id: str) -> None:
    conn.execute(update(batch_calls).where(batch_calls.c.call_id.in_(call_ids)).values(batch_id=batch_id))


def _find(conn: Connection, job_id: str, step: StepName) -> BatchCall | None:
    ours = select(batch_calls).where(batch_calls.c.job_id == job_id, batch_calls.c.step == step)
    row = conn.execute(ours).one_or_none()
    return None if row is None else _call(row)


def _open(conn: Connection) -> list[BatchCall]:
    rows = conn.execute(
        select(batch_calls, _is_wanted().label("is_wanted")).where(_IS_OPEN).order_by(batch_calls.c.asked_ms)
    )
    return [_call(row, is_wanted=bool(row.is_wanted)) for row in rows]


def _is_wanted() -> ColumnElement[bool]:
    """Its job has not ended, and its step has no result yet."""
    has_result = exists().where(
        steps.c.job_id == batch_calls.c.job_id, steps.c.step == batch_calls.c.step, steps.c.state == StepState.DONE
    )
    return and_(exists().where(jobs.c.job_id == batch_calls.c.job_id, jobs.c.finished_ms.is_(None)), ~has_result)


def _call(row: Row[Any], *, is_wanted: bool = True) -> BatchCall:
    return BatchCall(
        call_id=row.call_id,
        job_id=row.job_id,
        step=StepName(row.step),
        asked_ms=row.asked_ms,
        given=row.given,
        batch_id=row.batch_id,
        answer=row.answer,
        is_wanted=is_wanted,
    )


def _end(conn: Connection, call_id: str, answer: Mapping[str, Json], now_ms: int) -> bool:
    """The attempt that asked has ended long ago, at what was set aside for it then."""
    ended = update(batch_calls).where(batch_calls.c.call_id == call_id, _IS_OPEN)
    row = conn.execute(ended.values(answer=dict(answer), ended_ms=now_ms).returning(*batch_calls.c)).one_or_none()
    if row is None:
        return False
    ours = (attempts.c.job_id == row.job_id, attempts.c.step == row.step, attempts.c.state != AttemptState.RUNNING)
    conn.execute(update(attempts).where(*ours).values(cost_usd_micros=booked_cost()))
    return True


def _wake(conn: Connection, now_ms: int) -> int:
    """Jobs that wait for a batch, and of which nothing is in one any more. What ended jobs had asked is forgotten."""
    still = exists().where(batch_calls.c.job_id == jobs.c.job_id, _IS_OPEN)
    waiting = and_(jobs.c.state == JobState.HELD, jobs.c.error_code == BATCHED, jobs.c.due_ms > now_ms)
    woken = conn.execute(update(jobs).where(waiting, ~still).values(due_ms=now_ms)).rowcount
    over = select(jobs.c.job_id).where(jobs.c.job_id == batch_calls.c.job_id, jobs.c.finished_ms.is_not(None)).exists()
    conn.execute(delete(batch_calls).where(~_IS_OPEN, over))
    return woken
