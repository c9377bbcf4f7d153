"""Lead orders in SQL: written before a request is forwarded, closed with the app's answer.

The accepted order and its job are one transaction: there is no moment in which one exists without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, or_, select, update

from scopegate.leads import lookup
from scopegate.leads.job import (
    Claim,
    Earlier,
    JobState,
    KeptAnswer,
    Lead,
    LeadJob,
    LeadOrder,
    OpenOrder,
    OrderRecord,
    OrderState,
    Settlement,
)
from scopegate.stores.database import Database, insert
from scopegate.stores.jobs import create_job
from scopegate.stores.rows import read_job
from scopegate.stores.schema import answers, orders

_WEAKER = {
    OrderState.PENDING: (),
    OrderState.UNKNOWN: (OrderState.PENDING,),
    OrderState.UNREADABLE: (OrderState.PENDING, OrderState.UNKNOWN),
    OrderState.REFUSED: (OrderState.PENDING, OrderState.UNKNOWN, OrderState.UNREADABLE),
    OrderState.ACCEPTED: (OrderState.PENDING, OrderState.UNKNOWN, OrderState.UNREADABLE, OrderState.REFUSED),
}
"""What a settlement may replace: an accepted lead stays accepted, whatever arrives late."""
_TAKEN: Final = (OrderState.ACCEPTED, OrderState.UNREADABLE)
_TRIES: Final = 5
"""To take a claim that others take and let go at the same moment."""


class SqlOutbox:
    """Outbox on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put(self, order: LeadOrder) -> Earlier | None:
        return await self._db.write(partial(_put, order=order))

    async def settle(
        self,
        order: LeadOrder,
        state: OrderState,
        status: int | None,
        lead: Lead | None,
        answer: KeptAnswer | None = None,
    ) -> LeadJob | None:
        assert state is not OrderState.PENDING, "an order is settled with an outcome"
        return await self._db.write(partial(_settle, settled=Settlement(order, state, status, lead, answer)))

    async def overdue(self, before_ms: int) -> int:
        return await self._db.write(partial(_overdue, before_ms=before_ms))

    async def ask(self, offloads: Sequence[str], now_ms: int, limit: int) -> Sequence[OrderRecord]:
        due = _due_to_ask(offloads, now_ms, limit)
        if not await self._db.read(lambda conn: conn.execute(due).first()):
            return ()
        return await self._db.write(partial(_ask, due=due, now_ms=now_ms))

    async def forget(self, now_ms: int, most: int) -> int:
        return await self._db.write(partial(_forget, now_ms=now_ms, most=most))

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


# ── putting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _put(conn: Connection, order: LeadOrder) -> Earlier | None:
    claim = order.claim
    if claim is None:
        conn.execute(insert(conn, orders).values(_row(order)).on_conflict_do_nothing())
        return None
    claimed = {"claim": claim.key, "claim_body": claim.body, "claim_until_ms": claim.until_ms}
    taking = insert(conn, orders).values(_row(order) | claimed).on_conflict_do_nothing().returning(orders.c.order_id)
    for _ in range(_TRIES):
        if conn.execute(taking).one_or_none() is not None:
            return None
        earlier = _holder(conn, claim.key)
        if earlier is None:  # it was let go just now, or this order is there already, without a claim
            continue
        if earlier.order_id == order.order_id:
            return None
        if earlier.claim.until_ms > order.received_ms:
            return earlier
        conn.execute(update(orders).where(orders.c.order_id == earlier.order_id).values(claim=None))
    return None


def _holder(conn: Connection, key: str) -> Earlier | None:
    found = select(orders, answers.c.status.label("answered"), answers.c.fields, answers.c.body)
    row = conn.execute(found.outerjoin_from(orders, answers).where(orders.c.claim == key)).one_or_none()
    if row is None:
        return None
    answer = None if row.answered is None else KeptAnswer(row.answered, row.fields, row.body)
    return Earlier(row.order_id, OrderState(row.state), _claim(row), answer)


