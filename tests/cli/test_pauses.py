"""`scopegate jobs pause`, `resume` and `actions`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import LeadJob
from tests.cli.test_jobs import failed, state

__all__ = ["failed", "state"]


def test_an_offload_is_paused_and_goes_on(state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "pause", "lead-photos"]) == 0
    assert capsys.readouterr().out == "lead-photos is paused: its leads are taken, its jobs wait\n"
    assert main(["jobs", "pause", "lead-photos"]) == 1
    assert "lead-photos is paused already" in capsys.readouterr().err
    assert main(["jobs", "list"]) == 0
    assert capsys.readouterr().out.startswith("lead-photos is paused since ")
    assert main(["jobs", "resume", "lead-photos"]) == 0
    assert main(["jobs", "resume", "lead-photos"]) == 1
    assert "lead-photos is not paused" in capsys.readouterr().err


def test_what_was_done_by_hand_is_told(state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "actions"]) == 0
    assert capsys.readouterr().out == "nothing was done by hand\n"
    main(["jobs", "pause", "lead-photos"])
    main(["jobs", "replay", failed.job_id])
    capsys.readouterr()
    assert main(["jobs", "actions", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["actions"]
    assert [(one["action"], bool(one["actor"])) for one in told] == [("replay", True), ("pause", True)]
    assert main(["jobs", "actions"]) == 0
    assert "pause" in capsys.readouterr().out
