"""Model calls and money in SQL. The arithmetic is that of `limits/budget`, done by the database under its row locks.

A call is a row from before it is sent, at its worst case and with a reservation of the same id, until it is settled.
Invariant: for every account, spent + reserved never passes the cap that a reservation was granted under. A reservation
that nobody settled in time moves from reserved to spent, so that expiry frees nothing, and its call is `unknown`; a
settlement that comes after all replaces both by what is true. Lock order everywhere: reservations, calls, then accounts
by scope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, select, update

from scopegate import logs
from scopegate.leads.job import OPEN_OUTCOMES, SENT, UNKNOWN, CallRecord
from scopegate.limits.budget import Account, NoRoom, Reservation
from scopegate.metrics import catalogue as metrics
from scopegate.stores.database import Database, insert
from scopegate.stores.schema import accounts, calls, reservations
from scopegate.types import Json

log = logs.get("ledger")

_OPEN, _EXPIRED = "open", "expired"
_GROUPS = {
    "day": calls.c.day,
    "model": calls.c.model,
    "step": calls.c.step,
    "lead": calls.c.lead_id,
    "contractor": calls.c.contractor,
}
_LATEST = 200
_COUNTS = ("calls", "failed", "unknown", "unknown_usd_micros")
_SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd_micros")


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
            return NoRoom(refused.account, refused.is_spent)
        return reservation

    async def settle(self, reservation: Reservation, call: CallRecord) -> Sequence[tuple[Account, int, int]]:
        assert reservation.call_id == call.call_id
        return await self._db.write(partial(_settle, reservation=reservation, call=call))

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

    async def spend_by(self, by: str, since_day: str) -> Sequence[Mapping[str, Json]]:
        """As the port says; calls without a lead or contractor are summed under the key None, last. Raises ValueError
        for a grouping that does not exist."""
        if by not in _GROUPS:
            raise ValueError(f"spend can be grouped by {', '.join(_GROUPS)}, not by {by}")
        return await self._db.read(partial(_spend_by, by=by, since_day=since_day))

    async def longest_answer(self, step: str) -> tuple[int, int]:
        return await self._db.read(partial(_longest_answer, step=step))

    async def accounts(self, scopes: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        return await self._db.read(partial(_accounts, scopes=scopes))


class _NoRoomError(Exception):
    """Rolls the transaction back: all accounts or none."""

    def __init__(self, account: Account, is_spent: bool) -> None:
        self.account = account
        self.is_spent = is_spent


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
        if not _set_aside(conn, account, reservation.amount_usd_micros):
            raise _NoRoomError(account, _is_spent(conn, account, reservation.amount_usd_micros))
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


def _set_aside(conn: Connection, account: Account, amount: int) -> bool:
    """One statement on either engine: the row is created or raised, or the cap says no. The cap is the caller's:
    it follows the policy, not the row."""
    if amount > account.cap_usd_micros:
        return False
    row = insert(conn, accounts).values(
        scope=account.scope,
        name=account.name,
        cap_usd_micros=account.cap_usd_micros,
        ends_ms=account.ends_ms,
        reserved_usd_micros=amount,
    )
    row = row.on_conflict_do_update(
        index_elements=["scope"],
        set_={
            "reserved_usd_micros": accounts.c.reserved_usd_micros + amount,
            "cap_usd_micros": account.cap_usd_micros,
            "ends_ms": account.ends_ms,
        },
        where=accounts.c.spent_usd_micros + accounts.c.reserved_usd_micros + amount <= account.cap_usd_micros,
    )
    return conn.execute(row.returning(accounts.c.scope)).one_or_none() is not None


def _is_spent(conn: Connection, account: Account, amount: int) -> bool:
    spent = conn.scalar(select(accounts.c.spent_usd_micros).where(accounts.c.scope == account.scope))
    return (spent or 0) + amount > account.cap_usd_micros


def _expire(conn: Connection, now_ms: int) -> list[CallRecord]:
    """Of holders that died: what they set aside counts as spent, and what they sent is of unknown outcome."""
    unlocked = _overdue(now_ms).with_for_update(skip_locked=True)  # SQLite ignores it: its writers take turns
    rows = conn.execute(unlocked.order_by(reservations.c.reservation_id)).all()
    ids = [row.reservation_id for row in rows]
    conn.execute(update(reservations).where(reservations.c.reservation_id.in_(ids)).values(state=_EXPIRED))
    lost = update(calls).where(calls.c.call_id.in_(ids), calls.c.outcome == SENT).values(outcome=UNKNOWN)
    found = [CallRecord(**row._mapping) for row in conn.execute(lost.returning(*calls.c))]
    booked: Counter[str] = Counter()
    for row in rows:
        for scope in row.scopes:
            booked[scope] += row.amount_usd_micros
    for scope in sorted(booked):
        _move(conn, scope, spent=booked[scope], reserved=-booked[scope])
    return found


def _move(conn: Connection, scope: str, *, spent: int, reserved: int) -> int:
    """Change both sides of an account; what is spent afterwards."""
    changed = (
        update(accounts)
        .where(accounts.c.scope == scope)
        .values(
            spent_usd_micros=accounts.c.spent_usd_micros + spent,
            reserved_usd_micros=accounts.c.reserved_usd_micros + reserved,
        )
        .returning(accounts.c.spent_usd_micros)
    )
    return int(conn.execute(changed).scalar_one())


# ── settling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settle(conn: Connection, reservation: Reservation, call: CallRecord) -> list[tuple[Account, int, int]]:
    held = _taken(conn, reservation)
    booked = _book(conn, call)
    spent, reserved = _replacement(held, reservation.amount_usd_micros, call.cost_usd_micros) if booked else (0, 0)
    after = {
        account.scope: _move(conn, account.scope, spent=spent, reserved=reserved)
        for account in sorted(reservation.accounts, key=lambda account: account.scope)
    }
    return [(account, after[account.scope] - spent, after[account.scope]) for account in reservation.accounts]


def _withdraw(conn: Connection, reservation: Reservation) -> None:
    held = _taken(conn, reservation)
    conn.execute(calls.delete().where(calls.c.call_id == reservation.call_id, calls.c.outcome.in_(OPEN_OUTCOMES)))
    spent, reserved = _replacement(held, reservation.amount_usd_micros, 0)
    if held is not None:
        for account in sorted(reservation.accounts, key=lambda account: account.scope):
            _move(conn, account.scope, spent=spent, reserved=reserved)


def _taken(conn: Connection, reservation: Reservation) -> str | None:
    """The state of a reservation that nobody will find again; None of one that is gone."""
    ours = reservations.c.reservation_id == reservation.call_id
    state: str | None = conn.scalar(select(reservations.c.state).where(ours).with_for_update())
    if state is not None:
        conn.execute(reservations.delete().where(ours))
    return state


def _book(conn: Connection, call: CallRecord) -> bool:
    """Whether this is how the call ended: False where its end is booked already."""
    values = asdict(call)
    ours = (calls.c.call_id == call.call_id, calls.c.outcome.in_(OPEN_OUTCOMES))
    ended = update(calls).where(*ours).values(values).returning(calls.c.call_id)
    if conn.execute(ended).one_or_none() is not None:
        return True
    fresh = insert(conn, calls).values(values).on_conflict_do_nothing().returning(calls.c.call_id)
    return conn.execute(fresh).one_or_none() is not None


def _replacement(held: str | None, amount: int, cost: int) -> tuple[int, int]:
    """What the real cost changes in (spent, reserved): of a reservation that is open, of one that expired and was
    booked as spent, or of one already settled."""
    if held == _OPEN:
        return cost, -amount
    if held == _EXPIRED:
        return cost - amount, 0
    return cost, 0


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _calls(conn: Connection, job_id: str | None, lead_id: str | None, limit: int) -> list[CallRecord]:
    query: Select[Any] = select(calls).order_by(calls.c.started_ms, calls.c.call_id).limit(limit)
    if job_id is not None:
        query = query.where(calls.c.job_id == job_id)
    if lead_id is not None:
        query = query.where(calls.c.lead_id == lead_id)
    return [CallRecord(**row._mapping) for row in conn.execute(query)]


def _spend_by(conn: Connection, by: str, since_day: str) -> list[Mapping[str, Json]]:
    key = _GROUPS[by]
    is_unknown = calls.c.outcome == UNKNOWN
    counts = [
        func.count().label("calls"),
        func.sum(case((calls.c.outcome.in_(("ok", UNKNOWN)), 0), else_=1)).label("failed"),
        func.sum(case((is_unknown, 1), else_=0)).label("unknown"),
        func.sum(case((is_unknown, calls.c.cost_usd_micros), else_=0)).label("unknown_usd_micros"),
    ]
    sums = [func.sum(calls.c[name]).label(name) for name in _SUMS]
    query = (
        select(key.label("key"), *counts, *sums).where(calls.c.day >= since_day, calls.c.outcome != SENT).group_by(key)
    )
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


def _accounts(conn: Connection, scopes: Iterable[str]) -> dict[str, tuple[int, int]]:
    wanted = list(scopes)
    rows = conn.execute(select(accounts).where(accounts.c.scope.in_(wanted)))
    found = {row.scope: (row.spent_usd_micros, row.reserved_usd_micros) for row in rows}
    return {scope: found.get(scope, (0, 0)) for scope in wanted}
