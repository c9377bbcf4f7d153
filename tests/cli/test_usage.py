"""`scopegate usage`: sums that agree with the ledger, by every key."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.cli.usage import first_day
from scopegate.clock import SystemClock
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from tests.cli.records import HOSTILE, within
from tests.policies import MINIMAL
from tests.stores.orders import booked, call

TODAY = "2999-12-31"
"""Later than any test runs, so that `--since 7d` counts it."""


async def _book(database: Database) -> None:
    ledger = SqlLedger(database)
    for n, (step, lead, cost, outcome) in enumerate(
        [("scope", "lead-1", 100, "ok"), ("scope", HOSTILE, 2_000_000, "ok"), ("estimate", "lead-1", 0, "overloaded")]
    ):
        record = call(f"call-{n}", cost, step=step, lead_id=lead, outcome=outcome, day=TODAY, contractor=None)
        await booked(ledger, record)
    await booked(ledger, call("old", 7, day="2020-01-01"))


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    within(tmp_path, _book)
    return tmp_path


def test_spend_by_step_adds_up(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--by", "step"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[:-2]]
    assert " ".join(rows[0]) == "STEP CALLS FAILED UNKNOWN INPUT OUTPUT CACHE READ CACHE WRITE COST SAVED"
    assert rows[1:] == [
        ["estimate", "1", "1", "0", "10", "5", "2", "1", "$0.000000", "$0.000000"],
        ["scope", "2", "0", "0", "20", "10", "4", "2", "$2.000100", "$0.000000"],
        ["total", "3", "1", "0", "30", "15", "6", "3", "$2.000100", "$0.000000"],
    ]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("day", [TODAY]),
        ("model", ["claude-haiku-5-5"]),
        ("step", ["estimate", "scope"]),
        ("lead", ["lead-1", HOSTILE]),
        ("contractor", [None]),
        ("offload", ["photos"]),
    ],
)
def test_every_key_sums_to_the_same(
    ledger: Path, by: str, keys: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--by", by, "--since", "7d", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in found["rows"]] == keys
    assert sum(row["cost_usd_micros"] for row in found["rows"]) == 2_000_100
    assert main(["usage", "--by", by]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert len(text.splitlines()) == (3 if len(keys) == 1 else 4) - (len(keys) == 1) + 2


def test_since_a_date(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--since", "2020-01-01"]) == 0
    assert "2020-01-01" in capsys.readouterr().out
    assert main(["usage", "--since", "3000-01-01"]) == 0
    assert capsys.readouterr().out.startswith("no model calls since 3000-01-01\n")


@pytest.mark.parametrize(
    ("since", "day"), [(1, "2027-01-15"), (7, "2027-01-09"), (30, "2026-12-17"), (date(2020, 2, 29), "2020-02-29")]
)
def test_days_include_today(since: int | date, day: str) -> None:
    assert first_day(since, 1_800_000_000_000) == day


@pytest.mark.parametrize("words", [["--by", "moon"], ["--since", "week"], ["--since", "0d"], ["--since", "99999d"]])
def test_wrong_usage_is_2(ledger: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", *words]) == 2
    assert "usage: scopegate usage" in capsys.readouterr().err


async def _book_now(database: Database) -> None:
    now_ms = SystemClock().now_ms()
    await booked(SqlLedger(database), call("now", 500, started_ms=now_ms, contractor=None))


def test_it_says_what_day_and_month_are_likely_to_cost(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    within(tmp_path, _book_now)
    assert main(["usage", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["forecast"]
    assert told["time_zone"] == "UTC"
    for period in ("day", "month"):
        assert told[period]["spent_usd_micros"] == 500
        assert told[period]["expected_usd_micros"] >= 500
    assert main(["usage"]) == 0
    *_, day, month = capsys.readouterr().out.splitlines()
    assert day.startswith(f"{told['day']['period']} (UTC): $0.000500 so far, $0.")
    assert month.startswith(f"{told['month']['period']} (UTC): $0.000500 so far, $0.")


def test_days_of_the_forecast_are_those_of_the_policys_time_zone(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "gateway.yaml"
    policy.write_text(MINIMAL + "ai: {time_zone: Pacific/Kiritimati}\n")
    assert main(["usage", "--json", "-c", str(policy)]) == 0
    told = json.loads(capsys.readouterr().out)["forecast"]
    assert told["time_zone"] == "Pacific/Kiritimati"
    assert told["day"]["ends"].endswith("T10:00:00.000Z")


def test_a_policy_with_problems_is_78(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "gateway.yaml"
    policy.write_text(MINIMAL + "ai: {time_zone: Nowhere}\n")
    assert main(["usage", "-c", str(policy)]) == 78
    assert "ai.time_zone" in capsys.readouterr().err
