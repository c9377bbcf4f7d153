"""Rate limits at the edge: the store decides; while it cannot, the tier's `on_store_error` does.

A store that failed is left alone for a second, so that its time-out is paid once and not by every visitor. Called by
the pipeline only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import assert_never

from scopegate import logs
from scopegate.clock import Clock
from scopegate.edge.verdict import Caller, Refusal
from scopegate.errors import StoreUnavailable
from scopegate.limits.window import Spent, Window, window_key
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import OnStoreError, Tier, TierKey
from scopegate.stores.ports import LimitStore

_ADDRESS = "ip"  # the kind of key that a client's address makes
_LEAVE_ALONE_S = 1.0
_log = logs.get("limiter")


WindowsOf = Callable[[str], tuple[Window, ...]]


def windows_of(tier: Tier, secret: bytes) -> WindowsOf:
    """From a key to the tier's windows. Routes that name the same tier share them; the newest 8,192 keys are kept. Keys
    are hashed with `secret`, at most 64 bytes: of an address that was hashed without one, trying all soon finds it."""
    # No tier has a slash in its name: one called `api-2` is not the second window of `api`.
    names = [tier.name] + [f"{tier.name}/{n}" for n in range(2, len(tier.quotas) + 1)]
    kinds = [(name, window_key(tier.name, quota, ""), quota) for name, quota in zip(names, tier.quotas, strict=True)]

    @lru_cache(maxsize=8192)
    def windows(key: str) -> tuple[Window, ...]:
        digest = hashlib.blake2b(key.encode(), digest_size=12, key=secret).hexdigest()
        kind, _, group = key.partition(":")
        origin = group if kind == _ADDRESS else ""
        return tuple([Window(name, prefix + digest, quota, origin) for name, prefix, quota in kinds])

    return windows


def key_of(tier: Tier, caller: Caller) -> str:
    """Whom the tier counts. A visitor without an identity is counted by address, never in one bucket for all."""
    key = tier.key
    if key is TierKey.GLOBAL:
        return "all"
    if key is TierKey.USER and caller.user is not None:
        return f"user:{caller.auth}:{caller.user}"
    if key is TierKey.USER or key is TierKey.CLIENT_IP:
        return f"{_ADDRESS}:{caller.group}"
    assert_never(key)


class Limiter:
    """`store` may be shared (Redis); `local` counts in this process while it is down."""

    def __init__(self, store: LimitStore, local: LimitStore, clock: Clock, secret: bytes = b"") -> None:
        """`secret`, at most 64 bytes: see `windows_of`."""
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

    def without_store(self, tier: Tier, windows: tuple[Window, ...]) -> Spent | Refusal | None:
        """What the tier says while the store is down: count here, refuse, or (None) let pass."""
        match tier.on_store_error:
            case OnStoreError.LOCAL:
                spent = self._local.spend(windows)
                assert isinstance(spent, Spent)
                return spent
            case OnStoreError.ALLOW:
                return None
            case OnStoreError.DENY:
                return Refusal(
                    503,
                    "limit_store_down",
                    "Requests cannot be counted right now. Try again shortly.",
                    ((b"retry-after", b"2"),),
                )
            case never:
                assert_never(never)

    async def close(self) -> None:
        await self._store.close()
