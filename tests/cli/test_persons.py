"""`scopegate jobs export` and `jobs erase`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scopegate.cli.main import main
from tests.cli.records import within
from tests.cli.test_prune import folder, leads
from tests.stores.test_retention import WORDS, Shop

__all__ = ["folder"]


def test_an_export_is_json_and_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "export", "mine"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("lead_id") == "mine"
    assert WORDS in found["jobs"][0]["lead_text"]
    assert [len(found[name]) for name in ("jobs", "steps", "attempts", "orders", "calls")] == [1, 1, 1, 1, 1]


def test_an_erasure_says_first_what_it_would_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "erase", "mine"]) == 0
    assert capsys.readouterr().out.endswith("say --yes to delete them\n")
    assert leads(folder) == ["mine", "theirs"]
    assert main(["jobs", "erase", "mine", "--yes"]) == 0
    assert capsys.readouterr().out.startswith("deleted: ")
    assert leads(folder) == ["theirs"]
    files = [path for path in folder.iterdir() if path.name.startswith("scopegate.db")]
    assert not [path.name for path in files if b"mine" in path.read_bytes()]


def test_of_whom_nothing_is_stored_it_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["jobs", "export", "no\x1body"], ["jobs", "erase", "no\x1body", "--yes"]):
        assert main(words) == 1
        assert capsys.readouterr().err == "scopegate: nothing is stored of a lead no\\x1body\n"


def test_a_job_that_has_not_ended_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = within(folder, lambda database: Shop(database).queued("open"))
    assert main(["jobs", "erase", "open", "--yes"]) == 1
    assert f"`scopegate jobs cancel {job.job_id}` first" in capsys.readouterr().err
    assert main(["jobs", "cancel", job.job_id]) == 0
    assert main(["jobs", "erase", "open", "--yes"]) == 0
