"""What a budget rule means at a moment for whoever asks, and which thresholds are reached."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from scopegate.limits.budget import Per, Period, Rolling, account, accounts, reached
from scopegate.policy.policy import BudgetRule, WhenSpent


def rule(name: str = "day", period: Period = "day", per: Per | None = None, zone: str = "UTC") -> BudgetRule:
    return BudgetRule(name, 20_000_000, period, per, (0.5, 0.8, 0.95), WhenSpent.HOLD, ZoneInfo(zone))


def of(contractor: str | None) -> dict[Per, str | None]:
    return {Per.CONTRACTOR: contractor}


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
def test_periods_are_calendar_days_and_months_in_utc(period: Period, now: str, label: str, ends: str) -> None:
    meant = account(rule("all", period), ms(now), {})
    assert (meant.scope, meant.name, meant.cap_usd_micros, meant.ends_ms) == (
        f"all|{label}",
        "all",
        20_000_000,
        ms(ends),
    )


def test_a_day_is_that_of_its_zone() -> None:
    berlin = rule(zone="Europe/Berlin")
    assert account(berlin, ms("2026-11-23T22:59:59"), {}).scope == "day|2026-11-23"
    meant = account(berlin, ms("2026-11-23T23:00:00"), {})
    assert (meant.scope, meant.ends_ms) == ("day|2026-11-24", ms("2026-11-24T23:00:00"))


def test_a_rolling_account_is_one_whatever_the_time_and_another_one_for_another_window() -> None:
    now = ms("2026-11-24T08:00:00")
    meant = account(rule("hour", Rolling(3_600_000)), now, {})
    assert (meant.scope, meant.window_ms, meant.ends_ms) == ("hour|3600s", 3_600_000, now + 3_600_000)
    assert account(rule("hour", Rolling(3_600_000)), now + 86_400_000, {}).scope == meant.scope
    assert account(rule("hour", Rolling(7_200_000)), now, {}).scope != meant.scope


def test_a_total_never_ends() -> None:
    meant = account(rule("lead", "total", Per.LEAD), 0, {Per.LEAD: "lead-1"})
    assert (meant.scope, meant.ends_ms, meant.window_ms) == ("lead|total|lead-1", None, None)


@pytest.mark.parametrize("per", list(Per))
def test_a_rule_has_an_account_for_each_of_what_it_is_per(per: Per) -> None:
    now = ms("2026-11-24T08:00:00")
    payer = {one: f"{one}-1" for one in Per}
    meant = account(rule("each", per=per), now, payer)
    assert meant.scope == f"each|2026-11-24|{per}-1"
    assert account(rule("each", per=per), now, payer | {per: "another"}).scope != meant.scope
    assert account(rule("each", per=per), now, {}).scope == "each|2026-11-24|~none"
    assert account(rule(), now, payer).scope == "day|2026-11-24"


def test_a_contractor_cannot_pose_as_another_account() -> None:
    now, per = ms("2026-11-24T08:00:00"), rule("c", per=Per.CONTRACTOR)
    hostile = ["~none", "", "a|b", "x" * 65, "a b", "ä", "\ud800", "roofers-inc\n", "roofers|inc", "-", "a" * 10_000]
    scopes = [account(per, now, of(name)).scope for name in [*hostile, None, "roofers-inc"]]
    assert len(set(scopes)) == len(scopes)
    assert all(len(scope) < 60 and scope.count("|") == 2 and scope.isprintable() for scope in scopes)


def test_accounts_keep_the_rules_order() -> None:
    rules = [rule("day"), rule("month", "month"), rule("contractor-day", per=Per.CONTRACTOR)]
    assert [one.name for one in accounts(rules, 0, of("x"))] == ["day", "month", "contractor-day"]


@pytest.mark.parametrize(
    ("spent", "told", "expected"),
    [
        (0, 0.0, ()),
        (9_999_999, 0.0, ()),
        (10_000_000, 0.0, (0.5,)),
        (10_000_000, 0.5, ()),
        (16_000_000, 0.0, (0.5, 0.8)),
        (16_000_000, 0.5, (0.8,)),
        (18_999_999, 0.8, ()),
        (30_000_000, 0.0, (0.5, 0.8, 0.95)),
        (19_000_000, 0.95, ()),
    ],
)
def test_thresholds_are_reached_above_what_was_told(spent: int, told: float, expected: tuple[float, ...]) -> None:
    assert reached((0.95, 0.5, 0.8), 20_000_000, spent, told) == expected


def test_every_threshold_is_reached_exactly_once_however_spending_is_cut() -> None:
    found: list[float] = []
    for spent in range(0, 1000, 7):
        found += reached((0.1, 0.333, 0.8), 1000, spent, found[-1] if found else 0.0)
    assert found == [0.1, 0.333, 0.8]
