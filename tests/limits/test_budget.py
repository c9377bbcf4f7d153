"""What a budget rule means at a moment, and which thresholds a settlement crosses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from scopegate.limits.budget import account, accounts, crossed
from scopegate.policy.policy import BudgetRule, WhenSpent


def rule(name: str = "day", period: str = "day", per: str | None = None) -> BudgetRule:
    return BudgetRule(name, 20_000_000, period, per, (0.5, 0.8, 0.95), WhenSpent.HOLD)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("period", "now", "label", "ends"),
    [
        ("day", "2026-11-24T00:00:00", "2026-11-24", "2026-11-25T00:00:00"),
        ("day", "2026-11-24T23:59:59.999", "2026-11-24", "2026-11-25T00:00:00"),
        ("day", "2026-12-31T12:00:00", "2026-12-31", "2027-01-01T00:00:00"),
        ("day", "2028-02-28T12:00:00", "2028-02-28", "2028-02-29T00:00:00"),
        ("month", "2026-11-24T08:00:00", "2026-11", "2026-12-01T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2027-01-01T00:00:00"),
        ("month", "2027-01-31T10:00:00", "2027-01", "2027-02-01T00:00:00"),
        ("month", "2028-02-01T00:00:00", "2028-02", "2028-03-01T00:00:00"),
    ],
)
def test_periods_are_calendar_days_and_months_in_utc(period: str, now: str, label: str, ends: str) -> None:
    meant = account(rule("all", period), ms(now))
    assert (meant.scope, meant.name, meant.cap_usd_micros, meant.ends_ms) == (
        f"all|{label}",
        "all",
        20_000_000,
        ms(ends),
    )


def test_a_rule_per_contractor_has_an_account_each() -> None:
    now = ms("2026-11-24T08:00:00")
    per = rule("contractor-day", per="contractor")
    assert account(per, now, "roofers-inc").scope == "contractor-day|2026-11-24|roofers-inc"
    assert account(per, now, None).scope == "contractor-day|2026-11-24|~none"
    assert account(rule(), now, "roofers-inc").scope == "day|2026-11-24"


def test_a_contractor_cannot_pose_as_another_account() -> None:
    now, per = ms("2026-11-24T08:00:00"), rule("c", per="contractor")
    hostile = ["~none", "", "a|b", "x" * 65, "a b", "ä", "\ud800", "roofers-inc\n", "roofers|inc", "-", "a" * 10_000]
    scopes = [account(per, now, name).scope for name in [*hostile, None, "roofers-inc"]]
    assert len(set(scopes)) == len(scopes)
    assert all(len(scope) < 60 and scope.count("|") == 2 and scope.isprintable() for scope in scopes)


def test_accounts_keep_the_rules_order() -> None:
    rules = [rule("day"), rule("month", "month"), rule("contractor-day", per="contractor")]
    assert [one.name for one in accounts(rules, 0, "x")] == ["day", "month", "contractor-day"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0, 0, ()),
        (0, 9_999_999, ()),
        (0, 10_000_000, (0.5,)),
        (10_000_000, 10_000_001, ()),
        (9_999_999, 16_000_000, (0.5, 0.8)),
        (16_000_000, 18_999_999, ()),
        (0, 30_000_000, (0.5, 0.8, 0.95)),
        (19_000_000, 20_000_000, ()),
    ],
)
def test_thresholds_are_crossed_once(before: int, after: int, expected: tuple[float, ...]) -> None:
    assert crossed((0.95, 0.5, 0.8), 20_000_000, before, after) == expected


def test_every_threshold_is_told_exactly_once_however_spending_is_cut() -> None:
    told: list[float] = []
    for before in range(0, 1000, 7):
        told += crossed((0.1, 0.333, 0.8), 1000, before, before + 7)
    assert told == [0.1, 0.333, 0.8]
