"""What leaves the database, in SQL: whatever was kept long enough, a batch at a time, and one person's data by lead id.

The ledger's sums are nobody's business here: a call loses its lead and its job, never its tokens and its cost, until
its own time is over. SQLite overwrites with zeros what is deleted (`database`), and `scrub` empties its log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, exists, func, or_, select, text, update

from scopegate.leads.job import SENT, JobState, OrderState, Unreadable
from scopegate.limits.budget import key_of
from scopegate.policy.policy import Kept
from scopegate.stores.database import Database
from scopegate.stores.ports import Busy, Erased
from scopegate.stores.schema import accounts, calls, jobs, metadata, orders, reservations, thresholds
from scopegate.types import Json

_TABLES = tuple(reversed(metadata.sorted_tables))
"""Those that refer to others first."""
OF_AN_ORDER = tuple(table for table in _TABLES if "order_id" in table.c and table is not orders)
OF_A_JOB = tuple(table for table in _TABLES if "job_id" in table.c and table not in (jobs, orders, calls))
OF_A_LEAD = tuple(table for table in _TABLES if "lead_id" in table.c and table not in (jobs, orders, calls))
"""What goes with its order, and with its job, and what names a lead and ends by itself."""
OF_AN_ACCOUNT = tuple(table for table in _TABLES if "scope" in table.c)
_HAS_PHOTOS = text("photos <> '[]'")


class SqlRetention:
    """RetentionStore on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def count(self, what: Kept, before_ms: int) -> int:
        return await self._db.read(partial(_count, what=what, before_ms=before_ms))

    async def oldest_ms(self, what: Kept, before_ms: int) -> int | None:
        return await self._db.read(partial(_oldest_ms, what=what, before_ms=before_ms))

    async def prune(self, what: Kept, before_ms: int, limit: int) -> int:
        return await self._db.write(partial(_prune, what=what, before_ms=before_ms, limit=limit))

    async def scrub(self) -> bool:
        return await self._db.scrub()

    async def export(self, lead_id: str) -> Mapping[str, Sequence[Mapping[str, Json]]]:
        return await self._db.read(partial(_export, lead_id=lead_id))

    async def erase(self, lead_id: str) -> Erased | Busy:
        return await self._db.write(partial(_erase, lead_id=lead_id))


# ── what is old enough ──────────────────────────────────────────────────────────────────────────────────────────────

_replays = jobs.alias("replays")
_WAITS_FOR_A_PERSON = and_(orders.c.job_id.is_(None), orders.c.state != OrderState.REFUSED)


@dataclass(frozen=True, slots=True)
class _Old:
    """Rows of one table that are deleted once `since` is long enough ago."""

    table: Table
    since: ColumnElement[int]
    which: ColumnElement[bool]

    def before(self, before_ms: int) -> ColumnElement[bool]:
        return and_(self.which, self.since < before_ms)


_OLD: Mapping[Kept, Sequence[_Old]] = {
    Kept.PHOTOS: [_Old(jobs, jobs.c.finished_ms, and_(jobs.c.state == JobState.DONE, _HAS_PHOTOS))],
    Kept.LEADS: [
        # one that was replayed waits for its replay: that one refers to it
        _Old(jobs, jobs.c.finished_ms, ~exists().where(_replays.c.replay_of == jobs.c.job_id)),
        _Old(orders, orders.c.received_ms, _WAITS_FOR_A_PERSON),
    ],
    Kept.ORDERS: [_Old(orders, orders.c.received_ms, ~_WAITS_FOR_A_PERSON)],
    Kept.CALLS: [
        _Old(calls, calls.c.started_ms, calls.c.outcome != SENT),
        _Old(reservations, reservations.c.expires_ms, reservations.c.state != "open"),
        # a rolling one has no end, and of one that is not settled yet something may still come
        _Old(accounts, accounts.c.ends_ms, and_(accounts.c.window_ms.is_(None), accounts.c.reserved_usd_micros == 0)),
        _Old(thresholds, thresholds.c.reached_ms, thresholds.c.due_ms.is_(None)),
    ],
}


def _count(conn: Connection, what: Kept, before_ms: int) -> int:
    queries = [select(func.count()).select_from(old.table).where(old.before(before_ms)) for old in _OLD[what]]
    return sum(conn.execute(query).scalar_one() for query in queries)


def _oldest_ms(conn: Connection, what: Kept, before_ms: int) -> int | None:
    queries = [select(func.min(old.since)).where(old.before(before_ms)) for old in _OLD[what]]
    found = [oldest for query in queries if (oldest := conn.scalar(query)) is not None]
    return min(found, default=None)


def _prune(conn: Connection, what: Kept, before_ms: int, limit: int) -> int:
    pruned = 0
    for old in _OLD[what]:
        (key,) = old.table.primary_key.columns
        batch: Select[Any] = select(key).where(old.before(before_ms)).order_by(old.since).limit(limit - pruned)
        ids = list(conn.scalars(batch.with_for_update(skip_locked=True, of=old.table)))
        if ids:
            _remove(conn, what, old.table, key.in_(ids))
        pruned += len(ids)
    return pruned


