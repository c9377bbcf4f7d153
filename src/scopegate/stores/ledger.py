"""Model calls and money in SQL; the accounts that it is taken from are in `accounts`.

A call is a row from before it is sent, at its worst case and with a reservation of the same id, until it is settled. A
reservation that nobody settled in time moves from reserved to spent, so that expiry frees nothing, and its call is
`unknown`; a settlement that comes after all replaces both by what is true. Where nobody learnt what a call cost, its
reservation stays as an expired one: it knows what the call was taken from. Lock order everywhere: reservations, calls,
then accounts by scope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, select, update

from scopegate import logs
from scopegate.leads.job import OPEN_OUTCOMES, RECONCILED, REUSED, SENT, UNKNOWN, CallRecord, is_estimate
from scopegate.limits.budget import Account, NoRoom, Reservation
from scopegate.metrics import catalogue as metrics
from scopegate.stores import accounts
from scopegate.stores.database import Database, insert
from scopegate.stores.ports import AccountState
from scopegate.stores.schema import calls, reservations
from scopegate.types import Json

log = logs.get("ledger")

_OPEN, _EXPIRED = "open", "expired"
_GROUPS = {
    "day": calls.c.day,
    "model": calls.c.model,
    "step": calls.c.step,
    "lead": calls.c.lead_id,
    "contractor": calls.c.contractor,
    "offload": calls.c.offload,
}
_LATEST = 200
_COUNTS = ("calls", "failed", "unknown", "unknown_usd_micros")
_SUMS = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cost_usd_micros", "saved_usd_micros"),
)


class SqlLedger:
    """Ledger on a Database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def reserve(self, accounts: Sequence[Account], intent: CallRecord, expires_ms: int) -> Reservation | NoRoom:
        assert intent.outcome == SENT
        assert intent.cost_usd_micros >= 0
        reservation = Reservation(intent.call_id, tuple(accounts), intent.cost_usd_micros)
        reserve = partial(_reserve, reservation=reservation, intent=intent, expires_ms=expires_ms)
        try:
            if not await self._db.write(partial(reserve, unless_overdue_ms=intent.started_ms)):
                await self.expire(intent.started_ms)
                await self._db.write(reserve)
        except _NoRoomError as refused:
            return refused.no_room
        return reservation

    async def settle(self, reservation: Reservation, call: CallRecord) -> None:
        assert reservation.call_id == call.call_id
        await self._db.write(partial(_settle, reservation=reservation, call=call))

    async def withdraw(self, reservation: Reservation) -> None:
        await self._db.write(partial(_withdraw, reservation=reservation))

    async def expire(self, now_ms: int) -> int:
        if not await self._db.read(lambda conn: conn.execute(_overdue(now_ms).limit(1)).all()):
            return 0
        lost = await self._db.write(partial(_expire, now_ms=now_ms))
        for call in lost:
            metrics.AI_CALLS.labels(call.model, call.step, UNKNOWN).inc()
            metrics.AI_COST_USD.labels(call.model, call.step).inc(call.cost_usd_micros / 1_000_000)
            log.warning(
                "ai.call_unknown", call_id=call.call_id, job_id=call.job_id, cost_usd_micros=call.cost_usd_micros
            )
        return len(lost)

    async def calls(
        self, *, job_id: str | None = None, lead_id: str | None = None, limit: int = 1000
    ) -> Sequence[CallRecord]:
        return await self._db.read(partial(_calls, job_id=job_id, lead_id=lead_id, limit=limit))

    async def call(self, call_id: str) -> CallRecord | None:
        return await self._db.read(partial(_call, call_id=call_id))

    async def cost_of(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        return await self._db.read(partial(_cost_of, job_ids=job_ids))

    async def standings(self, now_ms: int, limit: int = 200) -> Sequence[AccountState]:
        return await self._db.read(partial(accounts.standings, now_ms=now_ms, limit=limit))

    async def spend_by(self, by: str, since_day: str, most: int | None = None) -> Sequence[Mapping[str, Json]]:
        """As the port says; calls without a lead or contractor are summed under the key None, last. Raises ValueError
        for a grouping that does not exist."""
        if by not in _GROUPS:
            raise ValueError(f"spend can be grouped by {', '.join(_GROUPS)}, not by {by}")
        return await self._db.read(partial(_spend_by, by=by, since_day=since_day, most=most))

    async def longest_answer(self, step: str) -> tuple[int, int]:
        return await self._db.read(partial(_longest_answer, step=step))

    async def calls_between(self, from_ms: int, until_ms: int) -> Sequence[CallRecord]:
        return await self._db.read(partial(_calls_between, from_ms=from_ms, until_ms=until_ms))

    async def correct(self, corrections: Sequence[tuple[CallRecord, CallRecord]], now_ms: int) -> int:
        made = await self._db.write(partial(_correct, corrections=corrections, now_ms=now_ms))
        for before, after in made:
            log.info(
                "ledger.corrected",
                call_id=after.call_id,
                before_usd_micros=before.cost_usd_micros,
                cost_usd_micros=after.cost_usd_micros,
            )
        return len(made)

    async def spent_since(self, moments_ms: Sequence[int]) -> tuple[Sequence[int], int | None]:
        return await self._db.read(partial(_spent_since, moments_ms=moments_ms))

    async def accounts(self, scopes: Sequence[str], now_ms: int) -> Mapping[str, tuple[int, int]]:
        return await self._db.read(partial(accounts.read, scopes=scopes, now_ms=now_ms))

    async def told(self, now_ms: int) -> Mapping[tuple[str, float], int]:
        return await self._db.read(partial(accounts.told, now_ms=now_ms))


class _NoRoomError(Exception):
    """Rolls the transaction back: all accounts or none."""

    def __init__(self, no_room: NoRoom) -> None:
        self.no_room = no_room


# ── reserving ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _reserve(
    conn: Connection,
    reservation: Reservation,
    intent: CallRecord,
    expires_ms: int,
    unless_overdue_ms: int | None = None,
) -> bool:
    """False, with nothing done, when reservations overdue at `unless_overdue_ms` must be expired first. That is a
    transaction of its own: in one with this, accounts would be locked in two sorted runs, and could deadlock."""
    if unless_overdue_ms is not None and conn.execute(_overdue(unless_overdue_ms).limit(1)).one_or_none():
        return False
    for account in sorted(reservation.accounts, key=lambda account: account.scope):
        no_room = accounts.set_aside(conn, account, reservation.amount_usd_micros, intent.started_ms)
        if no_room is not None:
            raise _NoRoomError(no_room)
    conn.execute(
        reservations.insert().values(
            reservation_id=reservation.call_id,
            scopes=[account.scope for account in reservation.accounts],
            amount_usd_micros=reservation.amount_usd_micros,
            expires_ms=expires_ms,
            state=_OPEN,
        )
    )
    conn.execute(calls.insert().values(asdict(intent)))
    return True


