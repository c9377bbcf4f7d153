"""The only home of time and sleep.

Pure code takes `now` as an argument; everything that waits takes a `Clock`. Tests pass `ManualClock`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

monotonic_s = time.monotonic
"""Seconds on the time line of the event loops, as of now: a loop's own `time()` is that of its last turn, in whole
milliseconds. For measuring what has passed; a `Clock` is for what decides."""


class Clock(Protocol):
    """What time it is, and how to wait."""

    def now_ms(self) -> int:
        """Wall clock, Unix milliseconds: for what is stored or shown."""
        ...

    def monotonic_s(self) -> float:
        """Monotonic seconds: for durations and deadlines inside one process."""
        ...

    async def sleep(self, delay_s: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)  # as it is: this is asked several times for every request

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class ManualClock:
    """A clock that moves only when told, or when somebody sleeps on it; `slept` records each sleep."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = float(now_ms)
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        return self._now_ms / 1000

    def advance(self, seconds: float) -> None:
        self._now_ms += seconds * 1000

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.advance(delay_s)
        await asyncio.sleep(0)
