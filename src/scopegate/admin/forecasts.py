"""What the present day and month are likely to cost, read from the ledger; told by the API, the metrics and the
command line."""

from __future__ import annotations

from datetime import tzinfo

from scopegate.admin.records import moment, usd
from scopegate.limits.forecast import Expectation, forecast, horizons
from scopegate.stores.ports import Ledger
from scopegate.types import Json


async def read_forecasts(ledger: Ledger, now_ms: int, zone: tzinfo) -> dict[str, Expectation]:
    """Of the `day` and of the `month`."""
    day, month = horizons(now_ms, zone)
    wanted = [day.period.begins_ms, day.recent_ms, month.period.begins_ms, month.recent_ms]
    (today, last_day, this_month, last_week), first_ms = await ledger.spent_since(wanted)
    return {
        "day": forecast(day, today, last_day, first_ms, now_ms),
        "month": forecast(month, this_month, last_week, first_ms, now_ms),
    }


def forecast_row(of: Expectation) -> dict[str, Json]:
    return {
        "period": of.period,
        "ends": moment(of.ends_ms),
        "spent_usd_micros": of.spent_usd_micros,
        "spent_usd": usd(of.spent_usd_micros),
        "expected_usd_micros": of.expected_usd_micros,
        "expected_usd": usd(of.expected_usd_micros),
    }
