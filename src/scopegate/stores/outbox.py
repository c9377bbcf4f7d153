"""Lead orders in SQL: written before a request is forwarded, closed with the app's answer.

The accepted order and its job are one transaction: there is no moment in which one exists without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update

from scopegate.leads.job import JobState, Lead, LeadJob, LeadOrder, OpenOrder, OrderRecord, OrderState
from scopegate.stores.database import Database, insert
from scopegate.stores.jobs import create_job, read_job
from scopegate.stores.schema import orders

_WEAKER = {
    OrderState.PENDING: (),
    OrderState.UNKNOWN: (OrderState.PENDING,),
    OrderState.UNREADABLE: (OrderState.PENDING, OrderState.UNKNOWN),
    OrderState.REFUSED: (OrderState.PENDING, OrderState.UNKNOWN, OrderState.UNREADABLE),
    OrderState.ACCEPTED: (OrderState.PENDING, OrderState.UNKNOWN, OrderState.UNREADABLE, OrderState.REFUSED),
}
"""What a settlement may replace: an accepted lead stays accepted, whatever arrives late."""


class SqlOutbox:
    """Outbox on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, order: LeadOrder) -> None:
        await self._db.write(partial(_put, order=order))

    async def settle(
        self, order: LeadOrder, state: OrderState, status: int | None, lead: Lead | None
    ) -> LeadJob | None:
        assert state is not OrderState.PENDING, "an order is settled with an outcome"
        return await self._db.write(partial(_settle, order=order, state=state, status=status, lead=lead))

    async def overdue(self, before_ms: int) -> int:
        return await self._db.write(partial(_overdue, before_ms=before_ms))

    async def count(self, state: OrderState) -> int:
        return await self._db.read(partial(_count, state=state))

    async def get(self, order_id: str) -> OrderRecord | None:
        return await self._db.read(partial(_get, order_id=order_id))

    async def of_request(self, request_id: str) -> Sequence[OrderRecord]:
        return await self._db.read(partial(_of_request, request_id=request_id))

    async def open(self, limit: int) -> Sequence[OpenOrder]:
        return await self._db.read(partial(_open, limit=limit))


def _row(order: LeadOrder) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "offload": order.offload,
        "route": order.route,
        "request_id": order.request_id,
        "received_ms": order.received_ms,
        "request": order.request,
        "state": OrderState.PENDING,
    }


def _put(conn: Connection, order: LeadOrder) -> None:
    conn.execute(insert(conn, orders).values(_row(order)).on_conflict_do_nothing())


def _settle(
    conn: Connection, order: LeadOrder, state: OrderState, status: int | None, lead: Lead | None
) -> LeadJob | None:
    wanted = lead if state is OrderState.ACCEPTED else None
    has_job = select(orders.c.job_id).where(orders.c.order_id == order.order_id).with_for_update()
    made = None if wanted is None else conn.scalar(has_job)
    if made is not None:
        return read_job(conn, made)  # one order is one job, whichever leads it is said to have given
    job = None if wanted is None else create_job(conn, _new_job(order, wanted))
    outcome: dict[str, Any] = {"state": state, "status": status}
    if job is not None:
        outcome |= {"lead_id": job.lead.lead_id, "job_id": job.job_id}
    if job is not None or state is OrderState.REFUSED:
        outcome["request"] = None  # the visitor's words are kept once, in the job, or not at all
    weaker: ColumnElement[bool] = orders.c.state.in_(_WEAKER[state])
    if job is not None:
        weaker = or_(weaker, and_(orders.c.state == OrderState.ACCEPTED, orders.c.job_id.is_(None)))
    conn.execute(
        insert(conn, orders)
        .values(_row(order) | outcome)
        .on_conflict_do_update(index_elements=["order_id"], set_=outcome, where=weaker)
    )
    return job


def _new_job(order: LeadOrder, lead: Lead) -> LeadJob:
    return LeadJob(
        job_id=f"job_{uuid4().hex}",
        offload=order.offload,
        lead=lead,
        request_id=order.request_id,
        state=JobState.QUEUED,
        created_ms=order.received_ms,
        due_ms=order.received_ms,
    )


def _overdue(conn: Connection, before_ms: int) -> int:
    late = update(orders).where(orders.c.state == OrderState.PENDING, orders.c.received_ms < before_ms)
    return conn.execute(late.values(state=OrderState.UNKNOWN)).rowcount


def _count(conn: Connection, state: OrderState) -> int:
    return conn.execute(select(func.count()).select_from(orders).where(orders.c.state == state)).scalar_one()


def _get(conn: Connection, order_id: str) -> OrderRecord | None:
    row = conn.execute(select(orders).where(orders.c.order_id == order_id)).one_or_none()
    return None if row is None else _record(row)


def _of_request(conn: Connection, request_id: str) -> list[OrderRecord]:
    found = select(orders).where(orders.c.request_id == request_id).order_by(orders.c.received_ms)
    return [_record(row) for row in conn.execute(found)]


def _record(row: Row[Any]) -> OrderRecord:
    order = LeadOrder(row.order_id, row.offload, row.route, row.request_id, row.received_ms, row.request)
    return OrderRecord(order, OrderState(row.state), row.status, row.job_id)


def _open(conn: Connection, limit: int) -> list[OpenOrder]:
    found = (
        select(orders)
        .where(orders.c.job_id.is_(None), orders.c.state != OrderState.REFUSED)
        .order_by(orders.c.received_ms.desc(), orders.c.order_id)
        .limit(limit)
    )
    return [
        OpenOrder(
            row.order_id, row.offload, row.route, row.request_id, row.received_ms, OrderState(row.state), row.status
        )
        for row in conn.execute(found)
    ]
