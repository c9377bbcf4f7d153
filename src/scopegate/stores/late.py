"""Stores that are opened when they are first needed: the gateway serves the app while the database is still away, and
does not carry the libraries behind the stores before the first lead.

Every use of the database tries again; until it opens, each is a StoreUnavailable like any later outage, whatever the
reason: what nobody but a person mends is for the start to find (`cli/role`), and no cause to end what serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from scopegate.lazy import Lazy

if TYPE_CHECKING:
    from scopegate.leads.job import Earlier, KeptAnswer, Lead, LeadJob, LeadOrder, OpenOrder, OrderRecord, OrderState
    from scopegate.stores.database import Database, Transaction
    from scopegate.stores.ports import Messenger, Outbox

T = TypeVar("T")


class LateDatabase:
    """`Database` at `url`, opened once by whoever comes first."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database = Lazy(self._open)

    async def open(self) -> Database:
        """Raises StoreUnavailable while it cannot be used."""
        from scopegate.errors import StoreUnavailable, StoreUnusable

        try:
            return await self._database.get()
        except StoreUnusable as fault:
            raise StoreUnavailable("other", str(fault)) from fault

    async def _open(self) -> Database:
        from scopegate.stores.database import open_database

        return await open_database(self._url)

    async def write(self, work: Transaction[T]) -> T:
        return await (self._database.made or await self.open()).write(work)

    async def read(self, work: Transaction[T]) -> T:
        return await (self._database.made or await self.open()).read(work)

    async def scrub(self) -> bool:
        return await (self._database.made or await self.open()).scrub()

    async def close(self) -> None:
        if (database := await self._database.stop()) is not None:
            await database.close()


class LateOutbox:
    """`Outbox`, made by `make` at the first order."""

    def __init__(self, make: Callable[[], Outbox]) -> None:
        self._outbox = Lazy.in_thread(make)

    async def put(self, order: LeadOrder) -> Earlier | None:
        return await (await self._outbox.get()).put(order)

    async def settle(
        self,
        order: LeadOrder,
        state: OrderState,
        status: int | None,
        lead: Lead | None,
        answer: KeptAnswer | None = None,
    ) -> LeadJob | None:
        return await (await self._outbox.get()).settle(order, state, status, lead, answer)

    async def ask(self, offloads: Sequence[str], now_ms: int, limit: int) -> Sequence[OrderRecord]:
        return await (await self._outbox.get()).ask(offloads, now_ms, limit)

    async def forget(self, now_ms: int, most: int) -> int:
        return await (await self._outbox.get()).forget(now_ms, most)

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
        self._messenger = Lazy.in_thread(make)

    async def wake(self, job_id: str) -> None:
        await (await self._messenger.get()).wake(job_id)

    async def ping(self) -> None:
        await (await self._messenger.get()).ping()

    async def close(self) -> None:
        if (messenger := await self._messenger.stop()) is not None:
            await messenger.close()
