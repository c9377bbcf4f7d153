"""Reached thresholds in SQL: who tells one takes it for a while, so that two workers do not tell the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, select, update

from scopegate.stores.database import Database
from scopegate.stores.ports import Threshold
from scopegate.stores.schema import thresholds

_TOLD = [column for column in thresholds.c if column.name != "due_ms"]


class SqlThresholds:
    """Thresholds on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def claim(self, now_ms: int, until_ms: int, limit: int) -> Sequence[Threshold]:
        due = select(thresholds.c.threshold_id).where(thresholds.c.due_ms <= now_ms)
        if not await self._db.read(lambda conn: conn.execute(due.limit(1)).all()):
            return []
        return await self._db.write(partial(_claim, now_ms=now_ms, until_ms=until_ms, limit=limit))

    async def close(self, threshold_id: str) -> bool:
        return await self._db.write(partial(_put, threshold_id=threshold_id, due_ms=None))

    async def postpone(self, threshold_id: str, due_ms: int) -> None:
        await self._db.write(partial(_put, threshold_id=threshold_id, due_ms=due_ms))


def _claim(conn: Connection, now_ms: int, until_ms: int, limit: int) -> list[Threshold]:
    due = select(thresholds.c.threshold_id).where(thresholds.c.due_ms <= now_ms).order_by(thresholds.c.due_ms)
    ids = conn.scalars(due.limit(limit).with_for_update(skip_locked=True)).all()
    ours = update(thresholds).where(thresholds.c.threshold_id.in_(ids))
    taken = ours.values(due_ms=until_ms, tries=thresholds.c.tries + 1).returning(*_TOLD)
    return [Threshold(**row._mapping) for row in conn.execute(taken)]


def _put(conn: Connection, threshold_id: str, due_ms: int | None) -> bool:
    ours = (thresholds.c.threshold_id == threshold_id, thresholds.c.due_ms.is_not(None))
    changed = update(thresholds).where(*ours).values(due_ms=due_ms).returning(thresholds.c.threshold_id)
    return conn.execute(changed).one_or_none() is not None
