"""Days and months as calendars have them, in a time zone: from one local midnight to the next.

Pure: the zone is handed in with its rules. A day has 23 or 25 hours where clocks are changed; where midnight is skipped
it begins with the first moment that there is, and where midnight comes twice, with the first of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class Stretch:
    """`begins_ms` belongs to it, `ends_ms` to the next (Unix milliseconds). `label` is `2026-11-24` or `2026-11`."""

    label: str
    begins_ms: int
    ends_ms: int


def day_of(now_ms: int, zone: tzinfo) -> Stretch:
    today = _date(now_ms, zone)
    return Stretch(today.isoformat(), _midnight_ms(today, zone), _midnight_ms(today + timedelta(days=1), zone))


def month_of(now_ms: int, zone: tzinfo) -> Stretch:
    first = _date(now_ms, zone).replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Stretch(first.isoformat()[:7], _midnight_ms(first, zone), _midnight_ms(following, zone))


def _date(now_ms: int, zone: tzinfo) -> date:
    return datetime.fromtimestamp(now_ms // 1000, zone).date()


def _midnight_ms(day: date, zone: tzinfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
