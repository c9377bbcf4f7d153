"""The leash from the child's side, by real processes whose other end the test holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate.supervise import leash

OURS = """
import sys, threading
from scopegate.supervise.leash import Leash
tied = Leash(int(sys.argv[1]))
slipped = threading.Event()
tied.watch(slipped.set, float(sys.argv[2]))
tied.ready()
if sys.argv[3] == "polite": slipped.wait(); sys.exit(7)
threading.Event().wait()
"""


def start(argv: list[str], theirs: socket.socket) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    theirs.close()
    return process


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    try:
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()  # nothing to kill unless the test fails
    return process.returncode, err


@pytest.mark.parametrize(("manners", "code"), [("polite", 7), ("deaf", 1)])
def test_a_child_of_ours_hears_that_its_supervisor_is_gone(manners: str, code: int) -> None:
    ours, theirs = socket.socketpair()
    process = start([sys.executable, "-c", OURS, str(theirs.fileno()), "0.2", manners], theirs)
    ours.settimeout(10)
    assert ours.recv(64) == leash.READY
    ours.close()
    assert finish(process)[0] == code


def test_saying_ready_to_nobody_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    leash.Leash(theirs.fileno()).ready()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
def test_a_program_is_not_started_for_a_supervisor_already_gone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    process = start(leash.wrap(theirs.fileno(), ["/bin/touch", str(tmp_path / "ran")]), theirs)
    assert finish(process)[0] == 1
    assert not (tmp_path / "ran").exists()


def beside(fd: int, argv: list[str]) -> list[str]:
    wrapped = leash.wrap(fd, argv)
    return [*wrapped[: wrapped.index("--")], "--beside", *wrapped[wrapped.index("--") :]]


def test_staying_beside_gives_the_programs_own_code() -> None:
    ours, theirs = socket.socketpair()
    process = start(beside(theirs.fileno(), ["/bin/sh", "-c", "exit 9"]), theirs)
    assert finish(process)[0] == 9
    ours.close()


def test_staying_beside_passes_a_wish_to_stop_on() -> None:
    ours, theirs = socket.socketpair()
    program = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    process = start(beside(theirs.fileno(), ["/bin/sh", "-c", program]), theirs)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert finish(process)[0] == 5
    ours.close()


def test_staying_beside_ends_the_program_with_its_supervisor() -> None:
    ours, theirs = socket.socketpair()
    process = start(beside(theirs.fileno(), ["/bin/sh", "-c", "echo $$; exec sleep 600"]), theirs)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    ours.close()
    assert finish(process)[0] == 137
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("how", [leash.wrap, beside])
def test_a_program_that_is_not_there_is_127(how: object) -> None:
    assert callable(how)
    ours, theirs = socket.socketpair()
    process = start(how(theirs.fileno(), ["/nowhere/program"]), theirs)
    code, err = finish(process)
    assert code == 127
    assert b"/nowhere/program: No such file" in err
    ours.close()
