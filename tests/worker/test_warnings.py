"""A reached threshold is told once: a log line and, where the policy says whom, a signed webhook."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from scopegate.clock import ManualClock
from scopegate.leads.webhook import verify
from scopegate.limits.budget import Account, Reservation
from scopegate.policy.policy import Deliver
from scopegate.stores.database import Database, open_database
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.thresholds import SqlThresholds
from scopegate.worker.deliver import Courier
from scopegate.worker.warnings import LOOK_S, Warnings
from tests.stores.orders import call, intent
from tests.worker.app import App, Asked, answer, serving
from tests.worker.house import SECRET, TLS


@dataclass
class Desk:
    database: Database
    clock: ManualClock = field(default_factory=ManualClock)
    to: Deliver | None = None

    def warnings(self) -> Warnings:
        courier = Courier(self.clock, tls=TLS)
        return Warnings(SqlThresholds(self.database), courier, lambda: self.to, self.clock)

    async def spend(self, cost: int, *, cap: int = 1_000, key: str = "all") -> None:
        now_ms = self.clock.now_ms()
        day = Account(f"day|2027-01-15|{key}", "day", cap, now_ms + 3_600_000, None, (0.5, 0.8, 1.0))
        ledger = SqlLedger(self.database)
        reserved = await ledger.reserve([day], intent(cost, now_ms), now_ms + 60_000)
        assert isinstance(reserved, Reservation)
        await ledger.settle(reserved, call(reserved.call_id, cost, started_ms=now_ms, duration_ms=0))

    @asynccontextmanager
    async def receiver(self, handler: Callable[[Asked], Awaitable[bytes | None]]) -> AsyncIterator[App]:
        async with serving(handler) as app:
            self.to = Deliver(f"http://{app.authority}/budget", (SecretStr(SECRET),))
            yield app


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    database = await open_database(f"sqlite:///{tmp_path}/scopegate.db")
    yield Desk(database)
    await database.close()


async def accept(asked: Asked) -> bytes:
    return answer(204)


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(record)["scopegate_fields"] for record in caplog.records if record.msg == event]


async def test_each_threshold_is_a_log_line_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scopegate")
    await desk.spend(800)
    assert await desk.warnings().tell() == 2
    assert await desk.warnings().tell() == 0
    found = lines(caplog, "ai.budget_threshold")
    assert [line["share"] for line in found] == [0.5, 0.8]
    assert found[0] == {
        "budget": "day",
        "scope": "day|2027-01-15|all",
        "share": 0.5,
        "spent_usd_micros": 800,
        "limit_usd_micros": 1_000,
    }


async def test_the_receiver_gets_a_message_that_it_can_verify(desk: Desk) -> None:
    async with desk.receiver(accept) as app:
        await desk.spend(500)
        await desk.warnings().tell()
        await desk.warnings().tell()
    [asked] = app.asked
    assert (asked.method, asked.target) == ("POST", "/budget")
    assert verify(SECRET, dict(asked.fields), asked.body, desk.clock.now_ms() / 1000) is None
    assert json.loads(asked.body) == {
        "type": "budget.threshold.reached",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "budget": "day",
            "scope": "day|2027-01-15|all",
            "share": 0.5,
            "spent_usd_micros": 500,
            "limit_usd_micros": 1_000,
            "period_ends": "2027-01-15T09:00:00.000Z",
        },
    }


async def test_many_workers_tell_each_of_them_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    async with desk.receiver(accept) as app:
        for n in range(15):
            await desk.spend(1_000, key=f"c{n}")
        await asyncio.gather(*(desk.warnings().tell() for _ in range(6)))
        while await desk.warnings().tell():
            pass
    assert len(app.asked) == 45
    assert len({asked.get("webhook-id") for asked in app.asked}) == 45
    assert len(lines(caplog, "ai.budget_threshold")) == 45


async def test_a_receiver_that_is_away_hears_of_it_when_it_is_back(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    is_back = False

    async def late(asked: Asked) -> bytes:
        return answer(200 if is_back else 503)

    async with desk.receiver(late) as app:
        await desk.spend(500)
        waits: list[int] = []
        for _ in range(4):
            assert await desk.warnings().tell() == 0
            before_ms = desk.clock.now_ms()
            while len(app.asked) == len(waits) + 1:
                desk.clock.advance(1)
                await desk.warnings().tell()
            waits.append((desk.clock.now_ms() - before_ms) // 1000)
        is_back = True
        desk.clock.advance(3_600)
        assert await desk.warnings().tell() == 1
        assert await desk.warnings().tell() == 0
    assert waits == [10, 20, 40, 80]
    assert len({asked.get("webhook-id") for asked in app.asked}) == 1
    assert len(lines(caplog, "ai.budget_threshold")) == 1


@pytest.mark.parametrize(("status", "after_s"), [(404, 0), (503, 86_400)])
async def test_who_will_not_hear_of_it_is_given_up_and_the_log_has_it(
    desk: Desk, status: int, after_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(asked: Asked) -> bytes:
        return answer(status)

    async with desk.receiver(refuse) as app:
        await desk.spend(500)
        desk.clock.advance(after_s)
        assert await desk.warnings().tell() == 1
        desk.clock.advance(100_000)
        assert await desk.warnings().tell() == 0
    assert len(app.asked) == 1
    assert [len(lines(caplog, event)) for event in ("ai.budget_threshold_untold", "ai.budget_threshold")] == [1, 1]


async def test_one_killed_while_it_tells_leaves_it_to_the_next_under_the_same_id(desk: Desk) -> None:
    heard = asyncio.Event()

    async def silent(asked: Asked) -> bytes | None:
        heard.set()
        if len(app.asked) == 1:
            await asyncio.sleep(30)
        return answer(200)

    async with desk.receiver(silent) as app:
        await desk.spend(500)
        telling = asyncio.create_task(desk.warnings().tell())
        await heard.wait()
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        assert await desk.warnings().tell() == 0, "somebody may still be telling it"
        desk.clock.advance(60)
        assert await desk.warnings().tell() == 1
    first, second = (asked.get("webhook-id") for asked in app.asked)
    assert first == second


async def test_it_looks_until_it_is_stopped(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    serving_it = asyncio.create_task(desk.warnings().serve(stop))
    async with asyncio.timeout(10):
        while len(desk.clock.slept) < 2:
            await asyncio.sleep(0)
        assert set(desk.clock.slept) == {LOOK_S}
        await desk.spend(500)
        while not lines(caplog, "ai.budget_threshold"):
            await asyncio.sleep(0)
        stop.set()
        await serving_it
