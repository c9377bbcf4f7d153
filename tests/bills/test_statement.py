from __future__ import annotations

import pytest

from scopegate.bills.export import read
from scopegate.bills.statement import plain_model, whole_days
from tests.bills.exports import NOON_MS, usage_csv, usage_line


@pytest.mark.parametrize(
    "name", ["claude-haiku-4-5", "Claude Haiku 4.5", "claude-haiku-4-5-20251001", " Claude-Haiku-4.5 "]
)
def test_a_model_is_one_however_it_is_spelt(name: str) -> None:
    assert plain_model(name) == "claude-haiku-4-5"


def test_other_models_stay_others() -> None:
    assert (
        len({plain_model(name) for name in ("claude-haiku-4-5", "claude-haiku-5-5", "claude-haiku-4", "haiku-4-5")})
        == 4
    )


@pytest.mark.parametrize(
    ("hours_later", "days"), [(0, {"2026-11-23"}), (12.9, {"2026-11-23"}), (13, {"2026-11-23", "2026-11-24"})]
)
def test_a_day_counts_an_hour_after_it_is_over(hours_later: float, days: set[str]) -> None:
    found = read([("F", usage_csv(usage_line("2026-11-23"), usage_line("2026-11-24")))])
    whole = whole_days(found, NOON_MS + round(hours_later * 3_600_000))
    assert whole.days == days
    assert {line.day for line in whole.usages} == days
