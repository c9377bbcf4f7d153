"""The PaidAnswers port, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from scopegate.stores.database import Database
from scopegate.stores.paid import SqlPaidAnswers
from scopegate.stores.ports import PaidAnswer
from tests.stores.orders import HOSTILE

ANSWER = PaidAnswer(HOSTILE, "claude-haiku-5-5", 150, "lead-1")


@pytest.fixture
def kept(database: Database) -> SqlPaidAnswers:
    return SqlPaidAnswers(database)


async def test_the_first_asks_and_the_others_get_its_answer(kept: SqlPaidAnswers) -> None:
    assert await kept.take("k", "a", 0, 15) is True
    assert await kept.take("k", "b", 1, 16) is False
    await kept.keep("k", "a", ANSWER, 1_000)
    assert await kept.take("k", "b", 999, 1_014) == ANSWER
    assert await kept.take("another", "b", 999, 1_014) is True


async def test_an_answer_ends_with_its_lifetime(kept: SqlPaidAnswers) -> None:
    await kept.take("k", "a", 0, 15)
    await kept.keep("k", "a", ANSWER, 1_000)
    assert await kept.take("k", "b", 1_000, 1_015) is True


async def test_one_of_many_at_once_asks(kept: SqlPaidAnswers) -> None:
    found = await asyncio.gather(*(kept.take("k", f"worker-{n}", 0, 15) for n in range(20)))
    assert (found.count(True), found.count(False)) == (1, 19)


async def test_who_was_killed_while_it_asked_is_waited_for_until_its_claim_ends(kept: SqlPaidAnswers) -> None:
    await kept.take("k", "a", 0, 15)
    await kept.hold("k", "a", 30)
    assert await kept.take("k", "b", 29, 44) is False
    assert await kept.take("k", "b", 30, 45) is True
    await kept.hold("k", "a", 99)
    await kept.keep("k", "a", ANSWER, 1_000)
    assert await kept.take("k", "c", 44, 60) is False, "the late one's answer is not this question's any more"
    assert await kept.take("k", "c", 45, 60) is True


async def test_what_is_dropped_is_free(kept: SqlPaidAnswers) -> None:
    await kept.take("k", "a", 0, 15)
    await kept.drop("k", "b")
    assert await kept.take("k", "b", 1, 16) is False, "not its own"
    await kept.drop("k")
    assert await kept.take("k", "b", 1, 16) is False, "not answered"
    await kept.drop("k", "a")
    assert await kept.take("k", "b", 1, 16) is True
    await kept.keep("k", "b", ANSWER, 1_000)
    await kept.drop("k")
    assert await kept.take("k", "c", 2, 17) is True
