"""Whole lives of leads, seed by seed: nothing is lost, doubled or paid unseen, whatever fails and whoever dies.

How to run one again: docs/architecture.md, "The simulation".
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.run import run

SEEDS = 500
"""In every test run; with `--full` so many times as many."""
_FULL_TIMES = 10
_AT_ONCE = 20
_FOUND_WITHIN = 2_000

FOUND = {
    36: "an attempt stayed running: its worker was stopped while the database did not take the attempt's end",
}
"""Seeds that once broke something, and what."""


def broken(seeds: range) -> dict[int, tuple[str, ...]]:
    return {outcome.seed: outcome.broken for outcome in map(run, seeds) if outcome.broken}


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("first", range(0, SEEDS, _AT_ONCE))
def test_nothing_breaks(first: int, full: bool) -> None:
    times = _FULL_TIMES if full else 1
    assert broken(range(first * times, (first + _AT_ONCE) * times)) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_mended(seed: int) -> None:
    assert run(seed).broken == ()


@pytest.mark.timeout(600)
def test_a_seed_is_the_same_run_every_time() -> None:
    """Also in another process, whose strings hash in another way and whose objects lie elsewhere."""
    seeds = range(12)
    here = [run(seed).digest for seed in seeds]
    assert here == [run(seed).digest for seed in seeds]
    assert len({*here}) == len(here)
    code = f"from tests.simulation.run import run\nfor seed in {[*seeds]}: print(run(seed).digest)"
    environ = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    there = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert there.stdout.split() == here


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    with BUGS[name]():
        assert any(run(seed).broken for seed in range(_FOUND_WITHIN)), f"{name} was not found"
