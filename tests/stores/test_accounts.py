"""Rolling accounts and reached thresholds, through the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from scopegate.leads.job import CallRecord
from scopegate.limits.budget import Account, NoRoom, Reservation
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.ports import Threshold
from scopegate.stores.thresholds import SqlThresholds
from tests.stores.orders import call, intent

HOUR_MS = 3_600_000
STEP_MS = HOUR_MS // 100
HOUR = Account("hour|3600s", "hour", 1_000, HOUR_MS, HOUR_MS)
DAY = Account("day|2026-11-24", "day", 1_000, 9_000, None, (0.5, 0.8, 1.0))
FOR_EVER_MS = 10**12


@pytest.fixture
def ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


async def spend(ledger: SqlLedger, cost: int, at_ms: int, *accounts: Account, for_ms: int = 0) -> Reservation | NoRoom:
    reserved = await ledger.reserve(accounts or (HOUR,), intent(cost, at_ms), FOR_EVER_MS)
    if isinstance(reserved, Reservation):
        await ledger.settle(reserved, ended(reserved, cost, at_ms, for_ms))
    return reserved


def ended(reservation: Reservation, cost: int, at_ms: int, for_ms: int = 0) -> CallRecord:
    return call(reservation.call_id, cost, started_ms=at_ms, duration_ms=for_ms)


async def balance(ledger: SqlLedger, now_ms: int, account: Account = HOUR) -> tuple[int, int]:
    return (await ledger.accounts([account.scope], now_ms))[account.scope]


# ── rolling ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_money_leaves_a_rolling_account_its_window_after_it_was_spent(ledger: SqlLedger) -> None:
    await spend(ledger, 600, 0, for_ms=50_000)
    await spend(ledger, 400, 10 * STEP_MS)
    refused = await spend(ledger, 1, HOUR_MS)
    assert isinstance(refused, NoRoom)
    assert refused.is_spent
    leaves_ms = refused.account.ends_ms
    assert leaves_ms == HOUR_MS + 2 * STEP_MS, "50 s and an hour, to the end of its step"
    assert await balance(ledger, leaves_ms - 1) == (1_000, 0)
    assert await balance(ledger, leaves_ms) == (400, 0)
    assert isinstance(await spend(ledger, 601, leaves_ms), NoRoom)
    assert isinstance(await spend(ledger, 600, leaves_ms), Reservation)
    assert await balance(ledger, leaves_ms) == (1_000, 0)
    assert await balance(ledger, 10 * HOUR_MS) == (0, 0)


async def test_who_wants_more_waits_for_as_much_to_leave(ledger: SqlLedger) -> None:
    for n in range(10):
        await spend(ledger, 100, n * STEP_MS)
    refused = await spend(ledger, 250, 20 * STEP_MS)
    assert isinstance(refused, NoRoom)
    assert refused.account.ends_ms == HOUR_MS + 2 * STEP_MS


async def test_no_span_of_the_window_ever_holds_more_than_the_cap(ledger: SqlLedger) -> None:
    """However calls come and however long they take: what was billed in any window is within the cap."""
    rng, now_ms, billed = random.Random(5), 0, []
    for _ in range(120):
        now_ms += rng.randrange(HOUR_MS // 20)
        cost, took_ms = rng.randrange(1, 90), rng.randrange(60_000)
        if isinstance(await spend(ledger, cost, now_ms, for_ms=took_ms), Reservation):
            billed.append((now_ms + rng.randrange(took_ms + 1), cost))
    assert len(billed) > 60
    for at_ms, _ in billed:
        assert sum(cost for moment, cost in billed if at_ms <= moment < at_ms + HOUR_MS) <= HOUR.cap_usd_micros


async def test_many_at_once_share_what_has_left_and_no_more(ledger: SqlLedger) -> None:
    await spend(ledger, 1_000, 0)
    later_ms = HOUR_MS + STEP_MS
    answers = await asyncio.gather(*(ledger.reserve([HOUR], intent(100, later_ms), FOR_EVER_MS) for _ in range(20)))
    assert sum(isinstance(answer, Reservation) for answer in answers) == 10
    assert await balance(ledger, later_ms) == (0, 1_000)


async def test_what_a_dead_caller_set_aside_leaves_like_the_rest_and_is_put_right_as_long_as_it_counts(
    ledger: SqlLedger,
) -> None:
    late = await ledger.reserve([HOUR], intent(700, 0), 1_000)
    gone = await ledger.reserve([HOUR], intent(300, 0), 1_000)
    assert isinstance(late, Reservation)
    assert isinstance(gone, Reservation)
    await ledger.expire(2_000)
    assert await balance(ledger, 2_000) == (1_000, 0)
    await ledger.settle(late, ended(late, 150, 5_000))
    assert await balance(ledger, 5_000) == (450, 0)
    assert isinstance(await spend(ledger, 1, 2 * HOUR_MS), Reservation), "all of it has left"
    await ledger.settle(gone, ended(gone, 10, 2 * HOUR_MS))
    assert await balance(ledger, 2 * HOUR_MS) == (1, 0), "what has left is not given back again"


# ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def told(database: Database) -> list[Threshold]:
    found = await SqlThresholds(database).claim(FOR_EVER_MS, FOR_EVER_MS + 1, 100)
    return sorted(found, key=lambda one: (one.scope, one.reached_ms, one.share))


async def shares(database: Database) -> list[float]:
    return [one.share for one in await told(database)]


async def test_each_threshold_is_written_down_once(ledger: SqlLedger, database: Database) -> None:
    for n in range(10):
        await spend(ledger, 100, n, DAY)
    found = await told(database)
    assert [(one.share, one.spent_usd_micros, one.reached_ms) for one in found] == [
        (0.5, 500, 4),
        (0.8, 800, 7),
        (1.0, 1_000, 9),
    ]
    assert {(one.name, one.scope, one.cap_usd_micros, one.ends_ms) for one in found} == {
        ("day", DAY.scope, 1_000, 9_000)
    }
    assert len({one.threshold_id for one in found}) == 3
    assert await ledger.told(8_999) == {("day", 0.5): 1, ("day", 0.8): 1, ("day", 1.0): 1}
    assert await ledger.told(9_000) == {}, "the period is over"


async def test_once_whoever_spends_at_the_same_time(ledger: SqlLedger, database: Database) -> None:
    await asyncio.gather(*(spend(ledger, 10, 0, DAY) for _ in range(60)))
    assert await shares(database) == [0.5]


async def test_what_is_only_set_aside_reaches_nothing(ledger: SqlLedger, database: Database) -> None:
    assert isinstance(await ledger.reserve([DAY], intent(1_000, 0), 100), Reservation)
    assert await shares(database) == []
    await ledger.expire(100)
    assert await shares(database) == [0.5, 0.8, 1.0], "its caller died: it counts as spent"


async def test_spending_that_falls_and_rises_again_is_no_news(ledger: SqlLedger, database: Database) -> None:
    late = await ledger.reserve([DAY], intent(600, 0), 100)
    assert isinstance(late, Reservation)
    await ledger.expire(100)
    await ledger.settle(late, ended(late, 10, 200))
    await spend(ledger, 600, 300, DAY)
    assert await shares(database) == [0.5]


async def test_another_period_and_another_key_have_thresholds_of_their_own(
    ledger: SqlLedger, database: Database
) -> None:
    tomorrow = replace(DAY, scope="day|2026-11-25", ends_ms=90_000)
    for account in (DAY, tomorrow):
        await spend(ledger, 500, 0, account)
    assert await shares(database) == [0.5, 0.5]
    assert await ledger.told(0) == {("day", 0.5): 2}


async def test_a_higher_limit_tells_what_was_told_no_second_time(ledger: SqlLedger, database: Database) -> None:
    await spend(ledger, 600, 0, DAY)
    raised = replace(DAY, cap_usd_micros=2_000)
    await spend(ledger, 500, 1, raised)
    await spend(ledger, 500, 2, raised)
    assert await shares(database) == [0.5, 0.8]


async def test_a_total_tells_its_threshold_once_and_for_ever(ledger: SqlLedger, database: Database) -> None:
    account = replace(DAY, scope="lead|total|lead-1", ends_ms=None, warn_at=(0.5,))
    for at_ms in (0, 10**11):
        await spend(ledger, 500, at_ms, account)
    assert isinstance(await spend(ledger, 1, 10**12, account), NoRoom)
    assert [(one.share, one.ends_ms) for one in await told(database)] == [(0.5, None)]
    assert await ledger.told(10**12) == {("day", 0.5): 1}


async def test_a_rolling_account_tells_a_threshold_again_a_window_later(ledger: SqlLedger, database: Database) -> None:
    account = replace(HOUR, warn_at=(0.5,))
    await spend(ledger, 500, 0, account)
    await spend(ledger, 100, HOUR_MS - 1, account)
    assert await ledger.told(HOUR_MS - 1) == {("hour", 0.5): 1}
    assert await ledger.told(HOUR_MS) == {}
    await spend(ledger, 500, HOUR_MS + STEP_MS, account)
    assert [one.reached_ms for one in await told(database)] == [0, HOUR_MS + STEP_MS]


# ── what the console asks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_accounts_in_their_period_are_told_the_fullest_first(ledger: SqlLedger) -> None:
    small = Account("day|2026-11-24|a", "day", 100, 9_000)
    over = Account("day|2026-11-23|a", "day", 100, 500)
    await spend(ledger, 300, 0, DAY)
    await spend(ledger, 90, 0, small)
    await spend(ledger, 99, 0, over)
    await spend(ledger, 200, 0, HOUR)
    await ledger.reserve((HOUR,), intent(100, 10), FOR_EVER_MS)
    told = await ledger.standings(1_000)
    shown = [(one.scope, one.spent_usd_micros, one.reserved_usd_micros, one.ends_ms) for one in told]
    assert shown == [
        (small.scope, 90, 0, 9_000),
        (DAY.scope, 300, 0, 9_000),
        (HOUR.scope, 200, 100, HOUR_MS),
    ]
    assert [one.scope for one in await ledger.standings(1_000, 1)] == [small.scope]
    assert [one.spent_usd_micros for one in await ledger.standings(2 * HOUR_MS)] == [0], "of a rolling one it has left"
