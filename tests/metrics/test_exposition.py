"""A process's place in the metrics directory: its name, its lock, its files."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.metrics import exposition, totals


def test_a_name_no_other_process_has_and_file_names_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "web_1.example.com/../x" + "y" * 100)
    names = {exposition._Presence(tmp_path, "gateway").identity for _ in range(3)}
    assert len(names) == 3
    for name in names:
        assert re.fullmatch(rf"gateway-web-1-example-com----x[y]+-{os.getpid()}-[0-9a-f]{{8}}", name)


def test_a_place_is_held_until_its_lock_is_let_go(tmp_path: Path) -> None:
    presence = exposition._Presence(tmp_path, "worker")
    assert totals.living(tmp_path) == {"worker": 1}
    assert totals.sweep(tmp_path) == {"worker": 1}
    os.close(presence.lock)
    assert totals.living(tmp_path) == {}
    assert totals.sweep(tmp_path) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.lock", "archive.json"}


def test_files_are_there_with_their_blocks_from_the_start(tmp_path: Path) -> None:
    exposition._Presence(tmp_path, "gateway")
    sizes = {path.name.split("_gateway")[0]: path.stat() for path in tmp_path.glob("*.db")}
    assert set(sizes) == set(exposition._FILES)
    assert all(status.st_blocks * 512 >= status.st_size > 0 for status in sizes.values())


def test_a_place_that_cannot_be_furnished_is_given_up(tmp_path: Path) -> None:
    """A disk that takes no more than 100 KB of a file: nobody must seem alive afterwards."""
    code = (
        "import resource, sys; from pathlib import Path; from scopegate.metrics import exposition\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from scopegate.metrics import totals\n"
        "print(exposition.prepare(Path(sys.argv[1]), 'gateway'), dict(totals.living(Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False {}"
    assert totals.sweep(tmp_path) == {}
    assert not list(tmp_path.glob("*.db"))


def test_a_forked_child_lets_go_of_its_parent_s_place(tmp_path: Path) -> None:
    presence = exposition._Presence(tmp_path, "gateway")
    presence.after_fork()
    assert presence.identity == ""
    assert totals.living(tmp_path) == {}


@pytest.mark.parametrize("role", ["", "Gateway", "gate way", "a-b", "a_b", "../x"])
def test_a_role_is_one_lower_case_word(tmp_path: Path, role: str) -> None:
    with pytest.raises(AssertionError):
        exposition._enter(tmp_path, role)
    assert not list(tmp_path.iterdir())


def test_without_a_directory_there_is_nothing_to_reserve() -> None:
    assert exposition.active_directory() is None
    exposition.reserve()
