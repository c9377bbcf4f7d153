"""Large sums: made once, shown at once, made anew behind the scenes."""

from __future__ import annotations

import asyncio

import pytest

from scopegate.admin.console import remembered
from scopegate.admin.console.remembered import FRESH_S, Remembered
from scopegate.clock import ManualClock


class Sums:
    def __init__(self) -> None:
        self.made = 0
        self.fault: Exception | None = None

    async def make(self) -> int:
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        self.made += 1
        return self.made


async def test_what_is_known_is_shown_while_a_newer_one_is_made() -> None:
    clock, sums = ManualClock(), Sums()
    kept: Remembered[int] = Remembered(clock)
    first = await asyncio.gather(*(kept.get("a", sums.make) for _ in range(5)))
    assert {known.value for known in first} == {1}, "made once for all who ask together"
    clock.advance(FRESH_S - 1)
    assert (await kept.get("a", sums.make)).value == 1
    clock.advance(1)
    assert (await kept.get("a", sums.make)).value == 1, "old, and shown at once"
    await asyncio.sleep(0.01)
    known = await kept.get("a", sums.make)
    assert (known.value, known.at_ms) == (2, clock.now_ms())


async def test_a_fault_leaves_what_is_known() -> None:
    clock, sums = ManualClock(), Sums()
    kept: Remembered[int] = Remembered(clock)
    sums.fault = RuntimeError("away")
    with pytest.raises(RuntimeError, match="away"):
        await kept.get("a", sums.make)
    sums.fault = None
    assert (await kept.get("a", sums.make)).value == 1
    sums.fault = RuntimeError("away")
    clock.advance(FRESH_S)
    for _ in range(3):
        assert (await kept.get("a", sums.make)).value == 1
        await asyncio.sleep(0.01)


async def test_it_is_bounded() -> None:
    kept: Remembered[int] = Remembered(ManualClock())
    sums = Sums()
    for n in range(remembered.MAX_KEPT + 5):
        await kept.get(n, sums.make)
    assert len(kept._kept) == remembered.MAX_KEPT
