"""`scopegate prune`, as it is typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.stores.database import Database
from tests.cli.records import within
from tests.stores.test_retention import Shop

POLICY = (
    'version: 1\nupstreams: {web: {servers: ["http://127.0.0.1:3000"]}}\n'
    "routes: [{name: all, match: ANY /**, tier: none}]\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    async def fill(database: Database) -> None:
        await Shop(database).ended("mine")
        await Shop(database).ended("theirs")

    within(tmp_path, fill)
    return tmp_path


def leads(folder: Path) -> list[str]:
    return within(folder, lambda database: Shop(database).leads())


def test_a_dry_run_counts_and_the_other_deletes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gateway.yaml").write_text(POLICY + "retention: {leads: 90d, calls: 400d}\n")
    assert main(["prune", "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [("WHAT", "DELETED"), ("leads", "2"), ("model", "2")]
    assert leads(folder) == ["mine", "theirs"]
    assert main(["prune"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["DELETED", "2", "2"]
    assert leads(folder) == []


def test_without_a_word_in_the_policy_nothing_goes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gateway.yaml").write_text(POLICY)
    assert main(["prune"]) == 0
    assert capsys.readouterr().out.startswith("nothing to do: the policy keeps everything for ever")
    assert leads(folder) == ["mine", "theirs"]


def test_a_bad_policy_or_none_is_78_and_no_database_is_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gateway.yaml").write_text(POLICY + "retention: {leads: 90}\n")
    assert main(["prune"]) == 78
    assert "write it like `90d`" in capsys.readouterr().err
    assert main(["prune", "-c", "none.yaml"]) == 78
    (folder / "gateway.yaml").write_text(POLICY + "retention: {leads: 90d}\n")
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(folder / "other"))
    assert main(["prune"]) == 1
    assert leads(folder) == ["mine", "theirs"]
