"""Freed memory is kept, so that the next buffer costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import resource, sys
from scopegate.process import heap
kept = heap.keep_freed_memory() if sys.argv[1] == "kept" else False
def churn(times):
    for _ in range(times):
        first, second = bytes(200_000), bytes(200_000)
        del first, second
churn(50)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn(500)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, kept], capture_output=True, text=True, check=True)
    told, count = done.stdout.split()
    return int(told), int(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone keeps and gives back")
def test_buffers_that_come_and_go_cost_no_page_faults() -> None:
    (told, with_it), (_, without) = faults("kept"), faults("not")
    assert told == 1
    assert without > 5_000
    assert with_it < 100


_HOLES = """
from scopegate.process import heap
def resident_kib():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))
heap.keep_freed_memory()
blocks = [bytes(20_000) for _ in range(1000)]
for block in blocks: pass
last = blocks.pop()
blocks.clear()
del block
before = resident_kib()
print(int(heap.give_back()), before - resident_kib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone keeps and gives back")
def test_what_a_start_has_freed_below_what_it_keeps_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    gave, kib = map(int, done.stdout.split())
    assert gave == 1
    assert kib > 10_000
