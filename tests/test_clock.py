"""Both clocks keep the one promise: time moves forward, and a sleep moves it by what was asked."""

from __future__ import annotations

import asyncio
import time

import pytest

from scopegate.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_is_the_machine_s() -> None:
    clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 1000
    assert isinstance(clock.now_ms(), int)
    before = clock.monotonic_s()
    assert clock.monotonic_s() >= before


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
async def test_a_sleep_moves_the_clock_by_what_was_asked(clock: Clock) -> None:
    before = clock.monotonic_s()
    await clock.sleep(0.02)
    assert clock.monotonic_s() - before >= 0.019


async def test_the_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(now_ms=5_000)
    await asyncio.sleep(0.01)
    assert (clock.now_ms(), clock.monotonic_s()) == (5_000, 5.0)
    clock.advance(1.5)
    assert clock.now_ms() == 6_500
    await clock.sleep(2)
    assert (clock.now_ms(), clock.slept) == (8_500, [2])


async def test_a_manual_sleep_lets_others_run() -> None:
    clock, ran = ManualClock(), []

    async def other() -> None:
        ran.append(1)

    task = asyncio.create_task(other())
    await clock.sleep(1)
    await task
    assert ran == [1]


def test_small_steps_do_not_get_lost() -> None:
    clock = ManualClock(now_ms=0)
    for _ in range(1000):
        clock.advance(0.0005)
    assert abs(clock.now_ms() - 500) <= 1
