"""The Ledger port, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from scopegate.leads.job import RECONCILED, SENT, UNKNOWN, CallRecord
from scopegate.limits.budget import Account, NoRoom, Reservation
from scopegate.metrics.catalogue import AI_CALLS
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from tests.stores.orders import HOSTILE, booked, call, intent

DAY = Account("day|2026-11-24", "day", 1_000, 9_000)
NOW_MS = 1_000
MONTH = Account("month|2026-11", "month", 100_000, 90_000)


@pytest.fixture
def ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


async def reserve(
    ledger: SqlLedger, amount: int, *accounts: Account, now_ms: int = 0, expires_ms: int = 100
) -> Reservation:
    reservation = await ledger.reserve(accounts or (DAY,), intent(amount, now_ms), expires_ms)
    assert isinstance(reservation, Reservation)
    return reservation


def ended(reservation: Reservation, cost_usd_micros: int) -> CallRecord:
    return call(reservation.call_id, cost_usd_micros)


async def balance(ledger: SqlLedger, account: Account = DAY) -> tuple[int, int]:
    return (await ledger.accounts([account.scope], NOW_MS))[account.scope]


async def test_unknown_accounts_are_empty(ledger: SqlLedger) -> None:
    assert await ledger.accounts(["nowhere"], NOW_MS) == {"nowhere": (0, 0)}
    assert await ledger.accounts([], NOW_MS) == {}


async def test_a_reservation_is_set_aside_then_replaced_by_the_real_cost(ledger: SqlLedger) -> None:
    reservation = await reserve(ledger, 400, DAY, MONTH)
    assert (await balance(ledger), await balance(ledger, MONTH)) == ((0, 400), (0, 400))
    await ledger.settle(reservation, ended(reservation, 150))
    assert (await balance(ledger), await balance(ledger, MONTH)) == ((150, 0), (150, 0))


async def test_exactly_what_fits_is_granted(ledger: SqlLedger) -> None:
    await reserve(ledger, 999)
    assert await ledger.reserve([DAY], intent(2, 0), 100) == NoRoom(DAY, is_spent=False)
    await reserve(ledger, 1)
    assert await ledger.reserve([DAY], intent(1, 0), 100) == NoRoom(DAY, is_spent=False)
    await reserve(ledger, 0)
    assert await balance(ledger) == (0, 1_000)


async def test_more_than_the_cap_never_fits(ledger: SqlLedger) -> None:
    assert await ledger.reserve([DAY], intent(1_001, 0), 100) == NoRoom(DAY, is_spent=True)
    assert await balance(ledger) == (0, 0)


async def test_one_full_account_leaves_the_others_untouched(ledger: SqlLedger) -> None:
    await reserve(ledger, 1_000)
    first = Account("aaa", "a", 5_000, 9_000)
    assert await ledger.reserve([MONTH, DAY, first], intent(1, 0), 100) == NoRoom(DAY, is_spent=False)
    assert (await balance(ledger, MONTH), await balance(ledger, first)) == ((0, 0), (0, 0))


async def test_the_cap_is_the_policys_of_today(ledger: SqlLedger) -> None:
    await reserve(ledger, 600)
    assert await ledger.reserve([replace(DAY, cap_usd_micros=700)], intent(200, 0), 100) == NoRoom(
        replace(DAY, cap_usd_micros=700), is_spent=False
    )
    await reserve(ledger, 1_000, replace(DAY, cap_usd_micros=2_000))
    assert await balance(ledger) == (0, 1_600)


async def test_many_at_once_get_exactly_what_there_is(ledger: SqlLedger) -> None:
    """No more at once than a slow engine serves before its patience ends; the money runs out amid the second wave."""
    waves = [
        await asyncio.gather(*(ledger.reserve([MONTH, DAY], intent(10, 0), 100) for _ in range(75))) for _ in range(4)
    ]
    granted = [isinstance(answer, Reservation) for wave in waves for answer in wave]
    assert (len(granted), sum(granted)) == (300, 100)
    assert (await balance(ledger), await balance(ledger, MONTH)) == ((0, 1_000), (0, 1_000))


async def test_accounts_taken_in_any_order_do_not_block_each_other(ledger: SqlLedger) -> None:
    many = [Account(f"account-{n}", "a", 10_000_000, 9_000) for n in range(6)]
    rng = random.Random(7)

    async def spend(n: int) -> None:
        mine = rng.sample(many, 4)
        reservation = await reserve(ledger, 10, *mine, now_ms=n, expires_ms=n + 20)
        await ledger.settle(reservation, ended(reservation, 3))

    for wave in (range(60), range(60, 120)):
        await asyncio.gather(*map(spend, wave))
    totals = await ledger.accounts([account.scope for account in many], NOW_MS)
    assert sum(spent for spent, _ in totals.values()) == 120 * 4 * 3
    assert {reserved for _, reserved in totals.values()} == {0}


async def test_the_same_call_settled_again_is_no_change(ledger: SqlLedger) -> None:
    reservation = await reserve(ledger, 400)
    await asyncio.gather(*(ledger.settle(reservation, ended(reservation, 150)) for _ in range(10)))
    await ledger.settle(reservation, ended(reservation, 150))
    assert await balance(ledger) == (150, 0)
    assert len(await ledger.calls()) == 1


async def test_an_abandoned_reservation_counts_as_spent(ledger: SqlLedger) -> None:
    await reserve(ledger, 700, expires_ms=100)
    assert await ledger.reserve([DAY], intent(400, 99), 200) == NoRoom(DAY, is_spent=False)
    assert await balance(ledger) == (0, 700)
    assert await ledger.reserve([DAY], intent(400, 100), 200) == NoRoom(DAY, is_spent=True)
    assert await balance(ledger) == (700, 0)
    await reserve(ledger, 300, now_ms=101, expires_ms=200)
    assert await balance(ledger) == (700, 300)


async def test_a_late_settlement_replaces_what_expiry_booked(ledger: SqlLedger) -> None:
    late = await reserve(ledger, 700, expires_ms=100)
    await reserve(ledger, 1, now_ms=200, expires_ms=300)
    assert await balance(ledger) == (700, 1)
    for _ in range(2):
        await ledger.settle(late, ended(late, 150))
        assert await balance(ledger) == (150, 1)


async def test_expiry_and_settlement_at_once_never_book_twice(ledger: SqlLedger) -> None:
    held = [await reserve(ledger, 10, expires_ms=100) for _ in range(40)]
    await asyncio.gather(
        *(ledger.settle(reservation, ended(reservation, 4)) for reservation in held),
        *(ledger.reserve([DAY], intent(0, 200), 300) for _ in held),
    )
    assert await balance(ledger) == (160, 0)


async def test_a_call_that_cost_more_than_reserved_is_booked_as_it_was(ledger: SqlLedger) -> None:
    reservation = await reserve(ledger, 1_000)
    await ledger.settle(reservation, ended(reservation, 1_200))
    assert await balance(ledger) == (1_200, 0)
    assert await ledger.reserve([DAY], intent(0, 0), 100) == NoRoom(DAY, is_spent=True)


async def test_a_call_is_a_row_before_it_is_sent(ledger: SqlLedger) -> None:
    sent = intent(400)
    reservation = await ledger.reserve([DAY], sent, 100)
    assert isinstance(reservation, Reservation)
    assert await ledger.calls() == [sent]
    assert await ledger.spend_by("day", "2026-11-01") == [], "in flight is not spent"
    await ledger.settle(reservation, ended(reservation, 150))
    assert await ledger.calls() == [ended(reservation, 150)]


async def test_where_there_is_no_room_nothing_is_booked(ledger: SqlLedger) -> None:
    assert await ledger.reserve([DAY], intent(1_001), 100) == NoRoom(DAY, is_spent=True)
    assert await ledger.calls() == []


async def test_a_call_whose_caller_died_is_unknown_until_it_is_settled_after_all(ledger: SqlLedger) -> None:
    lost = await reserve(ledger, 700, expires_ms=100)
    ours = await reserve(ledger, 10, expires_ms=300)
    assert await ledger.expire(99) == 0
    assert await ledger.expire(100) == 1
    assert await ledger.expire(100) == 0
    assert {one.call_id: one.outcome for one in await ledger.calls()} == {lost.call_id: UNKNOWN, ours.call_id: SENT}
    [row] = await ledger.spend_by("day", "2026-11-01")
    assert (row["calls"], row["failed"], row["unknown"], row["unknown_usd_micros"]) == (1, 0, 1, 700)
    assert row["cost_usd_micros"] == 700
    await ledger.settle(lost, ended(lost, 150))
    [row] = await ledger.spend_by("day", "2026-11-01")
    assert (row["unknown"], row["unknown_usd_micros"], row["cost_usd_micros"]) == (0, 0, 150)
    assert await balance(ledger) == (150, 10)


async def test_what_is_unknown_is_counted_and_told(ledger: SqlLedger, caplog: pytest.LogCaptureFixture) -> None:
    before = AI_CALLS.labels("claude-haiku-5-5", "scope", UNKNOWN)._value.get()
    lost = await reserve(ledger, 700, expires_ms=100)
    await ledger.expire(100)
    assert AI_CALLS.labels("claude-haiku-5-5", "scope", UNKNOWN)._value.get() == before + 1
    [line] = [record for record in caplog.records if record.msg == "ai.call_unknown"]
    assert vars(line)["scopegate_fields"]["call_id"] == lost.call_id


@pytest.mark.parametrize("expired", [False, True])
async def test_a_call_that_was_not_sent_leaves_nothing(ledger: SqlLedger, expired: bool) -> None:
    reservation = await reserve(ledger, 700, expires_ms=100)
    if expired:
        assert await ledger.expire(100) == 1
    await ledger.withdraw(reservation)
    await ledger.withdraw(reservation)
    assert await ledger.calls() == []
    assert await balance(ledger) == (0, 0)


async def test_what_has_ended_cannot_be_withdrawn(ledger: SqlLedger) -> None:
    reservation = await reserve(ledger, 700)
    await ledger.settle(reservation, ended(reservation, 150))
    await ledger.withdraw(reservation)
    assert await ledger.calls() == [ended(reservation, 150)]
    assert await balance(ledger) == (150, 0)


async def test_a_call_whose_row_is_gone_is_booked_all_the_same(ledger: SqlLedger) -> None:
    reservation = await reserve(ledger, 400)
    await ledger.withdraw(reservation)
    await ledger.settle(reservation, ended(reservation, 150))
    assert await balance(ledger) == (150, 0)
    assert await ledger.calls() == [ended(reservation, 150)]


async def test_without_budgets_a_call_is_booked(ledger: SqlLedger) -> None:
    reservation = await ledger.reserve([], intent(700), 100)
    assert isinstance(reservation, Reservation)
    await ledger.settle(reservation, ended(reservation, 150))
    assert await ledger.calls() == [ended(reservation, 150)]


async def test_calls_come_back_as_booked_oldest_first(ledger: SqlLedger) -> None:
    late = call("c1", started_ms=3_000, job_id="job-2", lead_id=HOSTILE, model=HOSTILE, outcome="timeout", status=None)
    early = call("c2", started_ms=2_000, contractor=None, api_request_id=None)
    orphan = call("c3", started_ms=1_000, job_id=None, lead_id=None)
    for record in (late, early, orphan):
        await booked(ledger, record)
    assert await ledger.calls() == [orphan, early, late]
    assert await ledger.calls(limit=2) == [orphan, early]
    assert await ledger.calls(job_id="job-2") == [late]
    assert await ledger.calls(lead_id=HOSTILE) == [late]
    assert await ledger.calls(job_id="job-2", lead_id="lead-1") == []


CALLS = (
    call("c1", 100, day="2026-11-23", contractor="b", lead_id="l1", model="m2", step="scope", offload="roof"),
    call(
        "c2",
        20,
        day="2026-11-24",
        contractor="a",
        lead_id="l1",
        model="m1",
        step="scope",
        outcome="timeout",
        offload="wall",
    ),
    call("c3", 3, day="2026-11-24", contractor=None, lead_id=None, model="m1", step="estimate", offload="wall"),
)


@pytest.mark.parametrize(
    ("by", "costs"),
    [
        ("day", [("2026-11-23", 100), ("2026-11-24", 23)]),
        ("model", [("m1", 23), ("m2", 100)]),
        ("step", [("estimate", 3), ("scope", 120)]),
        ("lead", [("l1", 120), (None, 3)]),
        ("contractor", [("a", 20), ("b", 100), (None, 3)]),
        ("offload", [("roof", 100), ("wall", 23)]),
    ],
)
async def test_sums_by_every_grouping(ledger: SqlLedger, by: str, costs: list[tuple[str | None, int]]) -> None:
    for record in CALLS:
        await booked(ledger, record)
    rows = await ledger.spend_by(by, "2026-11-01")
    assert [(row["key"], row["cost_usd_micros"]) for row in rows] == costs


async def test_a_sum_has_every_column_as_whole_numbers(ledger: SqlLedger) -> None:
    for record in CALLS:
        await booked(ledger, record)
    [row] = await ledger.spend_by("day", "2026-11-24")
    assert row == {
        "key": "2026-11-24",
        "calls": 2,
        "failed": 1,
        "unknown": 0,
        "unknown_usd_micros": 0,
        "input_tokens": 20,
        "output_tokens": 10,
        "cache_read_tokens": 4,
        "cache_write_tokens": 2,
        "cost_usd_micros": 23,
        "saved_usd_micros": 0,
    }
    assert {type(value) for key, value in row.items() if key != "key"} == {int}
    assert await ledger.spend_by("day", "2026-11-25") == []


async def test_a_grouping_that_does_not_exist_is_refused(ledger: SqlLedger) -> None:
    with pytest.raises(ValueError, match="day, model, step, lead, contractor, offload"):
        await ledger.spend_by("day; DROP TABLE calls", "2026-11-01")


async def test_spending_since_several_moments(ledger: SqlLedger) -> None:
    assert await ledger.spent_since([0, 5]) == ([0, 0], None)
    for n, started_ms in enumerate((1_000, 2_000, 3_000)):
        await booked(ledger, call(f"c{n}", 10**n, started_ms=started_ms))
    await reserve(ledger, 700, now_ms=2_500, expires_ms=100_000)
    assert await ledger.spent_since([2_001, 0, 1_000, 2_000, 9_000]) == ([100, 111, 111, 110, 0], 1_000)


async def test_behind_an_estimate_the_reservation_stays(ledger: SqlLedger) -> None:
    """It knows which accounts the money was taken from; nobody can take it back twice."""
    reservation = await reserve(ledger, 700, DAY, MONTH)
    guess = replace(ended(reservation, 700), outcome="timeout", input_tokens=0, output_tokens=0)
    guess = replace(guess, cache_read_tokens=0, cache_write_tokens=0)
    for _ in range(2):
        await ledger.settle(reservation, guess)
        await ledger.withdraw(reservation)
        assert await ledger.expire(10_000_000) == 0
    assert (await balance(ledger), await balance(ledger, MONTH)) == ((700, 0), (700, 0))
    assert await ledger.calls() == [guess]


async def test_calls_of_a_time_come_oldest_first(ledger: SqlLedger) -> None:
    for n, started_ms in enumerate((3_000, 1_000, 2_000)):
        await booked(ledger, call(f"c{n}", started_ms=started_ms))
    assert [one.call_id for one in await ledger.calls_between(1_000, 3_000)] == ["c1", "c2"]


async def test_a_correction_replaces_what_was_booked_everywhere_and_once(ledger: SqlLedger) -> None:
    lost = await reserve(ledger, 700, DAY, MONTH, expires_ms=100)
    await reserve(ledger, 20, DAY, expires_ms=10_000)
    await ledger.expire(100)
    [before] = [one for one in await ledger.calls() if one.call_id == lost.call_id]
    after = replace(before, outcome=RECONCILED, cost_usd_micros=85)
    made = await asyncio.gather(*(ledger.correct([(before, after)], 200) for _ in range(5)))
    assert sorted(made) == [0, 0, 0, 0, 1]
    assert (await balance(ledger), await balance(ledger, MONTH)) == ((85, 20), (85, 0))
    assert [one for one in await ledger.calls() if one.call_id == lost.call_id] == [after]
    await ledger.settle(lost, ended(lost, 150))
    assert await balance(ledger) == (85, 20), "its end is booked"


async def test_what_was_settled_meanwhile_is_left_alone(ledger: SqlLedger) -> None:
    lost = await reserve(ledger, 700, expires_ms=100)
    await ledger.expire(100)
    [before] = await ledger.calls()
    await ledger.settle(lost, ended(lost, 150))
    assert await ledger.correct([(before, replace(before, cost_usd_micros=85))], 200) == 0
    assert await balance(ledger) == (150, 0)


# ── what the console asks ───────────────────────────────────────────────────────────────────────────────────────────


async def test_jobs_have_their_costs_and_the_dearest_are_told_alone(ledger: SqlLedger) -> None:
    for n, cost in enumerate((5, 700, 30)):
        sent = replace(intent(cost, 1_000), job_id=f"job-{n % 2}", contractor=f"c-{n}")
        reserved = await ledger.reserve((), sent, 10**9)
        assert isinstance(reserved, Reservation)
        await ledger.settle(reserved, replace(sent, outcome="ok", input_tokens=1))
    await ledger.reserve((), replace(intent(9, 1_000), job_id="job-0"), 10**9)
    assert await ledger.cost_of(["job-0", "job-1", "job-2"]) == {"job-0": 35, "job-1": 700, "job-2": 0}
    rows = await ledger.spend_by("contractor", "1970-01-01", 2)
    assert [row["key"] for row in rows] == ["c-1", "c-2"]
