"""Paid answers in SQL: who asks a question first, and what came of it, for as long as the policy says.

A row without a text says that somebody is asking. What is older than its time is deleted by whoever comes next.
"""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection, delete, select, update

from scopegate.stores.database import Database, insert
from scopegate.stores.ports import PaidAnswer
from scopegate.stores.schema import paid_answers


class SqlPaidAnswers:
    """PaidAnswers on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def take(self, key: str, owner: str, now_ms: int, until_ms: int) -> PaidAnswer | bool:
        return await self._db.write(partial(_take, key=key, owner=owner, now_ms=now_ms, until_ms=until_ms))

    async def hold(self, key: str, owner: str, until_ms: int) -> None:
        await self._db.write(partial(_put, key=key, owner=owner, until_ms=until_ms))

    async def keep(self, key: str, owner: str, answer: PaidAnswer, until_ms: int) -> None:
        await self._db.write(partial(_put, key=key, owner=owner, until_ms=until_ms, answer=answer))

    async def drop(self, key: str, owner: str | None = None) -> None:
        await self._db.write(partial(_drop, key=key, owner=owner))


def _take(conn: Connection, key: str, owner: str, now_ms: int, until_ms: int) -> PaidAnswer | bool:
    conn.execute(delete(paid_answers).where(paid_answers.c.until_ms <= now_ms))
    asking = insert(conn, paid_answers).values(key=key, owner=owner, until_ms=until_ms, cost_usd_micros=0)
    fresh = asking.on_conflict_do_nothing().returning(paid_answers.c.key)
    if conn.execute(fresh).one_or_none() is not None:
        return True
    row = conn.execute(select(paid_answers).where(paid_answers.c.key == key)).one_or_none()
    if row is None or row.text is None:
        return False
    return PaidAnswer(row.text, row.model, row.cost_usd_micros, row.lead_id)


def _put(conn: Connection, key: str, owner: str, until_ms: int, answer: PaidAnswer | None = None) -> None:
    """Nothing happens to a row of somebody else, or to one that is answered."""
    ours = (paid_answers.c.key == key, paid_answers.c.owner == owner, paid_answers.c.text.is_(None))
    known = {}
    if answer is not None:
        known = {
            "text": answer.text,
            "model": answer.model,
            "cost_usd_micros": answer.cost_usd_micros,
            "lead_id": answer.lead_id,
        }
    conn.execute(update(paid_answers).where(*ours).values(until_ms=until_ms, **known))


def _drop(conn: Connection, key: str, owner: str | None) -> None:
    """With an owner, what it is asking; without one, the answer."""
    whose = paid_answers.c.text.is_not(None) if owner is None else paid_answers.c.owner == owner
    conn.execute(delete(paid_answers).where(paid_answers.c.key == key, whose))
