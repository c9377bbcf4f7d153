"""Sums that are too large to be made anew for every look: the last are shown, and newer ones are made meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from scopegate import logs
from scopegate.clock import Clock

T = TypeVar("T")
log = logs.get("admin")

FRESH_S = 10.0
MAX_KEPT = 64


class Known(NamedTuple, Generic[T]):
    value: T
    at_ms: int


class Remembered(Generic[T]):
    """By key, the last MAX_KEPT of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[Hashable, Known[T]] = {}
        self._making: dict[Hashable, asyncio.Task[Known[T]]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> Known[T]:
        """The first time what `make` gives, or raises; from then on what is known, which is made anew once it is
        FRESH_S old."""
        known = self._kept.get(key)
        if known is None:
            return await asyncio.shield(self._begin(key, make))
        if self._clock.now_ms() - known.at_ms >= FRESH_S * 1000:
            self._begin(key, make)
        return known

    def _begin(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> asyncio.Task[Known[T]]:
        if key not in self._making:
            self._making[key] = task = asyncio.create_task(self._make(key, make))
            task.add_done_callback(lambda done: self._made(key, done))
        return self._making[key]

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> Known[T]:
        at_ms = self._clock.now_ms()
        return Known(await make(), at_ms)

    def _made(self, key: Hashable, task: asyncio.Task[Known[T]]) -> None:
        del self._making[key]
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            log.warning("admin.sums_not_made", error=type(fault).__name__, error_detail=str(fault))
        elif not task.cancelled():
            self._kept.pop(key, None)
            self._kept[key] = task.result()
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
