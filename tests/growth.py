"""How the cost of work grows with its size: the one thing about time that a busy machine does not decide."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMES = 8
LINEAR = 3 * TIMES
"""Far above linear work, which grows `TIMES`-fold, and far below quadratic work, which grows by the square of that."""

_TOO_SHORT_TO_TELL_S = 0.0005


def growth(made: Callable[[int], T], work: Callable[[T], object], size: int) -> float:
    """How many times the processor time that `work` takes on a thing of `size / TIMES` it takes on one of `size`."""
    small, large = (_seconds(made(n), work) for n in (size // TIMES, size))
    return large / max(small, _TOO_SHORT_TO_TELL_S)


def _seconds(thing: T, work: Callable[[T], object]) -> float:
    """The least of three: what else the process does can only add."""
    taken: list[float] = []
    for _ in range(3):
        began = time.process_time()
        work(thing)
        taken.append(time.process_time() - began)
    return min(taken)
