"""A forecast is what was spent, and the rest of the period at the rate of late."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from scopegate.limits.forecast import DAY_MS, Expectation, Horizon, forecast, horizons

NOW_MS = int(datetime(2026, 11, 24, 6, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000


def of_day(spent: int, recent: int, first_ms: int | None) -> Expectation:
    return forecast(horizons(NOW_MS, UTC)[0], spent, recent, first_ms, NOW_MS)


def of_month(spent: int, recent: int, first_ms: int | None) -> Expectation:
    return forecast(horizons(NOW_MS, UTC)[1], spent, recent, first_ms, NOW_MS)


def test_the_rest_of_the_day_costs_what_the_last_day_did() -> None:
    """Six hours are over, eighteen are left: three quarters of what the last 24 hours cost."""
    assert of_day(1_000, 4_000, 0) == Expectation("2026-11-24", 1_000, 1_000 + 3_000, NOW_MS + 18 * HOUR_MS)


def test_the_rest_of_the_month_costs_what_the_last_week_did() -> None:
    found = of_month(50_000, 7_000, 0)
    assert (found.period, found.spent_usd_micros) == ("2026-11", 50_000)
    assert found.expected_usd_micros == 50_000 + 6_750  # 6.75 days at 1,000 a day


def test_a_young_ledger_tells_of_the_time_that_it_knows() -> None:
    assert of_day(1_000, 1_000, NOW_MS - 6 * HOUR_MS).expected_usd_micros == 4_000
    assert of_month(1_000, 1_000, NOW_MS - DAY_MS).expected_usd_micros == 1_000 + 6_750


def test_a_minute_says_nothing_about_a_rate() -> None:
    assert of_day(10, 10, NOW_MS - 60_000).expected_usd_micros == 10 + 180  # as if it were an hour
    assert of_month(10, 10, NOW_MS - 60_000).expected_usd_micros == 10 + 68  # as if it were a day, rounded up


def test_nothing_is_expected_of_nothing() -> None:
    assert of_day(0, 0, None).expected_usd_micros == 0
    assert of_month(5, 0, 0).expected_usd_micros == 5


def test_periods_are_those_of_the_zone() -> None:
    day, month = horizons(NOW_MS, ZoneInfo("Pacific/Kiritimati"))
    assert (day.period.label, month.period.label) == ("2026-11-24", "2026-11")
    assert horizons(NOW_MS + 4 * HOUR_MS, ZoneInfo("Pacific/Kiritimati"))[0].period.label == "2026-11-25"
    assert isinstance(day, Horizon)
    assert (NOW_MS - day.recent_ms, NOW_MS - month.recent_ms) == (DAY_MS, 7 * DAY_MS)
