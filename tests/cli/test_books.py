"""Opening the database for the commands that read it: where none is, none appears, and what is wrong is one line."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from scopegate.cli import books
from scopegate.cli.books import Books
from scopegate.errors import ConfigError, StoreError, StoreUnavailable
from scopegate.leads.job import JobFilter, OrderState
from scopegate.stores.database import Database
from tests.cli.records import put_job, within


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    return tmp_path


async def _one_job(database: Database) -> None:
    await put_job(database, "lead-1", fails=False)


async def look(found: Books) -> int:
    """All of them are of one database; the exit code is how many jobs it holds."""
    [job] = await found.jobs.list(JobFilter())
    assert len(await found.ledger.calls(job_id=job.job_id)) == 1
    assert await found.outbox.count(OrderState.ACCEPTED) == 1
    await found.messenger.wake(job.job_id)
    assert found.clock.now_ms() > job.created_ms - 10**12
    return 41 + 1


def test_work_is_done_on_the_database_that_the_environment_names(folder: Path) -> None:
    within(folder, _one_job)
    assert books.with_books(look) == 42


async def _never(_: Books) -> int:
    raise AssertionError("nothing is worked on")


def test_where_no_database_is_none_appears(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert books.with_books(_never) == books.EXIT_FAILED
    assert capsys.readouterr().err == (
        f"scopegate: there is no database at {folder}/scopegate.db: nothing has run here, "
        "or SCOPEGATE_STATE_DIR is another one\n"
    )
    assert list(folder.iterdir()) == []


def test_one_that_cannot_be_reached_is_named_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:PLANTED@127.0.0.1:{port}/d")
    assert books.with_books(_never) == books.EXIT_FAILED
    said = capsys.readouterr().err
    assert said.startswith("scopegate: the database cannot be used now: connect")
    assert said.count("\n") == 1
    assert "PLANTED" not in said


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (StoreUnavailable("full", "disk"), "scopegate: the database cannot be used now: full: disk\n"),
        (StoreError("a newer version made it"), "scopegate: a newer version made it\n"),
    ],
)
def test_what_goes_wrong_meanwhile_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], fault: StoreError, line: str
) -> None:
    async def fail(_: Books) -> int:
        raise fault

    within(folder, _one_job)
    assert books.with_books(fail) == books.EXIT_FAILED
    assert capsys.readouterr().err == line


def test_a_bad_environment_is_the_callers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://127.0.0.1/")
    with pytest.raises(ConfigError, match="REDIS_URL"):
        books.with_books(_never)


def test_everything_is_closed_whatever_became_of_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Books] = []

    async def fail(found: Books) -> int:
        opened.append(found)
        raise ZeroDivisionError

    within(folder, _one_job)
    with pytest.raises(ZeroDivisionError):
        books.with_books(fail)
    with pytest.raises(RuntimeError, match="after shutdown"):
        asyncio.run(_use(opened[0]))


async def _use(found: Books) -> None:
    await found.jobs.list(JobFilter())
