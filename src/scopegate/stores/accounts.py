"""Accounts in SQL: what is set aside and spent of each budget, and which of its thresholds that reaches.

Functions of a connection, inside the transactions of `ledger`; whoever touches several accounts takes them by scope.
Invariant: spent + reserved never passes the cap that a reservation was granted under.

Money leaves a rolling account its window after it was booked as spent, not after it was set aside: between the two it
counts as reserved, so in any span of that length no more is billed than the cap. It leaves in steps of a hundredth of
the window, never early.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from scopegate.limits.budget import Account, NoRoom, reached
from scopegate.stores.database import insert
from scopegate.stores.ports import AccountState
from scopegate.stores.schema import accounts, leavings, thresholds

_STEPS = 100
_SHORTEST_STEP_MS = 1_000
_NEVER_MS = 2**53 - 1
"""The end of an account that has none."""


def set_aside(conn: Connection, account: Account, amount: int, now_ms: int) -> NoRoom | None:
    """One statement on either engine: the row is created or raised, or the cap says no. The cap is the caller's:
    it follows the policy, not the row."""
    if amount > account.cap_usd_micros:
        return NoRoom(account, is_spent=True)
    if account.window_ms is not None:
        _let_leave(conn, account.scope, now_ms)
    terms = {
        "cap_usd_micros": account.cap_usd_micros,
        "ends_ms": _NEVER_MS if account.ends_ms is None else account.ends_ms,
        "window_ms": account.window_ms,
        "warn_at": [*account.warn_at],
    }
    row = insert(conn, accounts).values(scope=account.scope, name=account.name, reserved_usd_micros=amount, **terms)
    row = row.on_conflict_do_update(
        index_elements=["scope"],
        set_={"reserved_usd_micros": accounts.c.reserved_usd_micros + amount, **terms},
        where=accounts.c.spent_usd_micros + accounts.c.reserved_usd_micros + amount <= account.cap_usd_micros,
    )
    if conn.execute(row.returning(accounts.c.scope)).one_or_none() is not None:
        return None
    return _no_room(conn, account, amount)


def _no_room(conn: Connection, account: Account, amount: int) -> NoRoom:
    spent = conn.scalar(select(accounts.c.spent_usd_micros).where(accounts.c.scope == account.scope)) or 0
    over = spent + amount - account.cap_usd_micros
    if over <= 0:
        return NoRoom(account, is_spent=False)
    return NoRoom(account if account.window_ms is None else _until_less(conn, account, over), is_spent=True)


def _until_less(conn: Connection, account: Account, over: int) -> Account:
    """The account with the moment by which so much of it has left."""
    ahead = select(leavings).where(leavings.c.scope == account.scope).order_by(leavings.c.leaves_ms)
    for row in conn.execute(ahead):
        over -= row.usd_micros
        if over <= 0:
            return replace(account, ends_ms=row.leaves_ms)
    return account


def _let_leave(conn: Connection, scope: str, now_ms: int) -> None:
    """Under the account's lock, so that nobody counts the same money twice."""
    conn.execute(select(accounts.c.scope).where(accounts.c.scope == scope).with_for_update()).one_or_none()
    old = delete(leavings).where(leavings.c.scope == scope, leavings.c.leaves_ms <= now_ms)
    gone = sum(row.usd_micros for row in conn.execute(old.returning(leavings.c.usd_micros)))
    if gone:
        conn.execute(
            update(accounts)
            .where(accounts.c.scope == scope)
            .values(spent_usd_micros=accounts.c.spent_usd_micros - gone)
        )


def move(conn: Connection, scope: str, *, spent: int, reserved: int, booked_ms: int, now_ms: int) -> None:
    """Change both sides of an account. `booked_ms` is when the money was booked as spent: now, or earlier for what is
    only put right, which then leaves with it. Nothing happens to an account that is gone."""
    changed = (
        update(accounts)
        .where(accounts.c.scope == scope)
        .values(
            spent_usd_micros=accounts.c.spent_usd_micros + spent,
            reserved_usd_micros=accounts.c.reserved_usd_micros + reserved,
        )
        .returning(*accounts.c)
    )
    row = conn.execute(changed).one_or_none()
    if row is None:
        return
    if row.window_ms is not None and spent:
        _enter(conn, row, spent, booked_ms)
    if spent > 0:
        _reach(conn, row, now_ms)


