"""Stores that are opened when they are first needed: the gateway serves the app while the database is still away, and
does not carry the libraries behind the stores before the first lead.

Every use of the database tries again; until it opens, each is a StoreUnavailable like any later outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from scopegate.leads.job import Lead, LeadJob, LeadOrder, OpenOrder, OrderRecord, OrderState
    from scopegate.stores.database import Database, Work
    from scopegate.stores.ports import Messenger, Outbox

T = TypeVar("T")


class LateDatabase:
    """`Database` at `url`, opened once by whoever comes first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Database | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> Database:
        """Raises StoreUnavailable while it cannot be reached, StoreError when it can never be used."""
        async with self._opening:
            if self._opened is None:
                from scopegate.stores.database import open_database

                self._opened = await open_database(self._url)
            return self._opened

    async def write(self, work: Work[T]) -> T:
        return await (self._opened or await self.open()).write(work)

    async def read(self, work: Work[T]) -> T:
        return await (self._opened or await self.open()).read(work)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()


class _Late(Generic[T]):
    """One thing, made in a thread by whoever needs it first: making it imports a library."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self.made: T | None = None

    async def get(self) -> T:
        if self.made is None:
            async with self._making:
                if self.made is None:
                    self.made = await asyncio.to_thread(self._make)
        return self.made


class LateOutbox:
    """`Outbox`, made by `make` at the first order."""

    def __init__(self, make: Callable[[], Outbox]) -> None:
        self._outbox = _Late(make)

    async def put(self, order: LeadOrder) -> None:
        await (await self._outbox.get()).put(order)

    async def settle(
        self, order: LeadOrder, state: OrderState, status: int | None, lead: Lead | None
    ) -> LeadJob | None:
        return await (await self._outbox.get()).settle(order, state, status, lead)

    async def overdue(self, before_ms: int) -> int:
        return await (await self._outbox.get()).overdue(before_ms)

    async def count(self, state: OrderState) -> int:
        return await (await self._outbox.get()).count(state)

    async def get(self, order_id: str) -> OrderRecord | None:
        return await (await self._outbox.get()).get(order_id)

    async def open(self, limit: int) -> Sequence[OpenOrder]:
        return await (await self._outbox.get()).open(limit)


class LateMessenger:
    """`Messenger`, made by `make` at the first wake-up."""

    def __init__(self, make: Callable[[], Messenger]) -> None:
        self._messenger = _Late(make)

    async def wake(self, job_id: str) -> None:
        await (await self._messenger.get()).wake(job_id)

    async def ping(self) -> None:
        await (await self._messenger.get()).ping()

    async def close(self) -> None:
        if self._messenger.made is not None:
            await self._messenger.made.close()
