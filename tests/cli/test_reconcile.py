"""`scopegate reconcile`: 0 when every micro-dollar is explained, 1 when one is not, 2 for a file that is not whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import SENT, CallRecord
from scopegate.limits.budget import Account, Reservation
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from tests.bills.exports import lost, row, usage_csv, usage_line
from tests.cli.records import within
from tests.stores.orders import booked

NOON_MS = 1_700_049_600_000
"""2023-11-15T12:00:00Z: over, whenever tests run."""
DAY = "2023-11-15"
BUDGET = Account(f"day|{DAY}", "day", 100_000, NOON_MS + 43_200_000)
EXPORT = usage_csv(usage_line(DAY, counts=(1_700, 130)))


def at_noon(record: CallRecord) -> CallRecord:
    return replace(record, started_ms=NOON_MS, duration_ms=0, day=DAY)


async def _book(database: Database) -> None:
    """One call that ended well, and one whose worker died."""
    ledger = SqlLedger(database)
    await booked(ledger, at_noon(row("known")), BUDGET)
    gone = await ledger.reserve([BUDGET], at_noon(lost("gone", outcome=SENT)), NOON_MS + 1_000)
    assert isinstance(gone, Reservation)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    within(tmp_path, _book)
    return tmp_path


def ledger_of(folder: Path) -> tuple[dict[str, tuple[str, int]], int]:
    """The calls, and what is spent of the budget."""

    async def look(database: Database) -> tuple[dict[str, tuple[str, int]], int]:
        ledger = SqlLedger(database)
        calls = {one.call_id: (one.outcome, one.cost_usd_micros) for one in await ledger.calls()}
        return calls, (await ledger.accounts([BUDGET.scope], NOON_MS))[BUDGET.scope][0]

    return within(folder, look)


def reconcile(folder: Path, content: bytes, *words: str) -> int:
    file = folder / "usage.csv"
    file.write_bytes(content)
    return main(["reconcile", "--usage", str(file), *words])


def test_what_nobody_had_learnt_is_put_right_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconcile(folder, EXPORT) == 0
    told = capsys.readouterr().out
    assert "1 calls put right; $0.000000 unexplained" in told
    assert ledger_of(folder) == ({"known": ("ok", 150), "gone": ("reconciled", 85)}, 235)
    assert reconcile(folder, EXPORT) == 0
    assert "0 calls put right; $0.000000 unexplained" in capsys.readouterr().out
    assert ledger_of(folder)[1] == 235


def test_a_dry_run_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconcile(folder, EXPORT, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["corrected"] == 0
    [found] = told["rows"]
    assert found["corrections"] == [
        {"call_id": "gone", "lead_id": "lead-1", "was_usd_micros": 5_000, "cost_usd_micros": 85}
    ]
    assert ledger_of(folder) == ({"known": ("ok", 150), "gone": ("unknown", 5_000)}, 5_150)


def test_one_unexplained_token_is_1_and_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconcile(folder, usage_csv(usage_line(DAY, counts=(999, 100))), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["unexplained_usd_micros"] == 1
    assert "the ledger has 1 input tokens that the provider has not" in told["rows"][0]["reasons"]
    assert ledger_of(folder)[0]["gone"] == ("unknown", 5_000)
    assert reconcile(folder, usage_csv(usage_line(DAY, counts=(999, 100)))) == 1
    assert f"{DAY}: the ledger has 1 input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (EXPORT[:-25], "usage.csv, line 2: has 7 of 14 columns"),
        (EXPORT + EXPORT.split(b"\n")[1] + b"\n", "usage.csv, line 3: stands at"),
        (EXPORT.replace(b"1700", b"-1"), "below zero"),
        (b'{"data": [', "line 1: is cut or broken"),
    ],
)
def test_a_file_that_is_not_whole_is_2_and_changes_nothing(
    folder: Path, content: bytes, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconcile(folder, content) == 2
    told = capsys.readouterr()
    assert fault in told.err
    assert told.out == ""
    assert ledger_of(folder)[0]["gone"] == ("sent", 5_000)


def test_a_file_that_is_not_there_is_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconcile", "--usage", str(folder / "none.csv")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_days_that_are_not_over_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconcile(folder, usage_csv(usage_line("2999-01-01"))) == 0
    assert "left out, not over yet: 2999-01-01" in capsys.readouterr().out