def _claim(row: Row[Any]) -> Claim:
    return Claim(row.claim, row.claim_body, row.claim_until_ms)


# ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settle(conn: Connection, settled: Settlement) -> LeadJob | None:
    order, state = settled.order, settled.state
    wanted = settled.lead if state is OrderState.ACCEPTED else None
    has_job = select(orders.c.job_id).where(orders.c.order_id == order.order_id).with_for_update()
    made = None if wanted is None else conn.scalar(has_job)
    if made is not None:
        return read_job(conn, made)  # one order is one job, whichever leads it is said to have given
    job = None if wanted is None else create_job(conn, _new_job(order, wanted))
    outcome: dict[str, Any] = {"state": state, "status": settled.status}
    if job is not None:
        outcome |= {"lead_id": job.lead.lead_id, "job_id": job.job_id}
    if job is not None or state is OrderState.REFUSED:
        outcome["request"] = None  # the visitor's words are kept once, in the job, or not at all
    if state is OrderState.REFUSED:
        outcome["claim"] = None  # who sends it again is heard by the app again
    weaker: ColumnElement[bool] = orders.c.state.in_(_WEAKER[state])
    if job is not None:
        weaker = or_(weaker, and_(orders.c.state == OrderState.ACCEPTED, orders.c.job_id.is_(None)))
    conn.execute(
        insert(conn, orders)
        .values(_row(order) | outcome)
        .on_conflict_do_update(index_elements=["order_id"], set_=outcome, where=weaker)
    )
    if settled.answer is not None and order.claim is not None and state in _TAKEN:
        _keep(conn, order.order_id, settled.answer, order.claim.until_ms)
    return job


def _keep(conn: Connection, order_id: str, answer: KeptAnswer, until_ms: int) -> None:
    row = {"status": answer.status, "fields": answer.fields, "body": answer.body}
    kept = insert(conn, answers).values(order_id=order_id, until_ms=until_ms, **row)
    conn.execute(kept.on_conflict_do_nothing())


def _forget(conn: Connection, now_ms: int, most: int) -> int:
    """Answers whose time is over, and the oldest of more than `most`."""
    newest = select(answers.c.until_ms).order_by(answers.c.until_ms.desc()).offset(most).limit(1).scalar_subquery()
    gone = or_(answers.c.until_ms <= now_ms, answers.c.until_ms <= newest)
    return conn.execute(delete(answers).where(gone)).rowcount


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


# ── orders that nobody settled ──────────────────────────────────────────────────────────────────────────────────────


def _due_to_ask(offloads: Sequence[str], now_ms: int, limit: int) -> Select[Any]:
    return (
        select(orders)
        .where(
            orders.c.state.in_((OrderState.PENDING, OrderState.UNKNOWN)),
            orders.c.received_ms <= now_ms - lookup.FIRST_MS,
            orders.c.offload.in_(offloads),
            orders.c.asked < lookup.MAX_ASKED,
            orders.c.ask_ms <= now_ms,
        )
        .order_by(orders.c.received_ms)
        .limit(limit)
    )


def _ask(conn: Connection, due: Select[Any], now_ms: int) -> list[OrderRecord]:
    """Counted before anybody is asked: one that kills its worker is asked no more often than others."""
    rows = conn.execute(due.with_for_update(skip_locked=True))
    found = [replace(record, asked=record.asked + 1) for record in map(_record, rows)]
    for record in found:
        again = {"asked": record.asked, "ask_ms": now_ms + lookup.pause_ms(record.asked)}
        conn.execute(update(orders).where(orders.c.order_id == record.order.order_id).values(again))
    return found


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
    claim = None if row.claim is None else _claim(row)
    order = LeadOrder(row.order_id, row.offload, row.route, row.request_id, row.received_ms, row.request, claim)
    return OrderRecord(order, OrderState(row.state), row.status, row.job_id, row.asked)


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
