"""What `scopegate reload` says and answers. The running whole is in `tests/flows/test_reload.py`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from scopegate.cli import reload
from scopegate.cli.main import main
from scopegate.following.standing import Post, Standing

LEADER = Standing(10, 10, "/g.yaml", "aaaaaaaaaaaa", 1, 1, "applied")


def child(pid: int, digest: str = "aaaaaaaaaaaa", problems: tuple[str, ...] = ()) -> Standing:
    return Standing(pid, 10, "/g.yaml", digest, 1, problems=problems)


def test_one_process_serves_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert reload.report(LEADER, [LEADER]) == 0
    assert capsys.readouterr().out == "applied: 1 of 1 process serve policy aaaaaaaaaaaa\n"


def test_a_supervisor_serves_nothing_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert reload.report(LEADER, [LEADER, child(11), child(12)]) == 0
    assert capsys.readouterr().out == "applied: 2 of 2 processes serve policy aaaaaaaaaaaa\n"


def test_one_that_lags_behind_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    behind = child(12, "bbbbbbbbbbbb", ("it could not be applied: no certificate",))
    assert reload.report(LEADER, [LEADER, child(11), behind]) == 1
    said = capsys.readouterr()
    assert said.out == "applied: 1 of 2 processes serve policy aaaaaaaaaaaa\n"
    assert said.err == "process 12 serves policy bbbbbbbbbbbb\n  it could not be applied: no certificate\n"


def test_one_that_is_missing_counts(capsys: pytest.CaptureFixture[str]) -> None:
    leader = replace(LEADER, processes=2)
    assert reload.report(leader, [leader, child(11)]) == 1
    said = capsys.readouterr()
    assert said.out == "applied: 1 of 2 processes serve policy aaaaaaaaaaaa\n"
    assert said.err == "1 of 2 processes run at the moment: the rest is being started\n"
    assert reload.report(leader, [leader]) == 1
    assert capsys.readouterr().out == "applied: 0 of 2 processes serve policy aaaaaaaaaaaa\n"
    assert reload.report(leader, [leader, child(11), child(12)]) == 0


def test_one_that_is_being_replaced_serves_too(capsys: pytest.CaptureFixture[str]) -> None:
    leader = replace(LEADER, processes=2)
    assert reload.report(leader, [leader, child(11), child(12), child(13)]) == 0
    assert capsys.readouterr().out == "applied: 3 of 3 processes serve policy aaaaaaaaaaaa\n"


@pytest.mark.parametrize("name", ["followed.yaml", "link.yaml", "../{folder}/followed.yaml", "inner/../followed.yaml"])
def test_the_file_is_known_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    followed = tmp_path / "followed.yaml"
    followed.touch()
    (tmp_path / "link.yaml").symlink_to("followed.yaml")
    (tmp_path / "inner").mkdir()
    (tmp_path / "other.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with Post(tmp_path) as post:
        mine = Standing(os.getpid(), os.getpid(), str(followed), "a", 1)
        post.say(mine)
        assert reload.followers(tmp_path, Path(name.format(folder=tmp_path.name)).absolute()) == [mine]
        assert reload.followers(tmp_path, tmp_path / "other.yaml") == []


def test_a_refused_file_is_a_wrong_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    refused = replace(LEADER, outcome="refused", problems=("g.yaml:3:1 tierz: unknown key",))
    assert reload.report(refused, [refused, child(11)]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "g.yaml:3:1 tierz: unknown key\nrefused: 1 of 1 process still serve policy aaaaaaaaaaaa\n"


def test_what_needs_a_restart_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert reload.report(replace(LEADER, needs_restart=("server.listen", "server.workers")), [LEADER]) == 0
    assert "needs a restart to apply: server.listen, server.workers\n" in capsys.readouterr().out


def test_nobody_is_asked_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGHUP would end this very process: it has no handler for it."""
    monkeypatch.setattr(os, "environ", {"SCOPEGATE_STATE_DIR": str(tmp_path)})
    mine = tmp_path / "mine.yaml"
    mine.touch()
    with Post(tmp_path) as post:
        post.say(Standing(os.getpid(), os.getpid(), str(tmp_path / "other.yaml"), "a", 1))
        assert main(["reload", "-c", str(mine)]) == 1
    assert f"no gateway that follows {mine} runs on the state directory {tmp_path}" in capsys.readouterr().err
    assert main(["reload", "-c", str(tmp_path / "absent.yaml")]) == 78
    assert capsys.readouterr().err == f"{tmp_path / 'absent.yaml'}: no such file\n"
