"""The sliding window: "N per T" admits at most N in *any* span of T, from a log of its admissions or at a pace.

Pure: windows are values, `now` is an argument. An admission at t counts during [t, t+T): at t+T its place is free
again, so every half-open span of T holds at most N. Time is in integer microseconds of one clock that never goes back
(the API speaks milliseconds, rounded up), and a check costs the same however large N is: only the N-th last admission
decides. `spend` is the rule; `stores/memory` keeps its logs in a dict, `stores/limits.lua` says the same in Redis.

A paced quota (GCRA, ITU-T I.371) admits up to `burst` at once and then one per interval of T / (N - burst + 1), so that
burst and refill together are N in a T. Its whole state is one moment, that at which the full burst is free again; the
log holds it as one admission, made a span before.

A request may cost more than one: it counts as so many admissions of one moment. What became of it may change that
afterwards (`amend`): given back, it counts as if it had never been; booked, as if more had come now.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_COMPACT_AT = 64
_make = tuple.__new__  # what a named tuple's constructor calls, without the Python frame around it


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` admissions in any span of `span_ms` milliseconds. Both are positive. `burst`, from 1 to `limit`:
    paced, at most so many at once; 0: from an exact log."""

    limit: int
    span_ms: int
    burst: int = 0

    @property
    def interval_us(self) -> int:
        """Of a paced quota: microseconds from one admission to the next once the burst is used, rounded up."""
        return -(-self.span_ms * 1000 // (self.limit - self.burst + 1))

    @property
    def most(self) -> int:
        """What one request may cost: it could never be admitted if it cost more."""
        return self.burst or self.limit


@dataclass(frozen=True, slots=True)
class Window:
    """One quota counted for one key. `name` is what answers call it (words of the policy, safe for headers). `key` says
    which window it is, as `window_key` makes it: stores know nothing else. `origin`: the client's address or prefix,
    whose networks pay where memory is short; empty where a stranger cannot make up the key. `cost`: how many admissions
    this request is, from 1 to what the quota admits at once (`Quota.most`). `firm`: nothing but
    time empties the window, no admission is given back."""

    name: str
    key: str
    quota: Quota
    origin: str = ""
    cost: int = 1
    firm: bool = True


def window_key(tier: str, quota: Quota, counted: str) -> str:
    """The key of a tier's window for who is counted (hashed: it may be read in Redis). Unlike for any two tiers, spans
    and ways to count; the same whatever the limit, so that a changed one keeps its windows. Tiers have no colon."""
    return f"{tier}:{quota.span_ms}{'p' if quota.burst else ''}:{counted}"


def counted_as(key: str, secret: bytes) -> str:
    """A key as windows know it. `secret`: at most 64 bytes."""
    return hashlib.blake2b(key.encode(), digest_size=12, key=secret).hexdigest()


# Named tuples, not frozen dataclasses: two of these are made for every request, at half the cost.
class WindowState(NamedTuple):
    """How a window looks after a decision. `remaining`: admissions left now; `more_ms`: milliseconds until there is one
    more than that, the span while all are left; `reset_ms`: milliseconds until all are left again if nothing more is
    admitted (0 when they are)."""

    window: Window
    remaining: int
    more_ms: int
    reset_ms: int


class Spent(NamedTuple):
    """The verdict on one request over all its windows: admitted in every one, or counted in none.

    `retry_after_ms` is 0 when admitted; otherwise waiting that long admits the next request of the same cost if nobody
    else spends, and waiting one millisecond less does not. `standings` are in the order asked; those that refused have
    less left than the request costs. `at_us`: the store's time, for `Amendment`. `alone`: no store was asked, it is
    away. `barred_ms`: for how long each barrier refuses, 0 for one that lets pass, in the order asked.
    """

    admitted: bool
    standings: tuple[WindowState, ...]
    retry_after_ms: int = 0
    at_us: int = 0
    alone: bool = False
    barred_ms: tuple[int, ...] = ()

    def refused_by(self) -> list[WindowState]:
        """The standings of the windows in which a refused request found no room."""
        return [standing for standing in self.standings if standing.remaining < standing.window.cost]


class Amendment(NamedTuple):
    """What changes afterwards of an admission at `at_us` in one window: it counts `more`, less where that is negative.
    `full_us`: not later than the moment at which a paced window was to be free again, right after that admission."""

    window: Window
    more: int
    at_us: int
    full_us: int


def amended(standing: WindowState, more: int, at_us: int) -> Amendment:
    """What was admitted in this standing at that time is changed. `reset_ms` was rounded up: less than a millisecond of
    a pace is not given back."""
    return Amendment(standing.window, more, at_us, at_us + max(0, standing.reset_ms * 1000 - 999))


class Log:
    """The admissions of one window, oldest first, those that count from `head` on. `now_us` must never go back between
    calls. 8 bytes per admission. The limit is the window's of the moment: a changed one judges by what was admitted."""

    __slots__ = ("head", "span_us", "times")

    def __init__(self, span_ms: int) -> None:
        self.span_us = span_ms * 1000
        self.times = array("q")
        self.head = 0

    def live(self, now_us: int) -> int:
        """How many admissions count at `now_us`. Forgets the others: constant on average, logarithmic at worst."""
        times = self.times
        head = self.head
        edge = now_us - self.span_us
        if not times or times[head] > edge:
            return len(times) - head
        if times[-1] <= edge:
            del times[:]
            self.head = 0
            return 0
        head = bisect_right(times, edge, head)
        if head >= _COMPACT_AT and head * 2 >= len(times):
            del times[:head]
            head = 0
        self.head = head
        return len(times) - head

    def compact(self) -> None:
        """Drop what `live` forgot, where that is worth the copy."""
        if self.head and (self.head * 2 >= len(self.times) or len(self.times) <= _COMPACT_AT):
            del self.times[: self.head]
            self.head = 0

    def wait_us(self, window: Window, now_us: int) -> int:
        """Microseconds until the window's cost fits, 0 when it fits now."""
        quota, cost = window.quota, window.cost
        if quota.burst:
            return max(0, self.left_us(now_us) - (quota.burst - cost) * quota.interval_us)
        if len(self.times) - self.head + cost <= quota.limit:
            return 0
        over = self.live(now_us) + cost - quota.limit
        return 0 if over <= 0 else self.times[self.head + over - 1] + self.span_us - now_us

    def left_us(self, now_us: int) -> int:
        """Microseconds until nothing counts any more, 0 when nothing does."""
        return max(0, self.times[-1] + self.span_us - now_us) if self.times else 0

    def admit(self, window: Window, now_us: int) -> WindowState:
        """Count the window's cost, after `wait_us` has said 0 at the same `now_us`."""
        quota, cost = window.quota, window.cost
        if quota.burst:
            self._pace(cost * quota.interval_us, now_us)
            return self._paced(window, now_us)
        live = self.live(now_us)
        times = self.times
        times.extend(_repeated(now_us, cost))
        more_ms = -((now_us - self.span_us - times[self.head]) // 1000)
        return _make(WindowState, (window, quota.limit - live - cost, more_ms, quota.span_ms))

    def standing(self, window: Window, now_us: int) -> WindowState:
        """Where the window stands at `now_us`."""
        quota = window.quota
        if quota.burst:
            return self._paced(window, now_us)
        live = self.live(now_us)
        if not live:
            return WindowState(window, quota.limit, quota.span_ms, 0)
        next_us = self.times[self.head + max(0, live - quota.limit)] + self.span_us
        return WindowState(window, max(0, quota.limit - live), ms_up(next_us - now_us), ms_up(self.left_us(now_us)))

    def _paced(self, window: Window, now_us: int) -> WindowState:
        quota = window.quota
        left_us = self.left_us(now_us)
        if not left_us:
            return WindowState(window, quota.burst, quota.span_ms, 0)
        remaining = max(0, quota.burst - -(-left_us // quota.interval_us))
        more_us = left_us - (quota.burst - remaining - 1) * quota.interval_us
        return WindowState(window, remaining, ms_up(more_us), ms_up(left_us))

    def _pace(self, poured_us: int, now_us: int) -> None:
        empty_us = now_us + self.left_us(now_us) + poured_us
        if self.times:
            self.times[0] = empty_us - self.span_us
        else:
            self.times.append(empty_us - self.span_us)

    def amend(self, change: Amendment, room: int, now_us: int) -> None:
        """Change what an earlier admission counts. What is booked fills the window at most; at most `room` more."""
        quota, more = change.window.quota, change.more
        if quota.burst:
            self._amend_pace(quota, more, change.full_us, now_us)
        elif more > 0:
            more = min(more, quota.limit - self.live(now_us), room)
            self.times.extend(_repeated(now_us, more))
        else:
            self._give_back(-more, change.at_us)

    def _give_back(self, count: int, at_us: int) -> None:
        """Take out admissions of exactly that moment, so many at most: in place of any other the window would open
        early."""
        first = bisect_left(self.times, at_us, self.head)
        del self.times[first : min(first + count, bisect_right(self.times, at_us, first))]
        if self.head == len(self.times):
            del self.times[:]
            self.head = 0

    def _amend_pace(self, quota: Quota, more: int, full_us: int, now_us: int) -> None:
        """Admissions drain one after the other: what has drained of one, all of it by `full_us`, is not given back."""
        left_us = self.left_us(now_us)
        if more > 0:
            self._pace(max(0, min(more * quota.interval_us, quota.burst * quota.interval_us - left_us)), now_us)
        elif left_us:
            self.times[0] -= max(0, min(-more * quota.interval_us, full_us - now_us, left_us))


def spend(windows: Sequence[Window], logs: Sequence[Log], now_us: int) -> Spent:
    """Admit in every log or count in none; `logs[i]` belongs to `windows[i]`, no log twice."""
    wait_us = 0
    for window, log in zip(windows, logs, strict=True):
        more_us = log.wait_us(window, now_us)
        if more_us > wait_us:
            wait_us = more_us
    if wait_us:
        standings = tuple([log.standing(window, now_us) for window, log in zip(windows, logs, strict=True)])
        return Spent(False, standings, ms_up(wait_us), now_us)
    standings = tuple([log.admit(window, now_us) for window, log in zip(windows, logs, strict=True)])
    return Spent(True, standings, 0, now_us)


def spend_one(window: Window, log: Log, now_us: int) -> Spent:
    """`spend` for the usual single window, unrolled: this runs for every request."""
    quota = window.quota
    if quota.burst or window.cost != 1:
        return spend((window,), (log,), now_us)
    times = log.times
    left = quota.limit - len(times) + log.head
    if times and times[log.head] <= now_us - log.span_us:
        left = quota.limit - log.live(now_us)
    if left > 0:
        times.append(now_us)
        more_ms = -((now_us - log.span_us - times[log.head]) // 1000)
        standing = _make(WindowState, (window, left - 1, more_ms, quota.span_ms))
        return _make(Spent, (True, (standing,), 0, now_us, False, ()))
    wait_ms = ms_up(times[log.head - left] + log.span_us - now_us)
    standing = _make(WindowState, (window, 0, wait_ms, ms_up(times[-1] + log.span_us - now_us)))
    return _make(Spent, (False, (standing,), wait_ms, now_us, False, ()))


def _repeated(now_us: int, count: int) -> array[int]:
    return array("q", (now_us,)) * count


def ms_up(duration_us: int) -> int:
    """Microseconds in milliseconds, rounded up."""
    return -(-duration_us // 1000)