def _overdue(now_ms: int) -> Select[Any]:
    return select(reservations).where(reservations.c.state == _OPEN, reservations.c.expires_ms <= now_ms)


def _expire(conn: Connection, now_ms: int) -> list[CallRecord]:
    """Of holders that died: what they set aside counts as spent, and what they sent is of unknown outcome."""
    unlocked = _overdue(now_ms).with_for_update(skip_locked=True)  # SQLite ignores it: its writers take turns
    rows = conn.execute(unlocked.order_by(reservations.c.reservation_id)).all()
    ids = [row.reservation_id for row in rows]
    ours = update(reservations).where(reservations.c.reservation_id.in_(ids))
    conn.execute(ours.values(state=_EXPIRED, expires_ms=now_ms))
    lost = update(calls).where(calls.c.call_id.in_(ids), calls.c.outcome == SENT).values(outcome=UNKNOWN)
    found = [CallRecord(**row._mapping) for row in conn.execute(lost.returning(*calls.c))]
    booked: Counter[str] = Counter()
    for row in rows:
        for scope in row.scopes:
            booked[scope] += row.amount_usd_micros
    for scope in sorted(booked):
        accounts.move(conn, scope, spent=booked[scope], reserved=-booked[scope], booked_ms=now_ms, now_ms=now_ms)
    return found


# ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settle(conn: Connection, reservation: Reservation, call: CallRecord) -> None:
    held = _held(conn, reservation.call_id)
    if not _book(conn, call):
        return
    ended_ms = call.started_ms + call.duration_ms
    _take(conn, reservation.call_id, call.cost_usd_micros if is_estimate(call) else None, ended_ms)
    scopes = [account.scope for account in reservation.accounts]
    _replace(conn, scopes or (held.scopes if held is not None else ()), held, call.cost_usd_micros, ended_ms)


def _withdraw(conn: Connection, reservation: Reservation) -> None:
    held = _held(conn, reservation.call_id)
    unsent = calls.delete().where(calls.c.call_id == reservation.call_id, calls.c.outcome.in_(OPEN_OUTCOMES))
    is_unsent = conn.execute(unsent.returning(calls.c.call_id)).one_or_none() is not None
    if held is not None and is_unsent:
        _take(conn, reservation.call_id, None, held.expires_ms)
        _replace(conn, held.scopes, held, 0, held.expires_ms)


def _held(conn: Connection, call_id: str) -> Row[Any] | None:
    """A reservation, locked."""
    return conn.execute(
        select(reservations).where(reservations.c.reservation_id == call_id).with_for_update()
    ).one_or_none()


def _take(conn: Connection, call_id: str, estimate: int | None, now_ms: int) -> None:
    """A reservation has come to its end; behind an estimate it stays, with what was booked as spent."""
    ours = reservations.c.reservation_id == call_id
    if estimate is None:
        conn.execute(reservations.delete().where(ours))
    else:
        kept = {"state": _EXPIRED, "amount_usd_micros": estimate, "expires_ms": now_ms}
        conn.execute(update(reservations).where(ours).values(**kept))


def _replace(conn: Connection, scopes: Sequence[str], held: Row[Any] | None, cost: int, now_ms: int) -> None:
    """What a reservation counted for is the cost from now on. It was open, or expired and booked as spent then, or is
    gone."""
    spent, reserved, booked_ms = cost, 0, now_ms
    if held is not None and held.state == _OPEN:
        reserved = -held.amount_usd_micros
    elif held is not None:
        spent, booked_ms = cost - held.amount_usd_micros, held.expires_ms
    for scope in sorted(scopes):
        accounts.move(conn, scope, spent=spent, reserved=reserved, booked_ms=booked_ms, now_ms=now_ms)


def _book(conn: Connection, call: CallRecord) -> bool:
    """Whether this is how the call ended: False where its end is booked already."""
    values = asdict(call)
    ours = (calls.c.call_id == call.call_id, calls.c.outcome.in_(OPEN_OUTCOMES))
    ended = update(calls).where(*ours).values(values).returning(calls.c.call_id)
    if conn.execute(ended).one_or_none() is not None:
        return True
    fresh = insert(conn, calls).values(values).on_conflict_do_nothing().returning(calls.c.call_id)
    return conn.execute(fresh).one_or_none() is not None


# ── putting right ───────────────────────────────────────────────────────────────────────────────────────────────────


def _correct(
    conn: Connection, corrections: Sequence[tuple[CallRecord, CallRecord]], now_ms: int
) -> list[tuple[CallRecord, CallRecord]]:
    """Those that were made: not of a call that is no more what it was when it was judged."""
    made: list[tuple[CallRecord, CallRecord]] = []
    moves: list[tuple[str, int, int]] = []
    for before, after in sorted(corrections, key=lambda pair: pair[0].call_id):
        held = _held(conn, before.call_id)
        still = (calls.c.call_id == before.call_id, calls.c.outcome == before.outcome)
        same = update(calls).where(*still, calls.c.cost_usd_micros == before.cost_usd_micros)
        if conn.execute(same.values(asdict(after)).returning(calls.c.call_id)).one_or_none() is None:
            continue
        made.append((before, after))
        if held is not None:
            conn.execute(reservations.delete().where(reservations.c.reservation_id == before.call_id))
            difference = after.cost_usd_micros - held.amount_usd_micros
            moves += [(scope, difference, held.expires_ms) for scope in held.scopes]
    for scope, difference, booked_ms in sorted(moves):
        accounts.move(conn, scope, spent=difference, reserved=0, booked_ms=booked_ms, now_ms=now_ms)
    return made


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _calls(conn: Connection, job_id: str | None, lead_id: str | None, limit: int) -> list[CallRecord]:
    query: Select[Any] = select(calls).order_by(calls.c.started_ms, calls.c.call_id).limit(limit)
    if job_id is not None:
        query = query.where(calls.c.job_id == job_id)
    if lead_id is not None:
        query = query.where(calls.c.lead_id == lead_id)
    return [CallRecord(**row._mapping) for row in conn.execute(query)]


