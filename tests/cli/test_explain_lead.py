"""`scopegate explain-lead`: a lead's story by its id or its request's, and a sum that is the ledger's."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import LeadJob
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from tests.cli.records import HOSTILE, put_job, within


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LeadJob:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    within(tmp_path, partial(put_job, lead_id="another", fails=False))
    return within(tmp_path, partial(put_job, lead_id="lead-1", fails=True))


async def _spent(database: Database) -> object:
    rows = await SqlLedger(database).spend_by("lead", "2000-01-01")
    return next(row["cost_usd_micros"] for row in rows if row["key"] == "lead-1")


@pytest.mark.parametrize("name", ["lead-1", "req-lead-1"])
def test_the_story_of_a_lead(failed: LeadJob, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-lead", name, "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert [event["kind"] for event in story["events"]] == ["order", "job", "attempt", "call", "attempt", "end"]
    assert story["events"][1]["subject"] == failed.job_id
    assert story["cost_usd_micros"] == within(tmp_path, _spent) == 1234
    assert main(["explain-lead", name]) == 0
    text = capsys.readouterr().out
    assert "attempt 1: failed, auth" in text
    assert text.endswith("$0.001234 in 1 calls, as the ledger has it\n")
    assert "PLANTED" not in text


@pytest.mark.parametrize("name", ["nobody", "", HOSTILE])
def test_nothing_on_record_is_said(failed: LeadJob, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-lead", name]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "nothing is on record about" in said.err
    assert "\x1b" not in said.err
