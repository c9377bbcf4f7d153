"""The sliding window: "N per T" admits at most N in *any* span of T, from a log of its admissions or at a pace.

Pure: windows are values, `now` is an argument. An admission at t counts during [t, t+T): at t+T its place is free
again, so every half-open span of T holds at most N. Time is in integer microseconds of one clock that never goes back
(the API speaks milliseconds, rounded up), and a check costs the same however large N is: only the N-th last admission
decides. `spend` is the rule; `stores/memory` keeps its logs in a dict, `stores/limits.lua` says the same in Redis.

A paced quota (GCRA, ITU-T I.371) admits up to `burst` at once and then one per interval of T / (N - burst + 1), so that
burst and refill together are N in a T. Its whole state is one moment, that at which the full burst is free again; the
log holds it as one admission, made a span before.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
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


@dataclass(frozen=True, slots=True)
class Window:
    """One quota counted for one key. `name` is what answers call it (words of the policy, safe for headers). `key` says
    which window it is, as `window_key` makes it: stores know nothing else. `origin`: the client's address or prefix,
    whose networks pay where memory is short; empty where a stranger cannot make up the key."""

    name: str
    key: str
    quota: Quota
    origin: str = ""


def window_key(tier: str, quota: Quota, counted: str) -> str:
    """The key of a tier's window for who is counted (hashed: it may be read in Redis). Unlike for any two tiers, spans
    and ways to count; the same whatever the limit, so that a changed one keeps its windows. Tiers have no colon."""
    return f"{tier}:{quota.span_ms}{'p' if quota.burst else ''}:{counted}"


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

    `retry_after_ms` is 0 when admitted; otherwise waiting that long admits the next request if nobody else spends,
    and waiting one millisecond less does not. `standings` are in the order asked; the first full window's standing
    has `remaining == 0`.
    """

    admitted: bool
    standings: tuple[WindowState, ...]
    retry_after_ms: int = 0


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

    def wait_us(self, quota: Quota, now_us: int) -> int:
        """Microseconds until one more admission fits, 0 when it fits now."""
        if quota.burst:
            return max(0, self.left_us(now_us) - (quota.burst - 1) * quota.interval_us)
        if len(self.times) - self.head < quota.limit:
            return 0
        over = self.live(now_us) - quota.limit
        return 0 if over < 0 else self.times[self.head + over] + self.span_us - now_us

    def left_us(self, now_us: int) -> int:
        """Microseconds until nothing counts any more, 0 when nothing does."""
        return max(0, self.times[-1] + self.span_us - now_us) if self.times else 0

    def admit(self, window: Window, now_us: int) -> WindowState:
        """Count one admission, after `wait_us` has said 0 at the same `now_us`."""
        quota = window.quota
        if quota.burst:
            return self._pace(window, now_us)
        live = self.live(now_us)
        times = self.times
        times.append(now_us)
        more_ms = -((now_us - self.span_us - times[self.head]) // 1000)
        return _make(WindowState, (window, quota.limit - live - 1, more_ms, quota.span_ms))

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

    def _pace(self, window: Window, now_us: int) -> WindowState:
        full_us = now_us + self.left_us(now_us) + window.quota.interval_us
        if self.times:
            self.times[0] = full_us - self.span_us
        else:
            self.times.append(full_us - self.span_us)
        return self._paced(window, now_us)


def spend(windows: Sequence[Window], logs: Sequence[Log], now_us: int) -> Spent:
    """Admit in every log or count in none; `logs[i]` belongs to `windows[i]`, no log twice."""
    wait_us = 0
    for window, log in zip(windows, logs, strict=True):
        more_us = log.wait_us(window.quota, now_us)
        if more_us > wait_us:
            wait_us = more_us
    if wait_us:
        standings = tuple([log.standing(window, now_us) for window, log in zip(windows, logs, strict=True)])
        return Spent(False, standings, ms_up(wait_us))
    return Spent(True, tuple([log.admit(window, now_us) for window, log in zip(windows, logs, strict=True)]))


def spend_one(window: Window, log: Log, now_us: int) -> Spent:
    """`spend` for the usual single window, unrolled: this runs for every request."""
    quota = window.quota
    if quota.burst:
        return spend((window,), (log,), now_us)
    times = log.times
    left = quota.limit - len(times) + log.head
    if times and times[log.head] <= now_us - log.span_us:
        left = quota.limit - log.live(now_us)
    if left > 0:
        times.append(now_us)
        more_ms = -((now_us - log.span_us - times[log.head]) // 1000)
        standing = _make(WindowState, (window, left - 1, more_ms, quota.span_ms))
        return _make(Spent, (True, (standing,), 0))
    wait_ms = ms_up(times[log.head - left] + log.span_us - now_us)
    standing = _make(WindowState, (window, 0, wait_ms, ms_up(times[-1] + log.span_us - now_us)))
    return _make(Spent, (False, (standing,), wait_ms))


def ms_up(duration_us: int) -> int:
    """Microseconds in milliseconds, rounded up."""
    return -(-duration_us // 1000)
