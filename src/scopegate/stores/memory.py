"""Limits and breakers in this process: for development, for one gateway alone, and for a gateway that lost Redis.

Applies the rules of `limits/window`, `limits/shares` and `limits/breaker`; nothing is shared with other processes.
Memory is bounded, and what still counts is never forgotten: who is refused when it is short, `docs/limits.md` says.
Made by `wiring`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from scopegate.clock import Clock
from scopegate.errors import StoreUnavailable
from scopegate.limits import breaker
from scopegate.limits.barriers import SEAT_WAIT_MS, Ban, Barrier, Seats
from scopegate.limits.breaker import BreakerRule, BreakerState, BreakerTerms, CallOutcome, Denied, Permit
from scopegate.limits.footprint import FIRST_ADMISSIONS, price
from scopegate.limits.shares import COUNTERS_BYTES, Shares, networks
from scopegate.limits.window import Amendment, Log, Spent, Window, ms_up, spend, spend_one

MAX_BYTES = 64 << 20

_SWEPT = 4  # logs looked at for each new key: more than one, so that a past flood's memory comes back
_STEP = 64  # and at a time while one finds no room
_SLICES = 5  # a log is looked at within a 32nd of its span after it came empty


class KeyLog(Log):
    """A log that knows its key and who pays. `room`: for how many admissions was paid; with none it is not kept."""

    __slots__ = ("key", "large", "room", "small")

    def __init__(self, window: Window) -> None:
        super().__init__(window.quota.span_ms)
        self.key = window.key
        self.small, self.large = networks(window.origin)
        self.room = 0

    def is_ready(self, window: Window, now_us: int) -> bool:
        """Whether one request more can be judged in the room there is: the window is full, or it fits in once those
        that count no longer are dropped."""
        if self.live(now_us) + window.cost > window.quota.limit:
            return True
        self.compact()
        return len(self.times) + window.cost <= self.room or bool(self.room and window.quota.burst)


class MemoryLimits:
    """`LimitStore` in a dict. Answers at once, never fails.

    Never more than the limit in any span for any key: a log is dropped only when nothing in it counts any more. At
    most `max_bytes`: who finds no room for a key or an admission is refused, and that is first whose network holds
    most.
    """

    def __init__(self, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self._monotonic_s = clock.monotonic_s
        self._shares = Shares(max_bytes - COUNTERS_BYTES)
        self._logs: dict[str, KeyLog] = {}
        # Logs by the moment at which to look at them again, and those moments as a heap.
        self._due: dict[int, list[KeyLog]] = {}
        self._moments: list[int] = []
        self._seated: dict[str, set[str]] = {}
        """Who is in flight, by key: as many as there are requests."""

    def __len__(self) -> int:
        """Keys that have a log."""
        return len(self._logs)

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent:
        """See `LimitStore.spend`; the clock is this process' monotonic one, in microseconds. A refusal for want of
        room tells when the next log may come empty, at most the span."""
        now_us = int(self._monotonic_s() * 1e6 + 0.5)
        if barriers:
            return self._spend_past(windows, barriers, now_us)
        if len(windows) == 1:
            window = windows[0]
            log = self._logs.get(window.key)
            if log is None:
                log = KeyLog(window)
                if self._pays(log, window, now_us):
                    self._sweep(_SWEPT, now_us)
                    return spend_one(window, log, now_us)
            elif len(log.times) + window.cost <= log.room or log.is_ready(window, now_us):
                return spend_one(window, log, now_us)
            return self._spend_with_room(windows, [log], now_us)
        return self._spend(windows, now_us)

    def amend(self, changes: Sequence[Amendment]) -> None:
        """See `LimitStore.amend`. What finds no room is not booked."""
        now_us = int(self._monotonic_s() * 1e6 + 0.5)
        for change in changes:
            log = self._logs.get(change.window.key)
            if log is None and change.more > 0:  # what was admitted counts no longer, what is booked does from now on
                log = KeyLog(change.window)
            if log is not None:
                log.amend(change, self._room_for(change, log, now_us), now_us)

    def _room_for(self, change: Amendment, log: KeyLog, now_us: int) -> int:
        """For how many admissions more there is room in a log, after paying for as many as the network may."""
        booked = min(change.more, change.window.quota.limit - log.live(now_us))
        if booked > 0:
            wanted = replace(change.window, cost=booked)
            if not log.is_ready(wanted, now_us):
                self._pays(log, wanted, now_us)
        return log.room - len(log.times)

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        """It never goes away."""

    async def open(self) -> None:
        """Nothing to open."""

    def leave(self, seats: Sequence[Seats]) -> None:
        """See `LimitStore.leave`."""
        for each in seats:
            holders = self._seated.get(each.key)
            if holders is not None:
                holders.discard(each.holder)
                if not holders:
                    del self._seated[each.key]

    async def close(self) -> None:
        """Nothing to close."""

    def _spend_past(self, windows: Sequence[Window], barriers: Sequence[Barrier], now_us: int) -> Spent:
        barred_ms = [self._bars_ms(barrier, now_us) for barrier in barriers]
        spent = self._look(windows, now_us) if any(barred_ms) else self.spend(windows)
        if spent.admitted:
            for barrier in barriers:
                if isinstance(barrier, Seats):
                    self._sit(barrier)
        else:
            for n, barrier in enumerate(barriers):
                if isinstance(barrier, Ban) and not barred_ms[n] and _is_struck(barrier, spent):
                    barred_ms[n] = self._strike(barrier)
        wait_ms = max(spent.retry_after_ms, *barred_ms)
        return Spent(spent.admitted, spent.standings, wait_ms, now_us, barred_ms=tuple(barred_ms))

    def _sit(self, seats: Seats) -> None:
        self._seated.setdefault(seats.key, set()).add(seats.holder)

    def _bars_ms(self, barrier: Barrier, now_us: int) -> int:
        if isinstance(barrier, Seats):
            return SEAT_WAIT_MS if len(self._seated.get(barrier.key, ())) >= barrier.most else 0
        log = self._logs.get(barrier.sentence.key)
        return 0 if log is None else ms_up(log.left_us(now_us))

    def _look(self, windows: Sequence[Window], now_us: int) -> Spent:
        """How windows stand for a request that is refused anyhow."""
        logs = [self._logs.get(window.key) or KeyLog(window) for window in windows]
        wait_us = max([log.wait_us(window, now_us) for window, log in zip(windows, logs, strict=True)], default=0)
        standings = [log.standing(window, now_us) for window, log in zip(windows, logs, strict=True)]
        return Spent(False, tuple(standings), ms_up(wait_us), now_us)

    def _strike(self, ban: Ban) -> int:
        """For how many milliseconds the key is banned by this refusal. What finds no room is no strike."""
        at_us = self.spend((ban.strikes,)).at_us
        log = self._logs.get(ban.strikes.key)
        if log is None or log.standing(ban.strikes, at_us).remaining:
            return 0
        if not self.spend((ban.sentence,)).admitted:
            return 0
        del log.times[:]
        log.head = 0
        return ban.sentence.quota.span_ms

    def _spend(self, windows: Sequence[Window], now_us: int) -> Spent:
        kept = self._logs
        logs = [kept.get(window.key) or KeyLog(window) for window in windows]
        for window, log in zip(windows, logs, strict=True):
            if len(log.times) + window.cost > log.room:
                return self._spend_with_room(windows, logs, now_us)
        assert len(set(logs)) == len(logs), "a request names each window once"
        return spend(windows, logs, now_us)

    def _spend_with_room(self, windows: Sequence[Window], logs: Sequence[KeyLog], now_us: int) -> Spent:
        """`spend` where some logs are new or full."""
        assert len({log.key for log in logs}) == len(logs), "a request names each window once"
        new = sum([not log.room for log in logs])
        waits_us = [log.wait_us(window, now_us) for window, log in zip(windows, logs, strict=True)]
        if not any(waits_us) and (wait_us := self._make_room(windows, logs, now_us)):
            return _crowded(windows, logs, now_us, wait_us)
        spent = spend(windows, logs, now_us)
        self._sweep(_SWEPT * new, now_us)
        return spent

    def _make_room(self, windows: Sequence[Window], logs: Sequence[KeyLog], now_us: int) -> int:
        """Have every log kept, with room for one admission more: 0, or how long to wait in microseconds."""
        while not self._has_room(windows, logs, now_us):
            if not self._sweep(_STEP, now_us):
                moment_us = self._moments[0] if self._moments else now_us
                return min(max(1, moment_us - now_us), *[log.span_us for log in logs])
        return 0

    def _has_room(self, windows: Sequence[Window], logs: Sequence[KeyLog], now_us: int) -> bool:
        for window, log in zip(windows, logs, strict=True):
            if not (log.is_ready(window, now_us) or self._pays(log, window, now_us)):
                return False
        return True

    def _pays(self, log: KeyLog, window: Window, now_us: int) -> bool:
        """Pay for twice as many admissions, or for the first ones of a log that is kept from now on, if the network
        may. A paced window has one, whatever it costs."""
        room = log.room
        more = room * 2 or FIRST_ADMISSIONS
        while not window.quota.burst and more < len(log.times) + window.cost:
            more *= 2
        paid = price(room)
        wanted = price(more) - paid
        if not self._shares.has_room(log.small, log.large, paid, wanted):
            return False
        self._shares.take(log.small, log.large, wanted)
        log.room = more
        if not room:
            self._logs[log.key] = log
            self._look_again(log, now_us + log.span_us)
        return True

    def _look_again(self, log: KeyLog, empty_us: int) -> None:
        slice_us = 1 << max(0, log.span_us.bit_length() - 1 - _SLICES)
        moment_us = empty_us - empty_us % slice_us + slice_us
        due = self._due.get(moment_us)
        if due is None:
            due = self._due[moment_us] = []
            heappush(self._moments, moment_us)
        due.append(log)

    def _sweep(self, most: int, now_us: int) -> int:
        """Look at the logs that are due, so many at most, and drop the empty ones; how many were looked at."""
        looked_at = 0
        while looked_at < most and self._moments and self._moments[0] <= now_us:
            due = self._due[self._moments[0]]
            if not due:
                del self._due[heappop(self._moments)]
                continue
            looked_at += 1
            log = due.pop()
            left_us = log.left_us(now_us)
            if left_us:
                self._look_again(log, now_us + left_us)
            else:
                self._drop(log)
        return looked_at

    def _drop(self, log: KeyLog) -> None:
        self._shares.take(log.small, log.large, -price(log.room))
        log.room = 0
        del self._logs[log.key]


def _is_struck(ban: Ban, spent: Spent) -> bool:
    standings = spent.standings[ban.first : ban.first + ban.count]
    return any(standing.remaining < standing.window.cost for standing in standings)


def _crowded(windows: Sequence[Window], logs: Sequence[Log], now_us: int, wait_us: int) -> Spent:
    standings = [log.standing(window, now_us) for window, log in zip(windows, logs, strict=True)]
    standings[0] = standings[0]._replace(remaining=0)
    return Spent(False, tuple(standings), ms_up(wait_us), now_us)


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

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None:
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

    def _terms(self, rule: BreakerRule) -> BreakerTerms:
        return BreakerTerms(rule.failures, round(rule.cooldown_s * 1000), self._lease_ms)

    def _now_ms(self) -> int:
        return round(self._clock.monotonic_s() * 1000)
