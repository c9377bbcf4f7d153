"""`scopegate jobs cancel` and `replay`: one job, or all that fit, with what they would cost."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import JobFilter, JobState, LeadJob
from scopegate.stores.jobs import SqlJobs
from tests.cli.records import put_job, within
from tests.cli.test_jobs import failed, state

__all__ = ["failed", "state"]


def test_replay_makes_a_new_job_that_keeps_what_is_paid(
    state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "replay", failed.job_id]) == 0
    out = capsys.readouterr().out
    new_id = out.split()[0]
    assert out == f"{new_id} replays {failed.job_id}; steps kept: photo_analysis\na worker finds it within seconds\n"
    new = within(state, lambda database: SqlJobs(database).get(new_id))
    assert new is not None
    assert (new.state, new.replay_of, new.lead) == (JobState.QUEUED, failed.job_id, failed.lead)
    assert main(["jobs", "replay", failed.job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job_id"] == new_id


def test_a_job_under_way_is_not_replayed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queued = within(state, partial(put_job, lead_id="lead-2", fails=False))
    assert main(["jobs", "replay", queued.job_id]) == 1
    assert "is queued: only one that has ended" in capsys.readouterr().err


def test_replay_without_its_redis_still_replays(
    state: Path, failed: LeadJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert main(["jobs", "replay", failed.job_id]) == 0
    assert "a worker finds it within seconds" in capsys.readouterr().out


def test_a_replay_from_a_step_keeps_what_is_before_it(
    state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "replay", failed.job_id, "--from", "photo_analysis"]) == 0
    assert "steps kept: none" in capsys.readouterr().out
    assert main(["jobs", "replay", failed.job_id, "--from", "nothing"]) == 2
    assert "choose from 'photo_analysis', 'scope'" in capsys.readouterr().err


def test_a_job_is_cancelled_once(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queued = within(state, partial(put_job, lead_id="lead-2", fails=False))
    assert main(["jobs", "cancel", queued.job_id]) == 0
    assert capsys.readouterr().out == f"{queued.job_id} is cancelled\n"
    assert main(["jobs", "cancel", queued.job_id]) == 1
    assert "is failed: only one that has not ended can be cancelled" in capsys.readouterr().err
    assert main(["jobs", "cancel", "job_x"]) == 1
    assert "there is no job job_x" in capsys.readouterr().err


def test_many_are_replayed_after_their_cost_was_said(
    state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in (2, 3):
        within(state, partial(put_job, lead_id=f"lead-{n}", fails=True, n=n))
    within(state, partial(put_job, lead_id="lead-4", fails=False, n=4))
    words = ["jobs", "replay", "--all", "--error", "auth", "--from", "photo_analysis", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"jobs": 3, "expected_usd": said["expected_usd"], "replayed": False}
    queued = partial(within, state, lambda database: SqlJobs(database).list(JobFilter(JobState.QUEUED)))
    assert len(queued()) == 1
    assert main([*words, "--yes"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == 3
    assert len(queued()) == 4
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["jobs"] == 0, "what was replayed is not replayed again"
    assert main(["jobs", "replay", "--all", "--error", "another"]) == 0
    assert capsys.readouterr().out.startswith("0 jobs would be replayed: ")


def test_many_are_cancelled_after_it_was_said_what_that_saves(
    state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in (2, 3):
        within(state, partial(put_job, lead_id=f"lead-{n}", fails=False, n=n))
    words = ["jobs", "cancel", "--all", "--offload", "lead-photos", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"jobs": 2, "saved_usd": said["saved_usd"], "cancelled": False}
    assert main([*words, "--yes"]) == 0
    assert json.loads(capsys.readouterr().out)["cancelled"] is True
    ended = within(state, lambda database: SqlJobs(database).list(JobFilter(error_code="cancelled")))
    assert sorted(job.lead.lead_id for job in ended) == ["lead-2", "lead-3"]
    assert main(["jobs", "cancel", "--all", "--contractor", "nobody"]) == 0
    assert capsys.readouterr().out.startswith("0 jobs would be cancelled: ")


def test_a_replay_with_another_input_is_a_new_run_that_says_so(
    state: Path, failed: LeadJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "input.json"
    other.write_text('{"text": "Only the gutter leaks.", "photos": []}')
    assert main(["jobs", "replay", failed.job_id, "--input", str(other)]) == 0
    out = capsys.readouterr().out
    assert "steps kept: none" in out
    new = within(state, lambda database: SqlJobs(database).get(out.split()[0]))
    assert new is not None
    assert (new.lead.text, new.lead.photos, new.lead.lead_id) == ("Only the gutter leaks.", (), failed.lead.lead_id)
    assert main(["jobs", "show", new.job_id]) == 0
    assert f"of {failed.job_id} with another text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "it is no object"),
        ("[]", "it is no object"),
        ("{}", "it is no object"),
        ('{"lead_id": "x"}', "it is no object with some of text, photos, contractor"),
        ('{"text": 1}', "text is not a string"),
        ('{"text": "a", "text": "b"}', "it holds a key twice"),
        ('{"text": " ", "photos": []}', "neither words nor photos"),
        ('{"contractor": " roofers"}', "contractor has space around it"),
    ],
)
def test_an_input_that_is_no_lead_is_refused(
    state: Path, failed: LeadJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, why: str
) -> None:
    other = tmp_path / "input.json"
    other.write_text(words)
    assert main(["jobs", "replay", failed.job_id, "--input", str(other)]) == 1
    assert why in capsys.readouterr().err
    assert main(["jobs", "replay", failed.job_id, "--input", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
