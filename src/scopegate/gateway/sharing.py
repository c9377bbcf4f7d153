"""What the caches of several gateways have in common: kept answers, who fetches one now, and purges.

A store that does not answer is a miss: it is left alone for a moment, and this process goes on with its own memory.
What is purged meanwhile is heard of when the store is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from scopegate import logs
from scopegate.caching.purges import Purge, PurgeKind, Purges
from scopegate.caching.said import Said
from scopegate.caching.stored import Stored
from scopegate.clock import monotonic_s
from scopegate.errors import StoreUnavailable
from scopegate.metrics import catalogue as metrics
from scopegate.stores.ports import AnswerStore

REST_S = 1.0
LOOK_EVERY_S = 0.03
MAX_TASKS = 1000
"""Answers that are being written, at a time: more are not shared."""
_log = logs.get("cache")


class Heard(Protocol):
    """Who is told of purges. `caching.Cache` is the one that serves."""

    purges: Purges

    def end(self, url: bytes) -> None:
        """A change at another gateway."""
        ...

    def forget_all(self) -> None: ...


class Sharing:
    """One per process that has a store."""

    def __init__(self, store: AnswerStore, heard: Heard) -> None:
        self._store = store
        self._heard = heard
        self._rests_until_s = 0.0
        self._is_up_to_date = False
        self._listening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[object]] = set()

    @property
    def holds_answers(self) -> bool:
        """Whether it is worth asking the store now."""
        return self._store.most_bytes > 0 and self._is_up_to_date and monotonic_s() >= self._rests_until_s

    def resize(self, most_bytes: int) -> None:
        self._store.most_bytes = most_bytes

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def seek(
        self, key: bytes, request: Said, is_usable: Callable[[Stored], bool], wait_s: float
    ) -> asyncio.Task[tuple[Stored | None, bool]]:
        """What the store has for a request, and whether it will do. Where it has nothing and another gateway is
        fetching it, that is waited for, up to `wait_s`; who is to fetch it gets (what is stale or None, False)."""
        return asyncio.ensure_future(self._seek(key, request, is_usable, wait_s))

    async def _seek(
        self, key: bytes, request: Said, is_usable: Callable[[Stored], bool], wait_s: float
    ) -> tuple[Stored | None, bool]:
        until_s = monotonic_s() + wait_s
        stored: Stored | None = None
        try:
            while True:
                stored = await self._store.find(key, request)
                if stored is not None and is_usable(stored):
                    return stored, True
                if await self._store.lease(key):
                    return await self._look_again(key, request, is_usable)
                if monotonic_s() >= until_s:
                    return stored, False
                await asyncio.sleep(LOOK_EVERY_S)
        except StoreUnavailable as error:
            self._failed(error)
            return stored, False

    async def _look_again(
        self, key: bytes, request: Said, is_usable: Callable[[Stored], bool]
    ) -> tuple[Stored | None, bool]:
        """This process is to fetch it, unless who did so before has just ended."""
        stored = await self._store.find(key, request)
        will_do = stored is not None and is_usable(stored)
        if will_do:
            await self._store.release(key)
        return stored, will_do

    def keep(self, key: bytes, stored: Stored) -> None:
        self._beside(self._keep(key, stored))

    async def _keep(self, key: bytes, stored: Stored) -> None:
        await self._store.put(key, stored)
        await self._store.release(key)

    def release(self, key: bytes) -> None:
        """It was fetched, or could not be."""
        self._beside(self._store.release(key))

    def changed(self, url: bytes) -> None:
        self._beside(self._change(url))

    async def _change(self, url: bytes) -> None:
        await self._store.drop_url(url)
        await self._store.purge(Purge(PurgeKind.CHANGE, url))

    def _beside(self, work: Awaitable[object]) -> None:
        if len(self._tasks) >= MAX_TASKS or monotonic_s() < self._rests_until_s:
            if asyncio.iscoroutine(work):
                work.close()
            return
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[object]) -> object:
        try:
            return await work
        except StoreUnavailable as error:
            self._failed(error)
            return None

    def _failed(self, error: StoreUnavailable) -> None:
        metrics.CACHE_STORE_ERRORS.labels(error.kind).inc()
        if monotonic_s() >= self._rests_until_s:
            _log.warning("cache.store_down", reason=str(error))
        self._rests_until_s = monotonic_s() + REST_S

    # ── purges ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """Several times a second."""
        if (self._listening is None or self._listening.done()) and monotonic_s() >= self._rests_until_s:
            self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        purges = self._heard.purges
        try:
            last, told = await self._store.purges_after(purges.last)
        except StoreUnavailable as error:
            self._failed(error)
            return
        if last < purges.last:
            self._heard.forget_all()
            purges.restart(last)
        elif last > purges.last and (not told or told[0][0] > purges.last + 1):
            purges.forget(told[0][0] - 1 if told else last)
        for number, purge in told:
            if number > purges.last:
                purges.add(number, purge)
                if purge.kind is PurgeKind.CHANGE:
                    self._heard.end(purge.what)
        self._is_up_to_date = True

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        await asyncio.gather(*self._tasks, *([self._listening] if self._listening else []), return_exceptions=True)
        await self._store.close()
