"""A database that is opened when it is first needed: the gateway serves the app while the database is still away.

Every use tries again; until it opens, each is a StoreUnavailable like any later outage.
"""

from __future__ import annotations

import asyncio

from scopegate.stores.database import Database, T, Work, open_database


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
                self._opened = await open_database(self._url)
            return self._opened

    async def write(self, work: Work[T]) -> T:
        return await (self._opened or await self.open()).write(work)

    async def read(self, work: Work[T]) -> T:
        return await (self._opened or await self.open()).read(work)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()
