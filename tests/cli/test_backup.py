"""`scopegate backup`, and the way back that `docs/running.md` tells."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import JobFilter
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from tests.cli.records import put_job, within
from tests.engines import empty, postgres_binary, postgres_url

__all__ = ["postgres_url"]
PAGE = (Path(__file__).parents[2] / "docs/running.md").read_text("utf-8")


def commands(page: str) -> list[str]:
    """Of the page's section on backups, a line each."""
    section = page.partition("## Backup and restore")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.S)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where someone works: `.scopegate` has a database."""
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backups").mkdir()
    within(tmp_path / ".scopegate", lambda database: put_job(database, "before", fails=False))
    return tmp_path


def shell(line: str, folder: Path, url: str = "") -> None:
    path = f"{Path(postgres_binary('pg_dump')).parent}:{os.environ['PATH']}" if url else os.environ["PATH"]
    env = {"PATH": path, "DATABASE_URL": url}
    line = line.replace("/backups/", f"{folder}/backups/")
    subprocess.run(["sh", "-c", line], cwd=folder, env=env, check=True, capture_output=True, timeout=60)


async def leads(database: Database) -> list[str]:
    return sorted(job.lead.lead_id for job in await SqlJobs(database).list(JobFilter()))


def test_the_page_leads_there_and_back_for_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _dump, *back, _restore = commands(PAGE)
    words = made.partition("#")[0].replace("/backups/", f"{folder}/backups/").split()
    assert main(words[1:]) == 0
    assert re.fullmatch(rf"{folder}/backups/scopegate\.db: 0\.\d MB\n", capsys.readouterr().out)
    assert stat.S_IMODE((folder / "backups/scopegate.db").stat().st_mode) == 0o600
    state = folder / ".scopegate"
    within(state, lambda database: put_job(database, "after", fails=False))
    for line in back:
        shell(line.partition("#")[0], folder)
    assert within(state, leads) == ["before"]
    assert stat.S_IMODE((state / "scopegate.db").stat().st_mode) == 0o600


async def test_the_page_leads_there_and_back_for_postgresql(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "backups").mkdir()
    await empty(postgres_url)
    _made, dump, *_back, restore = commands(PAGE)
    database = await open_database(postgres_url)
    await put_job(database, "before", fails=False)
    shell(dump, tmp_path, postgres_url)
    await put_job(database, "after", fails=False)
    await database.close()
    shell(restore, tmp_path, postgres_url)
    database = await open_database(postgres_url)
    assert await leads(database) == ["before"]
    await database.close()


def test_what_cannot_be_copied_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(folder / "none/x.db")]) == 1
    assert "cannot be written: No such file" in capsys.readouterr().err
    assert main(["backup", ".scopegate/scopegate.db"]) == 1
    assert capsys.readouterr().err == "scopegate: .scopegate/scopegate.db is the database itself\n"
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(folder / "other"))
    assert main(["backup", "x.db"]) == 1
    assert capsys.readouterr().err.startswith(f"scopegate: there is no database at {folder}/other/scopegate.db")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@db/app")
    assert main(["backup", "x.db"]) == 1
    assert "pg_dump" in capsys.readouterr().err
    assert not (folder / "x.db").exists()
