"""Orders that nobody settled: a real app is asked by signed questions, and its word closes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scopegate.clock import ManualClock
from scopegate.leads import lookup
from scopegate.leads.job import Claim, JobFilter, LeadOrder, OrderState
from scopegate.leads.webhook import verify
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import Lookup, Offload
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.outbox import SqlOutbox
from scopegate.worker.deliver import MAX_ANSWER_BYTES, Courier
from scopegate.worker.lookups import Lookups
from tests.worker.app import App, Asked, answer, serving
from tests.worker.house import SECRET, TLS, offload

WORDS = {"projectDescription": "It leaks.", "photos": []}


@dataclass
class Room:
    """`answers` are given in turn, the last one for ever."""

    outbox: SqlOutbox
    jobs: SqlJobs
    clock: ManualClock
    lookups: Lookups
    offload: Offload
    app: App
    answers: list[bytes | None]

    async def order(self, order_id: str = "ord_1", claim: Claim | None = None) -> LeadOrder:
        order = LeadOrder(order_id, "lead-photos", "lead", f"r-{order_id}", self.clock.now_ms(), WORDS, claim)
        await self.outbox.put(order)
        return order

    async def ask(self, after_ms: int = lookup.FIRST_MS) -> None:
        self.clock.advance(after_ms / 1000)
        await self.lookups.ask({"lead-photos": self.offload})

    async def state(self, order_id: str = "ord_1") -> OrderState:
        record = await self.outbox.get(order_id)
        assert record is not None
        return record.state

    @property
    def questions(self) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for asked in self.app.asked]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    answers: list[bytes | None] = [answer(200, b'{"id": "lead-1"}')]

    async def handle(_asked: Asked) -> bytes | None:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    database: Database = await open_database(f"sqlite:///{tmp_path}/scopegate.db")
    clock = ManualClock()
    async with serving(handle) as app:
        url = f"http://{app.authority}/lookup"
        asking = replace(offload(app.authority), lookup=Lookup(url, frozenset({200}), frozenset({404})))
        outbox = SqlOutbox(database)
        lookups = Lookups(outbox, Courier(clock, timeout_s=0.5, tls=TLS), clock)
        yield Room(outbox, SqlJobs(database), clock, lookups, asking, app, answers)
    await database.close()


async def test_an_order_whose_lead_is_there_becomes_its_job(room: Room) -> None:
    await room.order()
    await room.ask(lookup.FIRST_MS - 1)
    assert room.app.asked == [], "a young one may still be answered"
    await room.ask(1)
    assert await room.state() is OrderState.ACCEPTED
    (job,) = await room.jobs.list(JobFilter())
    assert (job.lead.lead_id, job.lead.text, job.request_id) == ("lead-1", "It leaks.", "r-ord_1")
    await room.ask(10**6)
    assert len(room.app.asked) == 1


async def test_the_question_is_signed_and_says_what_is_meant(room: Room) -> None:
    await room.order()
    await room.ask()
    (asked,) = room.app.asked
    assert (asked.method, asked.target) == ("POST", "/lookup")
    assert verify(SECRET, dict(asked.fields), asked.body, room.clock.now_ms() / 1000) is None
    (question,) = room.questions
    assert question["type"] == "lead.lookup"
    assert question["data"]["order_id"] == "ord_1"
    assert question["data"]["request"] == WORDS


async def test_a_lead_that_is_not_there_is_dropped_once_it_cannot_come_any_more(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.answers[:] = [answer(404)]
    await room.order()
    await room.ask()
    assert await room.state() is OrderState.PENDING
    before = metrics.ORDER_LOOKUPS.labels("lead-photos", "absent")._value.get()
    await room.ask(lookup.ABSENT_MS - lookup.FIRST_MS)
    assert await room.state() is OrderState.REFUSED
    assert metrics.ORDER_LOOKUPS.labels("lead-photos", "absent")._value.get() == before + 1
    assert [vars(line).get("outcome") or str(vars(line)) for line in caplog.records if line.levelname == "ERROR"]
    assert await room.jobs.list(JobFilter()) == []


@pytest.mark.parametrize(
    "said",
    [
        answer(500),
        answer(401),
        answer(301, location="http://127.0.0.1:9/"),
        None,
        answer(200, b"x" * (MAX_ANSWER_BYTES + 1)),
        b"nonsense\r\n\r\n",
    ],
    ids=["500", "401", "redirect", "hangs-up", "huge", "nonsense"],
)
async def test_an_app_that_says_nothing_useful_is_asked_so_often_and_no_more(room: Room, said: bytes | None) -> None:
    room.answers[:] = [said]
    await room.order()
    for _ in range(lookup.MAX_ASKED + 3):
        await room.ask(600_000)
    assert len(room.app.asked) == lookup.MAX_ASKED
    assert await room.state() is OrderState.PENDING
    assert len({asked.get("webhook-id") for asked in room.app.asked}) == lookup.MAX_ASKED


async def test_an_app_that_hangs_is_left_after_its_time(room: Room) -> None:
    async def hang(_asked: Asked) -> bytes | None:
        await asyncio.sleep(5)
        return None

    room.app.handler = hang
    await room.order()
    await room.ask()
    assert await room.state() is OrderState.PENDING


async def test_an_answer_that_cannot_be_read_waits_for_a_person(room: Room) -> None:
    room.answers[:] = [answer(200, b"<p>yes</p>")]
    await room.order()
    await room.ask()
    assert await room.state() is OrderState.UNREADABLE


async def test_a_repeat_gets_what_the_app_said(room: Room) -> None:
    claim = Claim("c", "b", room.clock.now_ms() + 10**7)
    order = await room.order(claim=claim)
    await room.ask()
    earlier = await room.outbox.put(replace(order, order_id="ord_2"))
    assert earlier is not None
    assert earlier.answer is not None
    assert (earlier.answer.status, earlier.answer.body) == (200, b'{"id": "lead-1"}')


async def test_orders_of_other_offloads_are_left_alone(room: Room) -> None:
    await room.order()
    room.offload = replace(room.offload, lookup=None)
    await room.ask()
    assert room.app.asked == []


async def test_it_asks_until_it_is_stopped(room: Room) -> None:
    await room.order()
    room.clock.advance(lookup.FIRST_MS / 1000)
    stop = asyncio.Event()
    serving_ = asyncio.create_task(room.lookups.serve(stop, lambda: {"lead-photos": room.offload}))
    async with asyncio.timeout(5):
        while not room.app.asked:
            await asyncio.sleep(0.01)
        stop.set()
        await serving_
