"""`scopegate status`: what runs, what waits, what is spent; and that nothing runs is said too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scopegate.cli.main import main
from scopegate.following.standing import Post, Standing
from scopegate.stores.database import Database
from tests.cli.records import put_job, within
from tests.policies import ENVIRON, EXAMPLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    return tmp_path


async def _fill(database: Database) -> None:
    await put_job(database, "lead-1", fails=False)
    await put_job(database, "lead-2", fails=True)


def told(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    assert main(["status", "--json", "-c", str(EXAMPLE)]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_nothing_runs_and_nothing_is_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, 1)
    assert found["processes"] == {}
    assert "there is no database" in found["database"]
    assert list(folder.iterdir()) == []


def test_jobs_budgets_and_who_serves_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    within(folder, _fill)
    hostile = "/a\x1b[2J.yaml"
    with Post(folder) as post:
        post.say(
            Standing(1, 1, hostile, "abc123", 1_800_000_000_000, 1, "refused", ("x:1: wrong",), ("server.listen",))
        )
        found = told(capsys, 1)
        assert main(["status", "-c", str(EXAMPLE)]) == 1
        lines = capsys.readouterr().out
    assert (found["jobs"]["queued"], found["jobs"]["failed"]) == (1, 1)
    assert found["database"] == "answers"
    assert [(one["digest"], one["last_reload"]) for one in found["policies"]] == [("abc123", "refused")]
    assert found["policies"][0]["since"].startswith("2027-01-15")
    assert {one["name"] for one in found["budgets"]}
    assert "\x1b" not in lines
    assert "policy     abc123 by process 1" in lines
    assert "needs a restart to apply: server.listen" in lines


def test_a_policy_that_cannot_be_read_costs_its_budgets_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    within(folder, _fill)
    assert main(["status", "--json", "-c", str(folder / "none.yaml")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["budgets"], found["jobs"]["queued"]) == ([], 1)
