"""Stores that open when they are first needed: once for all, again after a failure, closed if they were opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from scopegate.clock import SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import OrderState
from scopegate.stores.late import LateDatabase, LateMessenger, LateOutbox
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.ports import Messenger, Outbox
from scopegate.stores.queue import ArqMessenger
from tests.stores.orders import lead, order


def late(path: Path) -> LateDatabase:
    return LateDatabase(f"sqlite:///{path}")


async def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    database = late(tmp_path / "leads.db")
    await database.close()
    assert list(tmp_path.iterdir()) == []


async def test_all_who_come_first_share_one(tmp_path: Path) -> None:
    database = late(tmp_path / "leads.db")
    opened = await asyncio.gather(*[database.open() for _ in range(5)])
    assert len({id(one) for one in opened}) == 1
    assert await database.read(lambda conn: conn.scalar(text("SELECT 7"))) == 7
    await database.close()


async def test_every_use_tries_again(tmp_path: Path) -> None:
    file = tmp_path / "folder"
    file.write_text("a file where a folder has to be")
    database = late(file / "leads.db")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await database.read(lambda conn: conn.scalar(text("SELECT 7")))
    file.unlink()
    assert await database.write(lambda conn: conn.scalar(text("SELECT 7"))) == 7
    await database.close()


Use = Callable[[Outbox], Awaitable[object]]
ORDER = order()
USES: Sequence[tuple[str, Use]] = [
    ("put", lambda outbox: outbox.put(ORDER)),
    ("settle", lambda outbox: outbox.settle(ORDER, OrderState.ACCEPTED, 201, lead("lead-1"))),
    ("overdue", lambda outbox: outbox.overdue(0)),
    ("ask", lambda outbox: outbox.ask(["photos"], 1_000, 10)),
    ("forget", lambda outbox: outbox.forget(0, 10)),
    ("count", lambda outbox: outbox.count(OrderState.PENDING)),
    ("get", lambda outbox: outbox.get("order-1")),
    ("open", lambda outbox: outbox.open(10)),
]


@pytest.mark.parametrize("first", [name for name, _ in USES])
async def test_an_outbox_is_made_at_the_first_use_whichever_it_is(tmp_path: Path, first: str) -> None:
    database = late(tmp_path / "leads.db")
    made: list[Outbox] = []

    def make() -> Outbox:
        made.append(SqlOutbox(database))
        return made[-1]

    outbox, uses = LateOutbox(make), dict(USES)
    assert made == []
    await uses[first](outbox)
    for name in ("get", "count", "open"):
        assert await uses[name](outbox) == await uses[name](made[0])
    assert len(made) == 1
    await database.close()


async def test_a_messenger_is_made_at_the_first_wake_up_and_closed_only_then(valkey_url: str) -> None:
    made: list[Messenger] = []

    def make() -> Messenger:
        made.append(ArqMessenger(valkey_url, SystemClock()))
        return made[-1]

    unused, used = LateMessenger(make), LateMessenger(make)
    await unused.close()
    assert made == []
    await used.ping()
    await used.wake("job-of-nobody")
    assert len(made) == 1
    await used.close()
