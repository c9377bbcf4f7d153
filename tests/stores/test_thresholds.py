"""The Thresholds port, on SQLite and on PostgreSQL: each is told by one at a time, until it is closed."""

from __future__ import annotations

import asyncio

from scopegate.limits.budget import Account, Reservation
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.thresholds import SqlThresholds
from tests.stores.orders import call, intent

DAY = Account("day|2026-11-24", "day", 1_000, 9_000, None, (0.1, 0.2, 0.3, 0.4, 0.5))


async def reach(database: Database, spent: int) -> None:
    ledger = SqlLedger(database)
    reserved = await ledger.reserve([DAY], intent(spent, 50), 10_000)
    assert isinstance(reserved, Reservation)
    await ledger.settle(reserved, call(reserved.call_id, spent, started_ms=50, duration_ms=0))


async def test_a_claimed_one_is_nobody_elses_until_the_claim_ends(database: Database) -> None:
    await reach(database, 100)
    thresholds = SqlThresholds(database)
    assert await thresholds.claim(49, 100, 10) == []
    [one] = await thresholds.claim(50, 100, 10)
    assert (one.share, one.tries) == (0.1, 1)
    assert await thresholds.claim(99, 200, 10) == []
    [again] = await thresholds.claim(100, 200, 10)
    assert (again.threshold_id, again.tries) == (one.threshold_id, 2)


async def test_each_goes_to_one_of_many(database: Database) -> None:
    await reach(database, 500)
    found = await asyncio.gather(*(SqlThresholds(database).claim(50, 100, 2) for _ in range(8)))
    ids = [one.threshold_id for part in found for one in part]
    assert len(ids) == len(set(ids)) <= 5
    assert all(len(part) <= 2 for part in found)


async def test_a_closed_one_stays_closed(database: Database) -> None:
    await reach(database, 100)
    thresholds = SqlThresholds(database)
    [one] = await thresholds.claim(50, 100, 10)
    assert await thresholds.close(one.threshold_id)
    assert not await thresholds.close(one.threshold_id)
    await thresholds.postpone(one.threshold_id, 0)
    assert await thresholds.claim(10_000, 20_000, 10) == []


async def test_a_postponed_one_comes_again_when_it_is_due(database: Database) -> None:
    await reach(database, 100)
    thresholds = SqlThresholds(database)
    [one] = await thresholds.claim(50, 10_000, 10)
    await thresholds.postpone(one.threshold_id, 300)
    assert await thresholds.claim(299, 400, 10) == []
    assert len(await thresholds.claim(300, 400, 10)) == 1
