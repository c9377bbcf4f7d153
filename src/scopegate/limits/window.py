"""The exact sliding window: "N per T" admits at most N in *any* span of T.

Pure: windows are values, `now` is an argument. An admission at t counts during [t, t+T): at t+T its place is free
again, so every half-open span of T holds at most N. Time is in integer microseconds of one clock that never goes back
(the API speaks milliseconds, rounded up), and a check costs the same however large N is: only the N-th last admission
decides. `spend` is the rule; `stores/memory` keeps its logs in a dict, `stores/limits.lua` says the same in Redis.
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
    """At most `limit` admissions in any span of `span_ms` milliseconds. Both are positive."""

    limit: int
    span_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """One quota counted for one key. `name` is the tier (a configuration word, safe for headers and labels);
    `key` is opaque, already hashed or grouped, safe for Redis."""

    name: str
    key: str
    quota: Quota


# Named tuples, not frozen dataclasses: two of these are made for every request, at half the cost.
class Standing(NamedTuple):
    """How a window looks after a decision. `remaining`: admissions left now; `reset_ms`: milliseconds until the
    window is completely empty again if nothing more is admitted (0 when it is empty)."""

    window: Window
    remaining: int
    reset_ms: int


class Spent(NamedTuple):
    """The verdict on one request over all its windows: admitted in every one, or counted in none.

    `retry_after_ms` is 0 when admitted; otherwise waiting that long admits the next request if nobody else spends,
    and waiting one millisecond less does not. `standings` are in the order asked; the first full window's standing
    has `remaining == 0`.
    """

    admitted: bool
    standings: tuple[Standing, ...]
    retry_after_ms: int = 0


class Log:
    """The admissions of one window, oldest first, at most `limit` of them live. `now_us` must never go back between
    calls. 8 bytes per admission."""

    __slots__ = ("_head", "_times", "limit", "span_ms", "span_us")

    def __init__(self, quota: Quota) -> None:
        self.limit = quota.limit
        self.span_ms = quota.span_ms
        self.span_us = quota.span_ms * 1000
        self._times = array("q")
        self._head = 0

    def live(self, now_us: int) -> int:
        """How many admissions count at `now_us`. Forgets the others: constant on average, logarithmic at worst."""
        times = self._times
        head = self._head
        edge = now_us - self.span_us
        if not times or times[head] > edge:
            return len(times) - head
        if times[-1] <= edge:
            del times[:]
            self._head = 0
            return 0
        head = bisect_right(times, edge, head)
        if head >= _COMPACT_AT and head * 2 >= len(times):
            del times[:head]
            head = 0
        self._head = head
        return len(times) - head

    def wait_us(self, now_us: int) -> int:
        """Microseconds until one more admission fits, 0 when it fits now."""
        over = self.live(now_us) - self.limit
        return 0 if over < 0 else self._times[self._head + over] + self.span_us - now_us

    def admit(self, window: Window, now_us: int) -> Standing:
        """Count one admission, after `wait_us` has said 0 at the same `now_us`."""
        self._times.append(now_us)
        return _make(Standing, (window, self.limit - len(self._times) + self._head, self.span_ms))

    def standing(self, window: Window, now_us: int) -> Standing:
        """Where the window stands at `now_us`."""
        left = self.live(now_us)
        reset_ms = _ms_up(self._times[-1] + self.span_us - now_us) if left else 0
        return Standing(window, self.limit - left, reset_ms)

    def last_us(self) -> int | None:
        """The latest admission still held, None when there is none."""
        return self._times[-1] if self._times else None

    def copy_from(self, other: Log) -> None:
        """Start with the other log's admissions: never less strict than it."""
        self._times = other._times[other._head :]
        self._head = 0


def spend(windows: Sequence[Window], logs: Sequence[Log], now_us: int) -> Spent:
    """Admit in every log or count in none; `logs[i]` belongs to `windows[i]`, no log twice."""
    wait_us = 0
    for log in logs:
        more_us = log.wait_us(now_us)
        if more_us > wait_us:
            wait_us = more_us
    if wait_us:
        standings = tuple([log.standing(window, now_us) for window, log in zip(windows, logs, strict=True)])
        return Spent(False, standings, _ms_up(wait_us))
    return Spent(True, tuple([log.admit(window, now_us) for window, log in zip(windows, logs, strict=True)]))


def spend_one(window: Window, log: Log, now_us: int) -> Spent:
    """`spend` for the usual single window, unrolled: this runs for every request."""
    times = log._times
    left = log.limit - len(times) + log._head
    if times and times[log._head] <= now_us - log.span_us:
        left = log.limit - log.live(now_us)
    if left > 0:
        times.append(now_us)
        standing = _make(Standing, (window, left - 1, log.span_ms))
        return _make(Spent, (True, (standing,), 0))
    standing = _make(Standing, (window, 0, _ms_up(times[-1] + log.span_us - now_us)))
    return _make(Spent, (False, (standing,), _ms_up(times[log._head] + log.span_us - now_us)))


def _ms_up(duration_us: int) -> int:
    return -(-duration_us // 1000)
