"""Text and JSON of visitors and apps pass the columns unchanged, whatever they hold."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite

from scopegate.errors import StoreUnavailable
from scopegate.leads.job import StepState
from scopegate.limits.steps import StepName
from scopegate.stores.database import Database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.schema import JsonText, Words, metadata
from scopegate.types import Json
from tests.stores.orders import accepted, intent

DIALECTS = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]
ESCAPED = "\ufffe"


@pytest.mark.parametrize(
    ("value", "is_plain"),
    [
        (None, True),
        ("", True),
        ("roof \u00fc \U0001f600", True),
        ("\uffff", True),
        ("a\x00b", False),
        ("\ud800", False),
        ("cut \udfff short", False),
        (ESCAPED, False),
        (ESCAPED + '"x"', False),
        ("a" + ESCAPED, True),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.name))
def test_words_come_back_as_they_went(dialect: object, value: str | None, is_plain: bool) -> None:
    column = Words()
    kept = column.process_bind_param(value, dialect)  # type: ignore[arg-type]
    assert (kept == value) is is_plain
    assert "\x00" not in (kept or "")
    (kept or "").encode()  # a lone surrogate would not pass
    assert column.process_result_value(kept, dialect) == value  # type: ignore[arg-type]


def test_what_is_equal_is_kept_equal() -> None:
    """A lead's id is searched for by what is kept."""
    kept = {Words().process_bind_param(text, DIALECTS[0]) for text in ("a\x00", "a\x00", "a", '"a\\u0000"')}
    assert len(kept) == 3


@pytest.mark.parametrize("value", [None, 0, 1.5, "", "\x00\ud800\u00fc", [], {"a": [{"b": None}]}, False])
def test_json_comes_back_as_it_went(value: Json) -> None:
    kept = JsonText().process_bind_param(value, DIALECTS[0])
    assert kept is None or (kept.isascii() and json.loads(kept) == value)
    assert (kept is None) is (value is None)
    assert JsonText().process_result_value(kept, DIALECTS[0]) == value


def test_every_moment_and_every_sum_has_room() -> None:
    """Milliseconds since 1970 and micro-dollars outgrow 32 bits."""
    sums = [
        column for table in metadata.tables.values() for column in table.c if column.name.endswith(("_ms", "_micros"))
    ]
    assert len(sums) > 15
    assert {type(column.type).__name__ for column in sums} == {"BigInteger"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE steps SET state = 'done' WHERE step = 'scope'",
        "UPDATE steps SET state = 'done', result = NULL",
        "INSERT INTO steps (job_id, step, state) SELECT job_id, 'another', 'done' FROM jobs",
        "UPDATE calls SET outcome = ''",
    ],
)
async def test_the_database_refuses_a_row_without_a_verdict(database: Database, statement: str) -> None:
    """A result is what passed the rules; whoever writes, by whatever way, `done` without one is refused."""
    job = await accepted(database)
    begun = "INSERT INTO steps (job_id, step, state) SELECT job_id, 'scope', 'waiting' FROM jobs"
    await database.write(lambda conn: conn.execute(text(begun)))
    await SqlLedger(database).reserve([], intent(5), 100)
    with pytest.raises(StoreUnavailable):
        await database.write(lambda conn: conn.execute(text(statement)))
    with_result = "UPDATE steps SET state = 'done', result = '{}' WHERE step = 'scope'"
    await database.write(lambda conn: conn.execute(text(with_result)))
    found = await SqlJobs(database).get(job.job_id)
    assert found is not None
    assert [step.name for step in found.steps if step.state is StepState.DONE] == [StepName.SCOPE]
