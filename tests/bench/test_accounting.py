"""CPU time and memory of real processes, and the cage for their CPU time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import accounting
from bench.quota import capped, possible

WORK = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
input()
child.kill()
"""
HOG = "x = bytearray(60_000_000)\ndel x\n"


@contextmanager
def python(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said `ready`; it ends with its input."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", *argv], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("\n", timeout=10)


def test_a_family_is_counted_with_its_children() -> None:
    child = WORK.format(seconds=0.3) + "print('done', flush=True)\ninput()"
    with python(PARENT, child) as process:
        used = accounting.cpu_s(process.pid)
        assert accounting.family(process.pid) == [process.pid, *(set(used) - {process.pid})]
        assert len(used) == 2
        assert sum(used.values()) >= 0.29
        assert used[process.pid] < max(used.values())


def test_what_was_used_between_two_looks() -> None:
    assert accounting.used_s({1: 1.0, 2: 5.0}, {1: 1.5, 3: 0.25}) == {1: 0.5, 3: 0.25}


def test_a_peak_that_is_over_is_seen_and_can_be_forgotten() -> None:
    with python(HOG + "print('ready', flush=True)\ninput()") as process:
        rest = accounting.rss_bytes(process.pid)
        assert accounting.peak_bytes(process.pid) - rest > 50_000_000
        accounting.forget_peak(process.pid)
        assert accounting.peak_bytes(process.pid) - rest < 5_000_000


def test_a_capped_process_gets_its_share_and_no_more() -> None:
    if not possible():
        pytest.skip("needs control groups")
    busy = (
        "import time\nprint('ready', flush=True)\ninput()\nstarted, used = time.monotonic(), time.process_time()\n"
        "while time.monotonic() < started + 0.5: pass\nprint(time.process_time() - used)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", busy], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with capped([process.pid], 0.2):
            used_s = float(process.communicate("\n", timeout=10)[0])
    assert used_s < 0.5 * 0.2 * 1.5
