"""Runs seeds and says what broke."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation.loop import Stuck
from tests.simulation.verdicts import judge
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed came to. `digest` is of everything that happened, in order."""

    seed: int
    broken: tuple[str, ...]
    digest: str
    virtual_s: float
    steps: int
    transactions: int


def run(seed: int, *, tell: bool = False) -> Outcome:
    """One seed, to the end. With `tell` every event is printed."""
    world = World(seed)
    try:
        with _quiet():
            try:
                world.run()
                broken = judge(world)
            except Stuck as stuck:
                broken = [*world.broken, f"stuck: {stuck}"]
            if tell:
                _print(world)
            return Outcome(
                seed,
                tuple(broken),
                world.digest(),
                world.loop.time(),
                world.loop.steps,
                world.engine.transactions,
            )
    finally:
        with _quiet():
            world.close()
            del world
            if seed % 16 == 0:
                gc.collect()


def _print(world: World) -> None:
    print(world.plan)
    for at_s, process, what, detail in world.trace:
        print(f"{at_s:10.3f} {process:12} {what} {detail}")


@contextmanager
def _quiet() -> Iterator[None]:
    """What is left of killed processes complains when it is closed: nobody is there to hear it."""
    logger = logging.getLogger("scopegate")
    level, hook = logger.level, sys.unraisablehook
    logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()
