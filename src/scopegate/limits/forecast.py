"""What a period is likely to cost in the end: what was spent in it, and the rest of it at the rate of late.

Pure. The rate is that of the last day for a day, and of the last week for a month; less is known of a younger ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from scopegate.limits.calendar import Stretch, day_of, month_of

DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Horizon:
    """What a forecast has to know: what was spent since `period.begins_ms`, and since `recent_ms`. `shortest_ms`: what
    is known of a shorter time says nothing about a rate."""

    period: Stretch
    recent_ms: int
    shortest_ms: int


@dataclass(frozen=True, slots=True)
class Expectation:
    period: str
    spent_usd_micros: int
    expected_usd_micros: int
    ends_ms: int


def horizons(now_ms: int, zone: tzinfo) -> tuple[Horizon, Horizon]:
    """Of the day and of the month."""
    return (
        Horizon(day_of(now_ms, zone), now_ms - DAY_MS, _HOUR_MS),
        Horizon(month_of(now_ms, zone), now_ms - 7 * DAY_MS, DAY_MS),
    )


def forecast(of: Horizon, spent: int, recent: int, first_ms: int | None, now_ms: int) -> Expectation:
    """`spent` in the period so far and `recent` in the time whose rate goes on, in micro-dollars; `first_ms` is when
    the ledger begins, None where it is empty."""
    known_ms = now_ms - max(of.recent_ms, now_ms if first_ms is None else first_ms)
    left_ms = max(0, of.period.ends_ms - now_ms)
    expected = spent + -(-recent * left_ms // max(known_ms, of.shortest_ms))
    return Expectation(of.period.label, spent, expected, of.period.ends_ms)
