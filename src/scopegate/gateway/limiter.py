"""Rate limits at the edge: the store decides; while it is away, `on_store_error` of each tier does.

The store says itself when it goes away and is back, so no visitor is sent to find out. Called by the pipeline only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from scopegate import logs
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreUnavailable
from scopegate.gateway.top import TopKeys
from scopegate.limits.barriers import Ban, Barrier, Seats
from scopegate.limits.fallback import UNCOUNTED
from scopegate.limits.window import Amendment, Spent, Window
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier
from scopegate.stores.ports import LimitStore, LocalLimits

_DENIED = Refusal(
    503,
    "limit_store_down",
    "Requests cannot be counted right now. Try again shortly.",
    ((b"retry-after", b"2"), (b"x-ratelimit-store-error", b"deny")),
)
_log = logs.get("limiter")


class Limiter:
    """`store` may be shared (Redis); `local` counts in this process while it is away."""

    def __init__(self, store: LimitStore, local: LocalLimits, secret: bytes = b"") -> None:
        """`secret`, at most 64 bytes: see `counting.windows_of`."""
        self.secret = secret
        self.top = TopKeys()
        self._store = store
        self._local = local
        self._is_up = True
        metrics.LIMIT_STORE_UP.set(1)
        store.listen(self._heard)

    async def open(self) -> None:
        """See `LimitStore.open`."""
        await self._store.open()

    def spend(
        self, windows: tuple[Window, ...], barriers: tuple[Barrier, ...] = ()
    ) -> Spent | asyncio.Future[Spent] | None:
        """None while the store is away: ask `without_store`."""
        return self._store.spend(windows, barriers) if self._is_up else None

    def settle(
        self, future: asyncio.Future[Spent], counts_alone: bool, barriers: Sequence[Barrier] = ()
    ) -> Spent | None:
        """The store's late answer; None when it failed. `counts_alone`: whether a tier will count here if it does."""
        try:
            spent = future.result()
        except StoreUnavailable as error:
            metrics.LIMIT_STORE_ERRORS.labels(error.kind).inc()
            return None
        if counts_alone:
            self._local.saw(spent, barriers)
        return spent

    def _heard(self, error: StoreUnavailable | None) -> None:
        self._is_up = error is None
        metrics.LIMIT_STORE_UP.set(int(self._is_up))
        if error is None:
            _log.info("limit_store.up")
        else:
            _log.error("limit_store.down", kind=error.kind, detail=str(error))

    def without_store(
        self, counted: Sequence[tuple[Tier, tuple[Window, ...]]], barriers: Sequence[Barrier] = ()
    ) -> Spent | Refusal:
        """What the tiers say while the store is away: refuse, as soon as one does; else count here what those want
        counted that do, past their barriers; let pass where none does."""
        here: list[Window] = []
        begins: dict[str, int] = {}
        for tier, windows in counted:
            match tier.on_store_error:
                case OnStoreError.LOCAL:
                    begins[tier.name] = len(here)
                    here += windows
                case OnStoreError.ALLOW:
                    pass
                case OnStoreError.DENY:
                    return _DENIED
                case never:
                    assert_never(never)
        barring = [_beginning(each, begins[each.name]) for each in barriers if each.name in begins]
        if not here and not barring:
            return UNCOUNTED
        spent = self._local.spend_alone(here, barring)
        barred_ms = iter(spent.barred_ms)
        return spent._replace(barred_ms=tuple([next(barred_ms) if each.name in begins else 0 for each in barriers]))

    def amend(self, changes: Sequence[Amendment]) -> None:
        """See `LimitStore.amend`: of what the store admitted."""
        self._store.amend(changes)

    def leave(self, seats: Sequence[Seats]) -> None:
        """See `LimitStore.leave`."""
        self._store.leave(seats)
        self._local.leave(seats)

    def amend_local(self, changes: Sequence[Amendment]) -> None:
        """Of what was admitted here while the store was away."""
        self._local.amend_alone(changes)

    async def close(self) -> None:
        await self._store.close()


def _beginning(barrier: Barrier, first: int) -> Barrier:
    """The same among windows of which those of its tier begin there."""
    return replace(barrier, first=first) if isinstance(barrier, Ban) else barrier
