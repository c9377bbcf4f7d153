"""`scopegate migrate`, as it is typed: what it says, what it does, and its exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from scopegate.cli.main import main
from scopegate.cli.migrate import Progress
from scopegate.stores import revisions
from scopegate.stores.revisions import Revision
from scopegate.stores.upgrade import Begun, Done
from tests.cli.records import within
from tests.engines import postgres_url
from tests.stores.released import RELEASES, lay

__all__ = ["postgres_url"]
NEWEST = revisions.known()[-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
async def old(folder: Path) -> Path:
    """The state directory of version 0.1.0."""
    await lay(f"sqlite:///{folder}/scopegate.db", RELEASES[0])
    return folder


def revision(folder: Path) -> str | None:
    return within(folder, lambda database: database.read(revisions.found))


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--dry-run"]) == 1
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "the database is at revision 0001, 2 jobs, 1 calls; to do:"
    assert [line[:6] for line in rest] == [f"  {number}" for number in revisions.known()[1:]]
    assert [path.name for path in old.iterdir()] == ["scopegate.db"]


def test_an_old_database_is_copied_and_migrated(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"copied to {old}/scopegate.db.revision-0001 (0.") for line in lines)
    assert lines[-1].startswith(f"{NEWEST} done in ")
    assert revision(old) == NEWEST
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == f"the database is at revision {NEWEST}, 2 jobs, 1 calls: nothing to do\n"
    assert main(["migrate", "--dry-run"]) == 0


def test_a_new_database_can_be_made_ahead(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out.startswith("the database is empty; to do:\n  0001  ")
    assert revision(folder) == NEWEST


def test_the_statements_alone(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--sql"]) == 0
    assert "UPDATE schema_version SET version = 2" in capsys.readouterr().out
    assert main(["migrate", "--dry-run"]) == 1


def test_a_newer_database_is_78_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def leap(conn: Connection) -> None:
        conn.execute(text(f"UPDATE {revisions.TABLE} SET version_num = '9999'"))

    within(folder, lambda database: database.write(leap))
    for words in (["migrate"], ["migrate", "--dry-run"], ["migrate", "--at-start", "up"]):
        assert main(words) == 78
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("scopegate: the database has revision 9999, this program knows")


def test_a_copy_that_cannot_be_written_stops_it(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "scopegate.db.revision-0001").mkdir()
    assert main(["migrate"]) == 1
    assert capsys.readouterr().err.startswith(f"scopegate: {old}/scopegate.db.revision-0001 cannot be written: ")
    assert main(["migrate", "--dry-run"]) == 1


def test_before_up_a_file_of_ours_is_migrated(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--at-start", "up"]) == 0
    assert (old / "scopegate.db.revision-0001").exists()
    assert revision(old) == NEWEST
    capsys.readouterr()
    assert main(["migrate", "--at-start", "up"]) == 0
    assert capsys.readouterr().out == ""


def test_before_up_nothing_is_made(folder: Path) -> None:
    assert main(["migrate", "--at-start", "up"]) == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("asker", ["up", "role"])
def test_a_database_of_your_own_is_only_looked_at(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asker: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{old}/scopegate.db")
    assert main(["migrate", "--at-start", asker]) == 78
    assert capsys.readouterr().err.endswith("run `scopegate migrate`\n")
    assert not (old / "scopegate.db.revision-0001").exists()


def test_one_role_alone_migrates_nothing(old: Path) -> None:
    assert main(["migrate", "--at-start", "role"]) == 78


def test_a_database_that_is_away_is_1_and_no_reason_not_to_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app@/app?host={folder}")
    assert main(["migrate"]) == 1
    assert capsys.readouterr().err.startswith("scopegate: the database cannot be used now: connect")
    assert main(["migrate", "--at-start", "up"]) == 0


async def test_a_revision_that_takes_long_is_said_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    monkeypatch.setattr("scopegate.cli.migrate._TICK_S", 0.01)
    progress = Progress()
    ticking = asyncio.create_task(progress.tick())
    progress.told(Begun(Revision("0009", "it is so")))
    await asyncio.sleep(0.05)
    progress.told(Done(Revision("0009", "it is so"), by_us=False))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "0009 runs, 0 s"
    assert said[-1] == "0009 done by another process"
    await asyncio.sleep(0.05)
    assert capsys.readouterr().out == ""
    ticking.cancel()
