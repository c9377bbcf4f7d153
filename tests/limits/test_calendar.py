"""Days and months of any time zone follow each other without a gap, whatever its clocks do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from scopegate.limits.calendar import Stretch, day_of, month_of

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def hours(of: Stretch) -> float:
    return (of.ends_ms - of.begins_ms) / HOUR_MS


@pytest.mark.parametrize(
    ("zone", "now", "label", "length"),
    [
        ("UTC", "2026-03-29T12:00", "2026-03-29", 24),
        ("Europe/Berlin", "2026-03-29T12:00", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25T12:00", "2026-10-25", 25),
        ("America/New_York", "2026-11-01T12:00", "2026-11-01", 25),
        ("America/New_York", "2026-11-01T03:59", "2026-10-31", 24),
        ("Australia/Lord_Howe", "2026-10-04T06:00", "2026-10-04", 23.5),  # half an hour of summer time
        ("America/Santiago", "2026-09-06T12:00", "2026-09-06", 23),  # no midnight: the day begins at one
        ("America/Santiago", "2026-04-05T02:30", "2026-04-04", 25),  # eleven at night comes twice
        ("America/Havana", "2026-11-01T04:30", "2026-11-01", 25),  # midnight comes twice
        ("America/Havana", "2026-11-01T05:30", "2026-11-01", 25),
        ("Asia/Kathmandu", "2026-11-24T18:15", "2026-11-25", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, now: str, label: str, length: float) -> None:
    day = day_of(ms(now), ZoneInfo(zone))
    assert (day.label, hours(day)) == (label, length)
    assert day.begins_ms <= ms(now) < day.ends_ms


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "America/Havana", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("span_of", [day_of, month_of])
def test_each_moment_is_in_one_span_and_the_next_begins_where_it_ends(
    zone: str, span_of: Callable[[int, tzinfo], Stretch]
) -> None:
    rules, at_ms, end_ms = ZoneInfo(zone), ms("2025-12-31T00:00"), ms("2027-01-02T00:00")
    span = span_of(at_ms, rules)
    while at_ms < end_ms:
        assert span_of(at_ms, rules) == span
        assert span_of(span.ends_ms - 1, rules) == span
        if at_ms + HOUR_MS // 2 >= span.ends_ms:
            following = span_of(span.ends_ms, rules)
            assert (following.begins_ms, following.label > span.label) == (span.ends_ms, True)
            span = following
            at_ms = span.begins_ms
        else:
            at_ms += HOUR_MS // 2


def test_a_month_is_that_of_its_zone() -> None:
    tokyo = month_of(ms("2026-11-30T15:00"), ZoneInfo("Asia/Tokyo"))
    assert (tokyo.label, tokyo.begins_ms, tokyo.ends_ms) == ("2026-12", ms("2026-11-30T15:00"), ms("2026-12-31T15:00"))
    assert month_of(ms("2027-01-31T10:00"), ZoneInfo("UTC")).ends_ms == ms("2027-02-01T00:00")