def _remove(conn: Connection, what: Kept, table: Table, ours: ColumnElement[bool]) -> None:
    if what is Kept.PHOTOS:
        conn.execute(update(jobs).where(ours).values(photos=[]))
    elif table is jobs:
        _delete_jobs(conn, ours)
    elif table is orders:
        _delete_orders(conn, ours)
    else:
        conn.execute(delete(table).where(ours))


def _delete_jobs(conn: Connection, which: ColumnElement[bool]) -> Counter[str]:
    """Rows by table."""
    ids = select(jobs.c.job_id).where(which).scalar_subquery()
    gone = _delete_orders(conn, orders.c.job_id.in_(ids))
    for table in OF_A_JOB:
        gone[table.name] += conn.execute(delete(table).where(table.c.job_id.in_(ids))).rowcount
    gone[jobs.name] += conn.execute(delete(jobs).where(which)).rowcount
    return gone


def _delete_orders(conn: Connection, which: ColumnElement[bool]) -> Counter[str]:
    ids = select(orders.c.order_id).where(which).scalar_subquery()
    gone = Counter({t.name: conn.execute(delete(t).where(t.c.order_id.in_(ids))).rowcount for t in OF_AN_ORDER})
    gone[orders.name] += conn.execute(delete(orders).where(which)).rowcount
    return gone


# ── one person ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_lead(table: Table, lead_id: str) -> ColumnElement[bool]:
    """Also what names the lead itself, without a job: an order, a call."""
    if table in OF_AN_ORDER:
        return table.c.order_id.in_(select(orders.c.order_id).where(_of_lead(orders, lead_id)))
    if table in OF_A_LEAD:
        return table.c.lead_id == lead_id
    by_job = table.c.job_id.in_(select(jobs.c.job_id).where(jobs.c.lead_id == lead_id))
    return or_(by_job, table.c.lead_id == lead_id) if "lead_id" in table.c else by_job


def _scopes(conn: Connection, lead_id: str) -> list[str]:
    """Accounts of budgets for each lead: its key ends their scope. A contractor of that very name keeps his."""
    if conn.scalar(select(exists().where(calls.c.contractor == lead_id))):
        return []
    return list(conn.scalars(select(accounts.c.scope).where(accounts.c.scope.endswith(_end(lead_id), autoescape=True))))


def _end(lead_id: str) -> str:
    return f"|{key_of(lead_id)}"


def _export(conn: Connection, lead_id: str) -> dict[str, list[Mapping[str, Json]]]:
    scopes = _scopes(conn, lead_id)
    wanted = {table: _of_lead(table, lead_id) for table in (jobs, *OF_A_JOB, orders, *OF_AN_ORDER, calls, *OF_A_LEAD)}
    wanted |= {table: table.c.scope.in_(scopes) for table in OF_AN_ACCOUNT}
    found: dict[str, list[Mapping[str, Json]]] = {}
    for table, which in wanted.items():
        query = select(table).where(which).order_by(*table.primary_key.columns)
        if rows := [_exported(row._mapping) for row in conn.execute(query)]:
            found[table.name] = rows
    return found


def _exported(row: Mapping[Any, Any]) -> Mapping[str, Json]:
    return {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Json:
    if isinstance(value, Unreadable):
        return {"unreadable": value.reason, "body": _plain(value.body)}
    plain: Json = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return plain


def _erase(conn: Connection, lead_id: str) -> Erased | Busy:
    found = conn.execute(select(jobs.c.job_id, jobs.c.finished_ms).where(jobs.c.lead_id == lead_id).with_for_update())
    for job_id, finished_ms in found.all():
        if finished_ms is None:
            return Busy(f"job {job_id} is not at its end: `scopegate jobs cancel {job_id}` first")
    sent = select(calls.c.call_id).where(_of_lead(calls, lead_id), calls.c.outcome == SENT).limit(1)
    if conn.scalar(sent) is not None:
        return Busy("a model call of it is under way: try again in two minutes")
    gone: Counter[str] = Counter()
    gone[accounts.name] += _rename_accounts(conn, lead_id)
    gone[calls.name] += conn.execute(
        update(calls).where(_of_lead(calls, lead_id)).values(lead_id=None, job_id=None)
    ).rowcount
    for table in OF_A_LEAD:
        gone[table.name] += conn.execute(delete(table).where(_of_lead(table, lead_id))).rowcount
    gone += _delete_orders(conn, orders.c.lead_id == lead_id)
    gone += _delete_jobs(conn, jobs.c.lead_id == lead_id)
    return Erased({name: count for name, count in gone.items() if count})


def _rename_accounts(conn: Connection, lead_id: str) -> int:
    """What was spent stays spent, by nobody. One that somebody may still settle keeps its name."""
    held = {scope for scopes in conn.scalars(select(reservations.c.scopes)) for scope in scopes}
    free = [scope for scope in _scopes(conn, lead_id) if scope not in held]
    for scope in free:
        nobodys = f"{scope.removesuffix(_end(lead_id))}|~{uuid4().hex}"
        for table in OF_AN_ACCOUNT:
            conn.execute(update(table).where(table.c.scope == scope).values(scope=nobodys))
    return len(free)
