"""The exact sliding window: "N per T" admits at most N in *any* span of T.

Pure: windows are values, `now` is an argument. The stores (`stores/memory`, `stores/redis_limits`) apply the same
rule to many windows at once, all or nothing. Called by stores and by the gateway's limiter.
"""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Standing:
    """How a window looks after a decision. `remaining`: admissions left now; `reset_ms`: milliseconds until the
    window is completely empty again if nothing more is admitted (0 when it is empty)."""

    window: Window
    remaining: int
    reset_ms: int


@dataclass(frozen=True, slots=True)
class Spent:
    """The verdict on one request over all its windows: admitted in every one, or counted in none.

    `retry_after_ms` is 0 when admitted; otherwise waiting that long admits the next request if nobody else spends.
    `standings` are in the order asked; the first full window's standing has `remaining == 0`.
    """

    admitted: bool
    standings: tuple[Standing, ...]
    retry_after_ms: int = 0
