"""A memory of whom the store refused, so that a client which keeps hammering costs no round trip.

Stands before a store that is asked over a network. It refuses nobody whom the store would not refuse: what it keeps
ends when the store's own refusal does, counted from before the store was asked, and it keeps only what nothing but
time can end. Made by `wiring`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from scopegate.clock import Clock
from scopegate.errors import StoreUnavailable
from scopegate.limits.barriers import Ban, Barrier, Seats
from scopegate.limits.window import Amendment, Spent, Window
from scopegate.stores.ports import LimitStore

KEPT_MS = 1_000
"""A refusal is kept no longer, so that one which somebody lifts ends soon everywhere."""
_MOST = 8_192


HearsRefusal = Callable[[Spent, Sequence[Window], Sequence[Barrier], float], None]
"""Hears a refusal, of what was asked past which barriers, at which monotonic second."""


class TellsRefusals(LimitStore, Protocol):
    def tell(self, refused: HearsRefusal) -> None:
        """Have it called with every refusal. To be called before the first `spend`."""
        ...


class _Kept(NamedTuple):
    """A refusal that was heard at `heard_s` and holds until `until_s`."""

    windows: tuple[Window, ...]
    spent: Spent
    heard_s: float
    until_s: float


class RememberedRefusals:
    """`LimitStore` that asks `store`, unless it knows the answer. `clock` is that of `store`."""

    def __init__(self, store: TellsRefusals, clock: Clock) -> None:
        self._store = store
        self._now_s = clock.monotonic_s
        self._kept: dict[str, _Kept] = {}
        store.tell(self._hear)

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent | asyncio.Future[Spent]:
        """See `LimitStore.spend`."""
        if not windows:
            return self._store.spend(windows, barriers)
        key = windows[0].key
        if key in self._kept:
            refused = self._known(key, windows, barriers)
            if refused is not None:
                return refused
        return self._store.spend(windows, barriers)

    def _known(self, key: str, windows: Sequence[Window], barriers: Sequence[Barrier]) -> Spent | None:
        kept, now_s = self._kept[key], self._now_s()
        is_same = kept.windows == tuple(windows) and len(kept.spent.barred_ms) == len(barriers)
        if now_s >= kept.until_s or not is_same:
            del self._kept[key]
            return None
        passed_ms = int((now_s - kept.heard_s) * 1000)
        return _later(kept.spent, passed_ms)

    def _hear(self, spent: Spent, windows: Sequence[Window], barriers: Sequence[Barrier], asked_s: float) -> None:
        if not windows or not _is_firm(spent, barriers):
            return
        if len(self._kept) >= _MOST:
            self._forget()
        until_s = asked_s + (min(KEPT_MS, spent.retry_after_ms) - 1) / 1000
        self._kept[windows[0].key] = _Kept(tuple(windows), spent, self._now_s(), until_s)

    def _forget(self) -> None:
        """What is over; all of it where that is not enough."""
        now_s = self._now_s()
        self._kept = {key: kept for key, kept in self._kept.items() if kept.until_s > now_s}
        if len(self._kept) >= _MOST:
            self._kept.clear()

    def amend(self, changes: Sequence[Amendment]) -> None:
        self._store.amend(changes)

    def leave(self, seats: Sequence[Seats]) -> None:
        self._store.leave(seats)

    async def open(self) -> None:
        await self._store.open()

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        self._store.listen(told)

    async def close(self) -> None:
        await self._store.close()


def _is_firm(spent: Spent, barriers: Sequence[Barrier]) -> bool:
    """Whether nothing but time ends this refusal, and none of it has to be counted: a strike, until there is a ban."""
    if not all(standing.window.firm for standing in spent.standings):
        return False
    is_banned = False
    has_ban = False
    for barrier, barred_ms in zip(barriers, spent.barred_ms, strict=True):
        if isinstance(barrier, Ban):
            has_ban = True
            is_banned = is_banned or barred_ms > 0
        elif barred_ms:
            return False
    return is_banned or not has_ban


def _later(spent: Spent, passed_ms: int) -> Spent:
    """The same refusal, so many milliseconds later."""
    standings = [
        standing._replace(more_ms=max(1, standing.more_ms - passed_ms), reset_ms=max(0, standing.reset_ms - passed_ms))
        for standing in spent.standings
    ]
    barred_ms = [max(1, each - passed_ms) if each else 0 for each in spent.barred_ms]
    retry_after_ms = max(1, spent.retry_after_ms - passed_ms)
    return spent._replace(standings=tuple(standings), retry_after_ms=retry_after_ms, barred_ms=tuple(barred_ms))
