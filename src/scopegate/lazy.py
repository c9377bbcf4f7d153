"""A thing that is made when it is first needed: what it weighs, or whom it must reach, is nobody's burden before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from scopegate import tasks

T = TypeVar("T")


class Lazy(Generic[T]):
    """One thing, made by `make` for whoever comes first. `made` is None until then.

    Who comes meanwhile waits for the same making, which no waiter's cancellation stops. When it fails, all who wait
    for it hear why, and whoever comes next tries again.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None
        self.made: T | None = None

    @classmethod
    def in_thread(cls, make: Callable[[], T]) -> Lazy[T]:
        """For what blocks while it is made: an import, say."""
        return cls(lambda: _in_thread(make))

    async def get(self) -> T:
        if self.made is not None:
            return self.made
        if self._making is None:
            self._making = asyncio.create_task(self._make())
            self._making.add_done_callback(self._settle)
        return await asyncio.shield(self._making)

    async def stop(self) -> T | None:
        """Cancel a making under way, and wait for its end. What there is to close, None when there is nothing."""
        if self._making is not None:
            await tasks.end({self._making})
        return self.made

    def _settle(self, making: asyncio.Task[T]) -> None:
        self._making = None
        if not making.cancelled() and making.exception() is None:
            self.made = making.result()


async def _in_thread(make: Callable[[], T]) -> T:
    """A thread cannot be cancelled: what it makes is waited for, or nobody would close it."""
    making = asyncio.create_task(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await asyncio.wait({making})
        return making.result()
