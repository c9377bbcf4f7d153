"""The table of what each part of a request costs has every part of the pipeline, and its requests differ."""

from __future__ import annotations

import os
import time

from bench import steps
from scopegate.clock import SystemClock


def test_no_two_requests_are_alike_and_the_same_seed_draws_the_same() -> None:
    drawn = steps.requests(1)
    assert len(set(drawn)) == len(drawn) == steps.REQUESTS
    assert drawn == steps.requests(1) != steps.requests(2)


async def test_every_step_but_the_last_is_in_the_table() -> None:
    with open(os.devnull, "w", encoding="utf-8") as log:
        table = steps.Table(SystemClock(), log)
        rows = dict(table.rows(rounds=1))
    assert set(steps.STEPS[:-1]) <= rows.keys()
    assert all(0 < micros < 100_000 for micros in rows.values())


def test_the_best_round_counts() -> None:
    waits = iter([0.0, 0.02, 0.02])
    least = steps.best(time.sleep, lambda: [next(waits)], rounds=3)
    assert least < 15_000
