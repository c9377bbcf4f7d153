"""What this process knows of the windows and bans in Redis and of its own seats, and counts by while Redis is away.

It holds what Redis said at its last answers, no admission earlier than it was: a key that only this process sees is
known as Redis knows it. What is admitted here meanwhile, and who is banned, is owed to Redis. Bounded like every
`MemoryLimits`; what found no room is unknown. Made by `wiring`, asked by the gateway's limiter, emptied by
`redis_presence`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from scopegate.clock import Clock
from scopegate.limits.barriers import Ban, Barrier
from scopegate.limits.fallback import shared, weighted
from scopegate.limits.window import Amendment, Spent, Window, WindowState, ms_up
from scopegate.stores.memory import MAX_BYTES, KeyLog, MemoryLimits


class Admissions(NamedTuple):
    """Of one window. `interval_us`: of a paced one, else 0. `ages_us`: how long ago each was, oldest first."""

    key: str
    span_us: int
    interval_us: int
    ages_us: list[int]


class Debt:
    """What was admitted here of one window, and what its log held before (paced only)."""

    __slots__ = ("before_us", "interval_us", "times")

    def __init__(self, interval_us: int, before_us: int) -> None:
        self.interval_us = interval_us
        self.before_us = before_us
        self.times = array("q")


class Mirror(MemoryLimits):
    """`gateways`: how many share the windows, this one included."""

    def __init__(self, clock: Clock, *, gateways: int = 1, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(clock, max_bytes=max_bytes)
        self.gateways = gateways
        self._debts: dict[str, Debt] = {}

    def saw(self, spent: Spent, barriers: Sequence[Barrier] = ()) -> None:
        """The store's answer, just in."""
        now_us = self._now_us()
        for barrier, barred_ms in zip(barriers, spent.barred_ms, strict=True):
            if isinstance(barrier, Ban):
                self._saw_ban(barrier, barred_ms, now_us)
            elif spent.admitted:
                self._sit(barrier)
        for standing in spent.standings:
            window = standing.window
            if window.quota.burst:
                self._saw_pace(standing, now_us)
            else:
                self._saw_log(standing, spent.admitted, now_us)

    def _saw_log(self, standing: WindowState, admitted: bool, now_us: int) -> None:
        """Those of others came since the last answer, the newest of all at the moment that `reset_ms` tells."""
        window, remaining, _, reset_ms = standing
        log = self._log(window, now_us)
        live = log.live(now_us)
        missing = window.quota.limit - remaining - live
        if admitted and missing < window.cost:
            log.head += window.cost - missing  # they left the store's window, whose clock counts, a moment earlier
            missing = window.cost
        if missing > 0 and self._has_room_for(log, window, missing, now_us):
            at_us = min(now_us, now_us - log.span_us + reset_ms * 1000)
            log.times.extend([max(at_us, log.times[-1]) if log.times else at_us] * missing)

    def _saw_pace(self, standing: WindowState, now_us: int) -> None:
        window, _, _, reset_ms = standing
        log = self._log(window, now_us)
        if reset_ms and self._has_room_for(log, window, 1, now_us):
            log.times[:] = array("q", [now_us + reset_ms * 1000 - log.span_us])

    def _saw_ban(self, ban: Ban, left_ms: int, now_us: int) -> None:
        """How long it lasts; 0 for none, which ends what was known of one."""
        sentence = ban.sentence
        if left_ms:
            log = self._log(sentence, now_us)
            if log.room or self._pays(log, sentence, now_us):
                log.times[:] = array("q", [now_us + left_ms * 1000 - log.span_us])
        elif sentence.key in self._logs:
            del self._logs[sentence.key].times[:]

    def seats(self) -> list[tuple[str, str]]:
        """Key and holder of each that is taken, whoever gave it."""
        return [(key, holder) for key, holders in self._seated.items() for holder in holders]

    def spend_alone(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent:
        """As `spend`, while no store answers: each admission counts once for every gateway, and each gateway has its
        part of the seats."""
        heavier = [weighted(window, self.gateways) for window in windows]
        spent = self.spend(heavier, [shared(barrier, self.gateways) for barrier in barriers])
        for barrier in barriers:
            if isinstance(barrier, Ban) and not spent.admitted:
                self._owe_ban(barrier, spent.at_us)
        if spent.admitted:
            for window, costly in zip(windows, heavier, strict=True):
                self._owe(window, costly.cost, spent.at_us)
        standings = tuple([self._told(*each, spent.at_us) for each in zip(windows, spent.standings, strict=True)])
        return spent._replace(standings=standings, alone=True)

    def amend_alone(self, changes: Sequence[Amendment]) -> None:
        """As `amend`: of admissions that count for every gateway, and are owed."""
        self.amend([change._replace(more=change.more * self.gateways) for change in changes])
        for change in changes:
            debt = self._debts.get(change.window.key)
            if debt is not None and change.more < 0:
                for _ in range(min(-change.more, debt.times.count(change.at_us))):
                    debt.times.remove(change.at_us)
            elif debt is not None:
                debt.times.extend([self._now_us()] * change.more)

    def _owe_ban(self, ban: Ban, at_us: int) -> None:
        """If it began since then."""
        key = ban.sentence.key
        began = self._logs[key].times[-1:] if key in self._logs else array("q")
        if began and began[0] >= at_us and (key not in self._debts or self._debts[key].times[-1:] != began):
            self._owe(ban.sentence, 1, began[0])

    def _owe(self, window: Window, counted: int, at_us: int) -> None:
        """The window's cost was admitted, and counts `counted` times here."""
        log, interval_us = self._logs[window.key], window.quota.interval_us if window.quota.burst else 0
        debt = self._debts.get(window.key)
        if debt is None:
            debt = self._debts[window.key] = Debt(interval_us, log.times[0] - counted * interval_us)
        debt.times.extend([at_us] * window.cost)
        while debt.times[0] <= at_us - log.span_us:
            del debt.times[0]
        if interval_us:  # the pace is divided by all, also where the burst is too small for it
            log.times[0] += (window.cost * self.gateways - counted) * interval_us

    def _told(self, window: Window, standing: WindowState, at_us: int) -> WindowState:
        """How the window stands for requests that count for every gateway: the moment of one more is theirs."""
        weight = min(self.gateways, window.quota.most)
        log = self._logs.get(window.key)
        left = standing.remaining // weight
        if log is None:
            return standing._replace(window=window, remaining=left)
        more_us = log.wait_us(replace(window, cost=weight * (left + 1)), at_us)
        return WindowState(window, left, ms_up(more_us) if more_us else standing.more_ms, ms_up(log.left_us(at_us)))

    # ── what the store is told when it is back ──────────────────────────────────────────────────────────────────────

    def take_debts(self, most: int) -> dict[str, Debt]:
        """What was admitted here and the store has not heard of: of so many admissions, or of one window. It is owed no
        more; `put_back` what could not be told."""
        taken: dict[str, Debt] = {}
        count = 0
        for key, debt in self._debts.items():
            count += len(debt.times)
            if taken and count > most:
                break
            taken[key] = debt
        for key in taken:
            del self._debts[key]
        return taken

    def put_back(self, debts: Mapping[str, Debt]) -> None:
        for key, debt in debts.items():
            if key in self._debts:
                debt.times.extend(self._debts[key].times)
            self._debts[key] = debt

    def admitted(self, debts: Mapping[str, Debt]) -> list[Admissions]:
        """The debts in words that do not depend on our clock."""
        now_us = self._now_us()
        spans_us = {key: self._logs[key].span_us for key in debts if key in self._logs}
        return [
            Admissions(key, span_us, debts[key].interval_us, [now_us - time for time in debts[key].times])
            for key, span_us in spans_us.items()
        ]

    def known(self) -> Iterator[Admissions]:
        """What the store has said itself and may have lost since. Logs may come and go while this is read."""
        for key in list(self._logs):
            log, now_us = self._logs.get(key), self._now_us()
            if log is None or not log.live(now_us):
                continue
            times, debt = list(log.times[log.head :]), self._debts.get(key)
            if debt is not None and debt.interval_us:
                times = [debt.before_us]
            elif debt is not None:
                ours = frozenset(debt.times)
                times = [time for time in times if time not in ours]
            if times and times[-1] > now_us - log.span_us:
                yield Admissions(key, log.span_us, 0, [now_us - time for time in times])

    def _now_us(self) -> int:
        return int(self._monotonic_s() * 1e6 + 0.5)

    # ── room ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _log(self, window: Window, now_us: int) -> KeyLog:
        """The window's log, or one that is kept once it has room."""
        log = self._logs.get(window.key)
        if log is None:
            self._sweep(4, now_us)
            log = KeyLog(window)
        return log

    def _has_room_for(self, log: KeyLog, window: Window, more: int, now_us: int) -> bool:
        log.compact()
        if len(log.times) + more <= log.room:
            return True
        return self._pays(log, window if window.cost == more else replace(window, cost=more), now_us)

    def _drop(self, log: KeyLog) -> None:
        super()._drop(log)
        self._debts.pop(log.key, None)
