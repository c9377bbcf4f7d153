"""The Outbox port, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from scopegate.leads import lookup
from scopegate.leads.job import (
    Claim,
    Earlier,
    JobFilter,
    JobState,
    KeptAnswer,
    LeadOrder,
    OrderState,
    StepState,
    Unreadable,
)
from scopegate.limits.steps import StepName
from scopegate.stores.database import Database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.schema import orders
from tests.stores.orders import HOSTILE, lead, order


@pytest.fixture
def outbox(database: Database) -> SqlOutbox:
    return SqlOutbox(database)


async def row_of(database: Database, order_id: str) -> Any:
    return await database.read(lambda conn: conn.execute(select(orders).where(orders.c.order_id == order_id)).one())


async def counts(outbox: SqlOutbox) -> dict[str, int]:
    return {state.value: await outbox.count(state) for state in OrderState}


async def test_an_order_is_there_when_put_returns_and_only_once(outbox: SqlOutbox, database: Database) -> None:
    await outbox.put(order())
    await outbox.put(order())
    assert await counts(outbox) == {"pending": 1, "accepted": 0, "refused": 0, "unknown": 0, "unreadable": 0}
    row = await row_of(database, "order-1")
    assert row.request == {"text": HOSTILE, "n": 1}
    assert (row.offload, row.route, row.request_id, row.received_ms) == ("photos", "submit-lead", "req-1", 1_000)


async def test_an_accepted_lead_becomes_a_queued_job_with_every_step(outbox: SqlOutbox, database: Database) -> None:
    await outbox.put(order())
    job = await outbox.settle(order(), OrderState.ACCEPTED, 201, lead())
    assert job is not None
    assert (job.state, job.offload, job.request_id, job.created_ms, job.due_ms) == (
        JobState.QUEUED,
        "photos",
        "req-1",
        1_000,
        1_000,
    )
    assert job.lead == lead()
    assert [(step.name, step.state) for step in job.steps] == [(name, StepState.WAITING) for name in StepName]
    assert await SqlJobs(database).get(job.job_id) == job
    row = await row_of(database, "order-1")
    assert (row.state, row.status, row.job_id, row.lead_id, row.request) == (
        "accepted",
        201,
        job.job_id,
        "lead-1",
        None,
    )


async def test_an_order_that_was_never_put_can_be_settled(outbox: SqlOutbox) -> None:
    assert await outbox.settle(order(), OrderState.ACCEPTED, 201, lead()) is not None
    assert await outbox.settle(order(2), OrderState.REFUSED, 422, None) is None
    assert await counts(outbox) == {"pending": 0, "accepted": 1, "refused": 1, "unknown": 0, "unreadable": 0}


async def test_a_refused_order_makes_no_job_and_forgets_the_request(outbox: SqlOutbox, database: Database) -> None:
    await outbox.put(order())
    assert await outbox.settle(order(), OrderState.REFUSED, 422, lead()) is None
    row = await row_of(database, "order-1")
    assert (row.state, row.status, row.request, row.job_id) == ("refused", 422, None, None)
    assert await SqlJobs(database).list(JobFilter()) == []


async def test_an_accepted_lead_that_cannot_be_read_keeps_its_request(outbox: SqlOutbox, database: Database) -> None:
    assert await outbox.settle(order(), OrderState.ACCEPTED, 201, None) is None
    assert (await row_of(database, "order-1")).request == {"text": HOSTILE, "n": 1}


async def test_the_same_lead_settled_a_hundred_times_at_once_is_one_job(outbox: SqlOutbox, database: Database) -> None:
    settled = await asyncio.gather(
        *(outbox.settle(order(n), OrderState.ACCEPTED, 201, lead("lead-x")) for n in range(100))
    )
    assert len({job.job_id for job in settled if job is not None}) == 1
    assert None not in settled
    assert len(await SqlJobs(database).list(JobFilter(limit=1000))) == 1
    assert await outbox.count(OrderState.ACCEPTED) == 100


async def test_the_same_lead_id_under_two_offloads_is_two_jobs(outbox: SqlOutbox) -> None:
    first = await outbox.settle(order(1), OrderState.ACCEPTED, 201, lead())
    other = await outbox.settle(order(2, offload="texts"), OrderState.ACCEPTED, 201, lead())
    assert first is not None
    assert other is not None
    assert first.job_id != other.job_id


async def test_lead_ids_that_an_engine_cannot_store_stay_apart(outbox: SqlOutbox, database: Database) -> None:
    strange = ["a\x00", "a", "a\ufffd", "a\ud800", "\ufffe", "\ufffea", "A", "ä", ""]
    jobs = [await outbox.settle(order(n), OrderState.ACCEPTED, 201, lead(lead_id)) for n, lead_id in enumerate(strange)]
    assert len({job.job_id for job in jobs if job}) == len(strange)
    for lead_id in strange:
        found = await SqlJobs(database).list(JobFilter(lead_id=lead_id))
        assert [job.lead.lead_id for job in found] == [lead_id]


async def test_old_pending_orders_become_unknown(outbox: SqlOutbox) -> None:
    await outbox.put(order(1, received_ms=1_000))
    await outbox.put(order(2, received_ms=2_000))
    await outbox.settle(order(3, received_ms=500), OrderState.REFUSED, 400, None)
    assert await outbox.overdue(2_000) == 1
    assert await outbox.overdue(2_000) == 0
    assert await counts(outbox) == {"pending": 1, "accepted": 0, "refused": 1, "unknown": 1, "unreadable": 0}


async def test_open_orders_are_those_without_a_job_that_were_not_refused(outbox: SqlOutbox) -> None:
    await outbox.put(order(1, received_ms=1_000))
    await outbox.put(order(2, received_ms=5_000))
    await outbox.settle(order(3, received_ms=2_000), OrderState.REFUSED, 400, None)
    await outbox.settle(order(4, received_ms=3_000), OrderState.ACCEPTED, 201, lead())
    await outbox.settle(order(5, received_ms=4_000), OrderState.ACCEPTED, 200, None)
    await outbox.overdue(2_000)
    found = [(o.order_id, o.state, o.status) for o in await outbox.open(10)]
    assert found == [("order-2", "pending", None), ("order-5", "accepted", 200), ("order-1", "unknown", None)]
    assert [o.order_id for o in await outbox.open(1)] == ["order-2"]


async def test_an_accepted_order_without_a_lead_can_be_given_one(outbox: SqlOutbox) -> None:
    await outbox.put(order())
    await outbox.settle(order(), OrderState.ACCEPTED, 201, None)
    held = await outbox.get("order-1")
    assert held is not None
    assert (held.order, held.state, held.status, held.job_id) == (order(), OrderState.ACCEPTED, 201, None)
    job = await outbox.settle(held.order, OrderState.ACCEPTED, held.status, lead())
    await outbox.settle(held.order, OrderState.ACCEPTED, 200, lead("another"))
    given = await outbox.get("order-1")
    assert job is not None
    assert given is not None
    assert (given.order.request, given.status, given.job_id) == (None, 201, job.job_id)
    assert await outbox.get("order-2") is None


async def test_an_unknown_order_can_be_accepted_or_refused(outbox: SqlOutbox) -> None:
    for n in (1, 2):
        await outbox.put(order(n))
    await outbox.overdue(2_000)
    assert await outbox.settle(order(1), OrderState.ACCEPTED, None, lead()) is not None
    await outbox.settle(order(2), OrderState.REFUSED, None, None)
    assert await counts(outbox) == {"pending": 0, "accepted": 1, "refused": 1, "unknown": 0, "unreadable": 0}


async def test_a_request_that_could_not_be_read_is_kept_as_it_came(outbox: SqlOutbox) -> None:
    kept = Unreadable("it is not JSON in UTF-8", b'\xff\x00!{"text"')
    await outbox.put(replace(order(), request=kept))
    await outbox.settle(replace(order(), request=kept), OrderState.UNREADABLE, 201, None)
    held = await outbox.get("order-1")
    assert held is not None
    assert (held.state, held.order.request, held.job_id) == (OrderState.UNREADABLE, kept, None)
    assert [one.state for one in await outbox.open(5)] == [OrderState.UNREADABLE]
    assert await outbox.settle(held.order, OrderState.ACCEPTED, 201, lead()) is not None
    assert await outbox.open(5) == []


STRENGTH = [
    OrderState.PENDING,
    OrderState.UNKNOWN,
    OrderState.UNREADABLE,
    OrderState.REFUSED,
    OrderState.ACCEPTED,
]


@pytest.mark.parametrize(("first", "second"), [*itertools.product(STRENGTH[1:], repeat=2)])
async def test_a_settlement_is_only_replaced_by_a_stronger_one(
    outbox: SqlOutbox, first: OrderState, second: OrderState
) -> None:
    await outbox.put(order())
    await outbox.settle(order(), first, None, lead())
    await outbox.settle(order(), second, None, lead())
    await outbox.put(order())
    expected = max(first, second, key=STRENGTH.index)
    assert await outbox.count(expected) == 1
    assert sum((await counts(outbox)).values()) == 1


async def test_two_that_confirm_one_order_at_once_make_one_job(outbox: SqlOutbox, database: Database) -> None:
    """Also when they say different leads: the first is right."""
    await outbox.put(order())
    await outbox.overdue(9_000)
    made = await asyncio.gather(
        *(outbox.settle(order(), OrderState.ACCEPTED, None, lead(f"lead-{n}")) for n in range(10))
    )
    assert len({job.job_id for job in made if job is not None}) == 1
    assert len(await SqlJobs(database).list(JobFilter())) == 1


# ── repeats ─────────────────────────────────────────────────────────────────────────────────────────────────────────
CLAIM = Claim("claim-1", "body-1", until_ms=60_000)
ANSWER = KeptAnswer(201, b"content-type: application/json\r\n", b'{"id": "\x00\xff"}')


def claiming(n: int, received_ms: int = 1_000, claim: Claim = CLAIM) -> LeadOrder:
    return replace(order(n, received_ms), claim=claim)


async def test_a_claim_is_held_by_the_first_order_alone(outbox: SqlOutbox) -> None:
    assert await outbox.put(claiming(1)) is None
    assert await outbox.put(claiming(1)) is None, "the same order again is no repeat of itself"
    other = replace(CLAIM, body="body-2")
    assert await outbox.put(claiming(2, claim=other)) == Earlier("order-1", OrderState.PENDING, CLAIM, None)
    assert (await counts(outbox))["pending"] == 1


async def test_of_a_hundred_at_once_one_gets_the_claim(outbox: SqlOutbox) -> None:
    placed = await asyncio.gather(*(outbox.put(claiming(n)) for n in range(100)))
    assert placed.count(None) == 1
    assert len({earlier.order_id for earlier in placed if earlier is not None}) == 1
    assert (await counts(outbox))["pending"] == 1


@pytest.mark.parametrize("state", [OrderState.ACCEPTED, OrderState.UNREADABLE])
async def test_a_repeat_is_given_the_first_answer(outbox: SqlOutbox, state: OrderState) -> None:
    await outbox.put(claiming(1))
    await outbox.settle(claiming(1), state, 201, lead() if state is OrderState.ACCEPTED else None, ANSWER)
    assert await outbox.put(claiming(2)) == Earlier("order-1", state, CLAIM, ANSWER)


async def test_a_refused_order_lets_go_of_its_claim(outbox: SqlOutbox) -> None:
    await outbox.put(claiming(1))
    await outbox.settle(claiming(1), OrderState.REFUSED, 422, None, ANSWER)
    assert await outbox.put(claiming(2)) is None
    assert await outbox.put(claiming(3)) == Earlier("order-2", OrderState.PENDING, CLAIM, None)


async def test_an_order_of_unknown_fate_keeps_its_claim(outbox: SqlOutbox) -> None:
    await outbox.put(claiming(1))
    await outbox.overdue(2_000)
    assert await outbox.put(claiming(2, 3_000)) == Earlier("order-1", OrderState.UNKNOWN, CLAIM, None)


async def test_a_claim_ends_with_its_time(outbox: SqlOutbox) -> None:
    await outbox.put(claiming(1))
    await outbox.settle(claiming(1), OrderState.ACCEPTED, 201, lead(), ANSWER)
    assert await outbox.put(claiming(2, 59_999)) is not None
    assert await outbox.put(claiming(2, 60_000, replace(CLAIM, until_ms=120_000))) is None
    again = await outbox.put(claiming(3, 60_001))
    assert again is not None
    assert (again.order_id, again.answer) == ("order-2", None)


async def test_an_order_that_was_never_put_claims_nothing(outbox: SqlOutbox) -> None:
    await outbox.put(claiming(1))
    assert await outbox.settle(claiming(2), OrderState.ACCEPTED, 201, lead(), ANSWER) is not None
    assert await outbox.put(claiming(3)) == Earlier("order-1", OrderState.PENDING, CLAIM, None)


async def test_answers_are_forgotten_when_their_time_is_over_and_when_they_are_too_many(outbox: SqlOutbox) -> None:
    claims = [Claim(f"claim-{n}", "b", until_ms=60_000 + n) for n in range(6)]
    for n, claim in enumerate(claims):
        await outbox.put(claiming(n, claim=claim))
        await outbox.settle(claiming(n, claim=claim), OrderState.ACCEPTED, 201, lead(f"lead-{n}"), ANSWER)

    async def answered() -> list[bool]:
        repeats = [await outbox.put(claiming(9, 2_000, claim)) for claim in claims]
        return [repeat is not None and repeat.answer is not None for repeat in repeats]

    assert await outbox.forget(59_999, most=10) == 0
    assert await outbox.forget(60_001, most=10) == 2
    assert await answered() == [False, False, True, True, True, True]
    assert await outbox.forget(60_001, most=3) == 1
    assert await answered() == [False, False, False, True, True, True]


# ── look-ups ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_unsettled_orders_are_asked_about_in_turn(outbox: SqlOutbox) -> None:
    for n in range(3):
        await outbox.put(claiming(n, 1_000 + n, Claim(f"claim-{n}", "b", 9)))
    await outbox.settle(order(4), OrderState.ACCEPTED, 201, lead())
    await outbox.put(order(5, offload="texts"))
    first_ms = 1_001 + lookup.FIRST_MS
    assert await outbox.ask(["photos"], 1_000 + lookup.FIRST_MS - 1, 10) == ()
    assert await outbox.ask([], first_ms, 10) == ()
    asked = await outbox.ask(["photos", "x"], first_ms, 1)
    assert [(one.order, one.asked) for one in asked] == [(claiming(0, 1_000, Claim("claim-0", "b", 9)), 1)]
    assert [one.order.order_id for one in await outbox.ask(["photos"], first_ms, 10)] == ["order-1"]
    assert [one.order.order_id for one in await outbox.ask(["photos"], first_ms + 1, 10)] == ["order-2"]
    again = await outbox.ask(["photos"], first_ms + lookup.pause_ms(1), 10)
    assert [(one.order.order_id, one.asked) for one in again] == [("order-0", 2), ("order-1", 2)]


async def test_two_workers_never_ask_the_same(outbox: SqlOutbox) -> None:
    for n in range(20):
        await outbox.put(order(n))
    now_ms = 1_000 + lookup.FIRST_MS
    asked = await asyncio.gather(*(outbox.ask(["photos"], now_ms, 3) for _ in range(8)))
    ids = [record.order.order_id for records in asked for record in records]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 3


async def test_questions_are_bounded(outbox: SqlOutbox) -> None:
    await outbox.put(order())
    now_ms = 1_000 + lookup.FIRST_MS
    for n in range(1, lookup.MAX_ASKED + 1):
        assert [record.asked for record in await outbox.ask(["photos"], now_ms, 10)] == [n]
        now_ms += lookup.pause_ms(n)
    assert await outbox.ask(["photos"], now_ms + 10**9, 10) == ()
    assert await outbox.count(OrderState.PENDING) == 1
