"""What processes say of themselves, and that a dead one says nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scopegate.following.standing import FOLDER, Post, Standing, living
from scopegate.process.board import here

MINE = Standing(
    os.getpid(), os.getpid(), "/etc/gateway.yaml", "abc123", 1000, 2, "refused", ("a: b",), ("server.listen",)
)

OTHER = """
import os, pathlib, sys
from scopegate.following.standing import Post, Standing
post = Post(pathlib.Path(sys.argv[1])).__enter__()
post.say(Standing(os.getpid(), os.getpid(), "/g.yaml", "def456", 1))
print(os.getpid(), flush=True)
sys.stdin.readline()
os._exit(9)
"""


def test_what_is_said_is_read_until_one_leaves(tmp_path: Path) -> None:
    with Post(tmp_path) as post:
        assert living(tmp_path) == [], "nothing was said yet"
        assert post.say(replace(MINE, outcome=""))
        assert post.say(MINE)
        assert living(tmp_path) == [MINE]
    assert living(tmp_path) == []
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_process_that_died_is_swept_away(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin is not None
    assert other.stdout is not None
    pid = int(other.stdout.readline())
    assert [one.pid for one in living(tmp_path)] == [pid]
    other.stdin.close()
    assert other.wait(10) == 9
    other.stdout.close()
    assert (tmp_path / FOLDER / f"{here()}-{pid}.json").exists()
    assert living(tmp_path) == []
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_pid_that_was_given_away_is_not_taken_for_one_of_ours(tmp_path: Path) -> None:
    """Files of an older process with the pid of a living one."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / f"{here()}-{os.getppid()}.lock").touch()
    (folder / f"{here()}-{os.getppid()}.json").write_text("{}")
    assert living(tmp_path) == []
    (folder / f"{here()}-{os.getpid()}.lock").touch()
    (folder / f"{here()}-{os.getpid()}.json").write_text(json.dumps(asdict(replace(MINE, at_ms=1))))
    with Post(tmp_path) as post:
        assert living(tmp_path) == [], "what the older one said is not ours"
        post.say(MINE)
        assert living(tmp_path) == [MINE]


def test_processes_with_one_pid_in_two_containers_both_have_their_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Post(tmp_path) as post:
        post.say(MINE)
        monkeypatch.setattr(socket, "gethostname", lambda: "another container")
        other = replace(MINE, host=here())
        with Post(tmp_path) as theirs:
            theirs.say(other)
            assert {one.host for one in living(tmp_path)} == {MINE.host, other.host}
            assert re.fullmatch(r"another-container(-pid-\d+)?", other.host)
        assert living(tmp_path) == [MINE]


def test_what_is_said_is_bounded(tmp_path: Path) -> None:
    with Post(tmp_path) as post:
        post.say(replace(MINE, problems=("x" * 10_000,) * 10_000))
        [said] = living(tmp_path)
        assert (len(said.problems), len(said.problems[0])) == (50, 500)


def test_a_folder_that_refuses_costs_the_word_not_the_process(tmp_path: Path) -> None:
    with Post(tmp_path) as post:
        (tmp_path / FOLDER / f"{here()}-{os.getpid()}.fresh").mkdir()
        assert not post.say(MINE)
        (tmp_path / FOLDER / f"{here()}-{os.getpid()}.fresh").rmdir()
        assert post.say(MINE)
    assert living(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Post(tmp_path / "file").__enter__()