def _call(conn: Connection, call_id: str) -> CallRecord | None:
    row = conn.execute(select(calls).where(calls.c.call_id == call_id)).one_or_none()
    return None if row is None else CallRecord(**row._mapping)


def _calls_between(conn: Connection, from_ms: int, until_ms: int) -> list[CallRecord]:
    ours = select(calls).where(calls.c.started_ms >= from_ms, calls.c.started_ms < until_ms)
    return [CallRecord(**row._mapping) for row in conn.execute(ours.order_by(calls.c.started_ms, calls.c.call_id))]


def _cost_of(conn: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    ours = select(calls.c.job_id, func.sum(calls.c.cost_usd_micros).label("cost")).where(
        calls.c.job_id.in_(job_ids), calls.c.outcome != SENT
    )
    found = {row.job_id: int(row.cost) for row in conn.execute(ours.group_by(calls.c.job_id))}
    return {job_id: found.get(job_id, 0) for job_id in job_ids}


def _spend_by(conn: Connection, by: str, since_day: str, most: int | None) -> list[Mapping[str, Json]]:
    key = _GROUPS[by]
    is_unknown = calls.c.outcome == UNKNOWN
    counts = [
        func.count().label("calls"),
        func.sum(case((calls.c.outcome.in_(("ok", UNKNOWN, REUSED, RECONCILED)), 0), else_=1)).label("failed"),
        func.sum(case((is_unknown, 1), else_=0)).label("unknown"),
        func.sum(case((is_unknown, calls.c.cost_usd_micros), else_=0)).label("unknown_usd_micros"),
    ]
    sums = [func.sum(calls.c[name]).label(name) for name in _SUMS]
    query = (
        select(key.label("key"), *counts, *sums).where(calls.c.day >= since_day, calls.c.outcome != SENT).group_by(key)
    )
    if most is not None:
        query = query.order_by(func.sum(calls.c.cost_usd_micros).desc()).limit(most)
    rows = [_sums_of(row) for row in conn.execute(query)]
    # sorted here: the engines disagree about collation and about where NULL goes
    return sorted(rows, key=lambda row: (row["key"] is None, str(row["key"])))


def _longest_answer(conn: Connection, step: str) -> tuple[int, int]:
    latest = (
        select(calls.c.output_tokens)
        .where(calls.c.step == step, calls.c.outcome == "ok")
        .order_by(calls.c.started_ms.desc())
        .limit(_LATEST)
        .subquery()
    )
    known, longest = conn.execute(select(func.count(), func.max(latest.c.output_tokens)).select_from(latest)).one()
    return known, longest or 0


def _sums_of(row: Row[Any]) -> Mapping[str, Json]:
    """SUM of BIGINT is a Decimal on PostgreSQL."""
    return {"key": row.key} | {name: int(row._mapping[name]) for name in (*_COUNTS, *_SUMS)}


def _spent_since(conn: Connection, moments_ms: Sequence[int]) -> tuple[list[int], int | None]:
    earliest = min(moments_ms)
    sums = [func.sum(case((calls.c.started_ms >= at_ms, calls.c.cost_usd_micros), else_=0)) for at_ms in moments_ms]
    found = conn.execute(select(*sums).where(calls.c.started_ms >= earliest, calls.c.outcome != SENT)).one()
    return [int(spent or 0) for spent in found], conn.scalar(select(func.min(calls.c.started_ms)))
