"""Limits and breakers in this process: for development, for one gateway alone, and for a gateway that lost Redis.

Applies the rules of `limits/window` and `limits/breaker`; nothing is shared with other processes. The number of keys
is bounded, and a flood of new ones never frees a client that is blocked. Made by `wiring`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from scopegate.clock import Clock
from scopegate.limits import breaker
from scopegate.limits.breaker import BreakerRule, BreakerState, Denied, Outcome, Permit, Terms
from scopegate.limits.window import Log, Quota, Spent, Window, spend, spend_one

MAX_KEYS = 100_000
"""About 400 bytes each plus 8 for every live admission."""

_EXAMINED = 8  # logs looked at for each new key once the store is full
_SWEPT = 2  # and while it is not: more than one, so that a past flood's memory comes back
_SHARDS = 1024  # overflow logs per table
_CACHED_QUOTAS = 1024


class _Table:
    """All logs of one tier and quota. `overflow` holds the logs shared by keys that found no room."""

    __slots__ = ("logs", "name", "overflow", "quota")

    def __init__(self, name: str, quota: Quota) -> None:
        self.name = name
        self.quota = quota
        self.logs: dict[str, _KeyLog] = {}
        self.overflow: dict[int, Log] = {}


class _KeyLog(Log):
    """A log that knows where it is kept."""

    __slots__ = ("key", "table")

    def __init__(self, table: _Table, key: str) -> None:
        super().__init__(table.quota)
        self.table = table
        self.key = key


class MemoryLimits:
    """`LimitStore` in a dict. Answers at once, never fails.

    At most `max_keys` keys (tier, quota and key) have a log of their own. For each new key a few old ones are looked
    at, in turn: empty logs go; when the store is full, so does the least recently admitted log that is not full.
    A full log, a blocked client, is never forgotten: if only those were met, the newcomer shares one of 1024 overflow
    logs of its tier, which is stricter than its own would be, never laxer.
    """

    def __init__(self, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        assert max_keys > 0
        self._monotonic_s = clock.monotonic_s
        self._max_keys = max_keys
        self._tables: dict[tuple[str, Quota], _Table] = {}
        self._queue: deque[_KeyLog] = deque()
        # A policy's quotas live as long as the policy, so identity finds their table without hashing them.
        self._by_id: dict[int, _Table] = {}
        self._held: dict[int, Quota] = {}

    def __len__(self) -> int:
        """Keys that have a log of their own."""
        return len(self._queue)

    def spend(self, windows: Sequence[Window]) -> Spent:
        """See `LimitStore.spend`; the clock is this process' monotonic one, in microseconds."""
        now_us = int(self._monotonic_s() * 1e6 + 0.5)
        if len(windows) != 1:
            return spend(windows, self._logs_of(windows, now_us), now_us)
        window = windows[0]
        table = self._by_id.get(id(window.quota))
        if table is None or table.name != window.name:
            table = self._table(window)
        log: Log | None = table.logs.get(window.key)
        if log is None:
            self._make_room(1, now_us)
            log = self._new(table, window.key, now_us)
        return spend_one(window, log, now_us)

    async def close(self) -> None:
        """Nothing to close."""

    def _logs_of(self, windows: Sequence[Window], now_us: int) -> list[Log]:
        logs: list[Log] = []
        for window in windows:
            log = self._table_of(window).logs.get(window.key)
            if log is None:
                return self._logs_made(windows, now_us)
            logs.append(log)
        assert len(set(logs)) == len(logs), "a request names each window once"
        return logs

    def _logs_made(self, windows: Sequence[Window], now_us: int) -> list[Log]:
        """The same when a key is new. All the room is made first: making it between two look-ups could drop the
        log found before from under us."""
        self._make_room(len(windows), now_us)
        logs: list[Log] = []
        for window in windows:
            table = self._table_of(window)
            logs.append(table.logs.get(window.key) or self._new(table, window.key, now_us))
        assert len(set(logs)) == len(logs), "a request names each window once"
        return logs

    def _table_of(self, window: Window) -> _Table:
        table = self._by_id.get(id(window.quota))
        return table if table is not None and table.name == window.name else self._table(window)

    def _table(self, window: Window) -> _Table:
        quota = window.quota
        table = self._tables.get((window.name, quota))
        if table is None:
            table = self._tables[window.name, quota] = _Table(window.name, quota)
        if len(self._held) >= _CACHED_QUOTAS:
            self._by_id.clear()
            self._held.clear()
        self._by_id[id(quota)] = table
        self._held[id(quota)] = quota
        return table

    def _new(self, table: _Table, key: str, now_us: int) -> Log:
        """A log for a key that has none: its own while there is room, else a shared one."""
        shared = table.overflow.get(hash(key) % _SHARDS) if table.overflow else None
        if len(self._queue) < self._max_keys:
            log = table.logs[key] = _KeyLog(table, key)
            self._queue.append(log)
            if shared is not None and shared.live(now_us):
                log.copy_from(shared)
            return log
        if shared is None:
            shared = table.overflow[hash(key) % _SHARDS] = Log(table.quota)
        return shared

    def _make_room(self, wanted: int, now_us: int) -> None:
        for _ in range(wanted):
            full = len(self._queue) + wanted > self._max_keys
            self._sweep(_EXAMINED if full else _SWEPT, now_us, evict=full)

    def _sweep(self, examined: int, now_us: int, *, evict: bool) -> None:
        """Look at the next logs in turn: drop the empty ones and, if there were none and `evict`, the least recently
        admitted one that is not full."""
        queue = self._queue
        kept = [
            log
            for log in [queue.popleft() for _ in range(min(examined, len(queue)))]
            if not self._drop_idle(log, now_us)
        ]
        if evict and len(queue) + len(kept) >= self._max_keys:
            victim = min(
                (log for log in kept if not log.wait_us(now_us)), key=lambda log: log.last_us() or 0, default=None
            )
            if victim is not None:
                kept.remove(victim)
                del victim.table.logs[victim.key]
        queue.extend(kept)

    def _drop_idle(self, log: _KeyLog, now_us: int) -> bool:
        if log.live(now_us):
            return False
        del log.table.logs[log.key]
        return True


class MemoryBreakers:
    """`BreakerStore` in a dict. Names are words of the configuration: there are few."""

    def __init__(self, clock: Clock, *, lease_s: float = 30.0) -> None:
        self._clock = clock
        self._lease_ms = round(lease_s * 1000)
        self._states: dict[str, BreakerState] = {}

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
        now_ms = self._now_ms()
        self._states[name], answer = breaker.admit(self._state(name, now_ms), self._terms(rule), now_ms)
        return answer

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: Outcome) -> None:
        now_ms = self._now_ms()
        before = self._state(name, now_ms)
        self._states[name] = breaker.record(before, self._terms(rule), permit, outcome, now_ms)

    async def state(self, name: str, rule: BreakerRule) -> str:
        now_ms = self._now_ms()
        return breaker.phase(self._state(name, now_ms), self._terms(rule), now_ms).value

    async def close(self) -> None:
        """Nothing to close."""

    def _state(self, name: str, now_ms: int) -> BreakerState:
        return self._states.get(name) or breaker.fresh(now_ms)

    def _terms(self, rule: BreakerRule) -> Terms:
        return Terms(rule.failures, round(rule.cooldown_s * 1000), self._lease_ms)

    def _now_ms(self) -> int:
        return round(self._clock.monotonic_s() * 1000)