def _enter(conn: Connection, row: Row[Any], spent: int, booked_ms: int) -> None:
    step_ms = max(_SHORTEST_STEP_MS, row.window_ms // _STEPS)
    leaves_ms = -(-(booked_ms + row.window_ms) // step_ms) * step_ms
    leaving = insert(conn, leavings).values(scope=row.scope, leaves_ms=leaves_ms, usd_micros=spent)
    conn.execute(
        leaving.on_conflict_do_update(
            index_elements=["scope", "leaves_ms"], set_={"usd_micros": leavings.c.usd_micros + spent}
        )
    )


# ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _reach(conn: Connection, row: Row[Any], now_ms: int) -> None:
    """Write down which thresholds are reached and not told yet, once in a period; in a rolling one, once in its
    length."""
    if not row.warn_at:
        return
    is_over = row.window_ms is not None and row.told_ms is not None and row.told_ms + row.window_ms <= now_ms
    fresh = reached(row.warn_at, row.cap_usd_micros, row.spent_usd_micros, 0.0 if is_over else row.told)
    if not fresh:
        return
    conn.execute(update(accounts).where(accounts.c.scope == row.scope).values(told=fresh[-1], told_ms=now_ms))
    for share in fresh:
        conn.execute(
            thresholds.insert().values(
                threshold_id=_threshold_id(row.scope, share, now_ms),
                name=row.name,
                scope=row.scope,
                share=share,
                spent_usd_micros=row.spent_usd_micros,
                cap_usd_micros=row.cap_usd_micros,
                reached_ms=now_ms,
                ends_ms=None if row.ends_ms == _NEVER_MS else row.ends_ms,
                due_ms=now_ms,
            )
        )


def _threshold_id(scope: str, share: float, now_ms: int) -> str:
    return hashlib.sha256(f"{scope} {share} {now_ms}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(conn: Connection, scopes: Iterable[str], now_ms: int) -> dict[str, tuple[int, int]]:
    """(spent, reserved) by scope; (0, 0) of one that is not there."""
    wanted = list(scopes)
    rows = conn.execute(select(accounts).where(accounts.c.scope.in_(wanted)))
    found = {row.scope: (row.spent_usd_micros, row.reserved_usd_micros) for row in rows}
    left = (
        select(leavings.c.scope, func.sum(leavings.c.usd_micros).label("usd_micros"))
        .where(leavings.c.scope.in_(wanted), leavings.c.leaves_ms <= now_ms)
        .group_by(leavings.c.scope)
    )
    for row in conn.execute(left):
        spent, reserved = found[row.scope]
        found[row.scope] = (spent - int(row.usd_micros), reserved)
    return {scope: found.get(scope, (0, 0)) for scope in wanted}


def standings(conn: Connection, now_ms: int, limit: int) -> list[AccountState]:
    """Those in their present period, the fullest first. Of a rolling one what has left meanwhile is taken off."""
    still = accounts.c.window_ms.is_not(None) | (accounts.c.ends_ms > now_ms)
    share = (accounts.c.spent_usd_micros + accounts.c.reserved_usd_micros) * 1.0 / accounts.c.cap_usd_micros
    present = select(accounts).where(still, accounts.c.cap_usd_micros > 0)
    rows = conn.execute(present.order_by(share.desc(), accounts.c.scope).limit(limit)).all()
    sums = read(conn, [row.scope for row in rows], now_ms)
    return [
        AccountState(
            row.scope, row.name, row.cap_usd_micros, *sums[row.scope], None if row.ends_ms == _NEVER_MS else row.ends_ms
        )
        for row in rows
    ]


def told(conn: Connection, now_ms: int) -> dict[tuple[str, float], int]:
    """How many accounts have reached each threshold in their present period, by (budget, share)."""
    still = accounts.c.window_ms.is_not(None) | (accounts.c.ends_ms > now_ms)
    is_over = accounts.c.window_ms.is_not(None) & (accounts.c.told_ms + accounts.c.window_ms <= now_ms)
    present = select(accounts.c.name, accounts.c.told, accounts.c.warn_at, func.count().label("number")).where(
        accounts.c.told > 0, still, ~is_over
    )
    found: Counter[tuple[str, float]] = Counter()
    for row in conn.execute(present.group_by(accounts.c.name, accounts.c.told, accounts.c.warn_at)):
        for share in row.warn_at or ():
            if share <= row.told:
                found[row.name, share] += row.number
    return dict(found)
