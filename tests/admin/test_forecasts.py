"""Forecasts as the ledger gives them; what they are is tested in `limits/test_forecast`."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from scopegate.admin.forecasts import forecast_row, read_forecasts
from tests.admin import house
from tests.admin.conftest import House


async def test_day_and_month_are_read_in_the_zone(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.book(home.ledger, job, 24_000)
    found = await read_forecasts(home.ledger, house.NOW_MS + 3_600_000, UTC)
    assert {name: (one.period, one.spent_usd_micros) for name, one in found.items()} == {
        "day": ("2027-01-15", 24_000),
        "month": ("2027-01", 24_000),
    }
    assert found["day"].expected_usd_micros == 24_000 + 15 * 24_000
    far = await read_forecasts(home.ledger, house.NOW_MS + 3_600_000, ZoneInfo("Pacific/Kiritimati"))
    assert far["day"].period == "2027-01-15"
    assert far["day"].spent_usd_micros == 24_000
    next_day = await read_forecasts(home.ledger, house.NOW_MS + 3 * 3_600_000, ZoneInfo("Pacific/Kiritimati"))
    assert (next_day["day"].period, next_day["day"].spent_usd_micros) == ("2027-01-16", 0)


async def test_a_row_is_whole(home: House) -> None:
    found = await read_forecasts(home.ledger, house.NOW_MS, UTC)
    assert forecast_row(found["day"]) == {
        "period": "2027-01-15",
        "ends": "2027-01-16T00:00:00.000Z",
        "spent_usd_micros": 0,
        "spent_usd": 0.0,
        "expected_usd_micros": 0,
        "expected_usd": 0.0,
    }
