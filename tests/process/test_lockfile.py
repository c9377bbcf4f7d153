"""A lock ends with its process, and nobody sees a file of one that lives without its lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scopegate.process import lockfile

_HOLD = """
import sys, pathlib
from scopegate.process import lockfile
held = lockfile.create(pathlib.Path(sys.argv[1]), 0o600)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `path` until it is ended."""
    argv = [sys.executable, "-c", _HOLD, str(path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_lock_is_held_while_its_process_lives_and_not_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    with holder(path) as process:
        assert lockfile.is_held(path)
        assert sorted(tmp_path.iterdir()) == [path]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not lockfile.is_held(path)


def test_one_file_has_one_holder_at_a_time(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path / "up.lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert lockfile.try_lock(one)
    assert not lockfile.try_lock(other)
    os.close(one)
    assert lockfile.try_lock(other)
    os.close(other)


def test_a_folder_can_be_locked(tmp_path: Path) -> None:
    one, other = (os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY) for _ in range(2))
    assert lockfile.try_lock(one)
    assert not lockfile.try_lock(other)
    os.close(one)
    os.close(other)


def test_readers_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    path.touch()
    with lockfile.abandoned(path) as free, lockfile.abandoned(path) as free_too:
        assert free
        assert free_too


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    path.write_text("of the dead")
    path.with_suffix(".entering").touch()
    descriptor = lockfile.create(path, 0o600)
    assert lockfile.is_held(path)
    assert sorted(tmp_path.iterdir()) == [path]
    os.close(descriptor)


def test_a_file_that_was_created_anew_while_one_looked_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.lock"
    path.touch()
    opened = os.open
    made: list[int] = []

    def replaced_once_opened(*args: object, **more: object) -> int:
        monkeypatch.undo()
        descriptor = opened(*args, **more)  # type: ignore[arg-type]
        made.append(lockfile.create(path, 0o600))
        return descriptor

    monkeypatch.setattr(os, "open", replaced_once_opened)
    assert lockfile.is_held(path)
    os.close(made[0])


def test_a_file_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    assert not lockfile.is_held(tmp_path / "none.lock")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_file_that_may_not_be_opened_counts_as_held(tmp_path: Path) -> None:
    path = tmp_path / "one.lock"
    path.touch(mode=0o000)
    assert lockfile.is_held(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        lockfile.create(tmp_path / "none" / "one.lock", 0o600)
