"""Rate limits at the edge: the store decides; while it cannot, `on_store_error` of each tier does.

A store that failed is left alone for a second, so that its time-out is paid once and not by every visitor. Called by
the pipeline only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import assert_never

from scopegate import logs
from scopegate.clock import Clock
from scopegate.edge.verdict import Refusal
from scopegate.errors import StoreUnavailable
from scopegate.limits.window import Amendment, Spent, Window
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier
from scopegate.stores.ports import LimitStore

_LEAVE_ALONE_S = 1.0
_DENIED = Refusal(
    503,
    "limit_store_down",
    "Requests cannot be counted right now. Try again shortly.",
    ((b"retry-after", b"2"),),
)
_log = logs.get("limiter")


class Limiter:
    """`store` may be shared (Redis); `local` counts in this process while it is down."""

    def __init__(self, store: LimitStore, local: LimitStore, clock: Clock, secret: bytes = b"") -> None:
        """`secret`, at most 64 bytes: see `counting.windows_of`."""
        self.secret = secret
        self._store = store
        self._local = local
        self._clock = clock
        self._down_until_s = 0.0
        self._is_up = True
        metrics.LIMIT_STORE_UP.set(1)

    def spend(self, windows: tuple[Window, ...]) -> Spent | asyncio.Future[Spent] | None:
        """None while the store is left alone: ask `without_store`."""
        if self._down_until_s and self._clock.monotonic_s() < self._down_until_s:
            return None
        return self._store.spend(windows)

    def settle(self, future: asyncio.Future[Spent]) -> Spent | None:
        """The store's late answer; None when it failed."""
        try:
            spent = future.result()
        except StoreUnavailable as error:
            self._failed(error)
            return None
        if not self._is_up:
            self._is_up = True
            self._down_until_s = 0.0
            metrics.LIMIT_STORE_UP.set(1)
            _log.info("limit_store.up")
        return spent

    def _failed(self, error: StoreUnavailable) -> None:
        metrics.LIMIT_STORE_ERRORS.labels(error.kind).inc()
        self._down_until_s = self._clock.monotonic_s() + _LEAVE_ALONE_S
        if self._is_up:
            self._is_up = False
            metrics.LIMIT_STORE_UP.set(0)
            _log.error("limit_store.down", kind=error.kind, detail=str(error))

    def without_store(self, counted: Sequence[tuple[Tier, tuple[Window, ...]]]) -> Spent | Refusal | None:
        """What the tiers say while the store is down: refuse, as soon as one does; else count here what those want
        counted that do; let pass (None) where none does."""
        here: list[Window] = []
        for tier, windows in counted:
            match tier.on_store_error:
                case OnStoreError.LOCAL:
                    here += windows
                case OnStoreError.ALLOW:
                    pass
                case OnStoreError.DENY:
                    return _DENIED
                case never:
                    assert_never(never)
        if not here:
            return None
        spent = self._local.spend(here)
        assert isinstance(spent, Spent)
        return spent

    def amend(self, changes: Sequence[Amendment]) -> None:
        """See `LimitStore.amend`: of what the store admitted."""
        self._store.amend(changes)

    def amend_local(self, changes: Sequence[Amendment]) -> None:
        """Of what was admitted here while the store was down."""
        self._local.amend(changes)

    async def close(self) -> None:
        await self._store.close()
