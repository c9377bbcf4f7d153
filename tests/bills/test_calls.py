"""A ledger held against a list of single calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scopegate.bills.export import read
from scopegate.bills.matching import match
from scopegate.bills.statement import Reckoning
from scopegate.leads.job import CallRecord
from tests.bills.exports import MODEL, NOON_MS, PRICES, lost, row


def seen(request_id: str, at_ms: int = NOON_MS, counts: tuple[int, int] = (1_000, 100)) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "at_ms": at_ms,
        "model": MODEL,
        "input_tokens": counts[0],
        "output_tokens": counts[1],
    }


def reckon(calls: list[dict[str, Any]], *rows: CallRecord) -> Reckoning:
    told = {"calls": calls, "since_ms": NOON_MS - 3_600_000, "until_ms": NOON_MS + 3_600_000}
    [found] = match(read([("F", json.dumps(told).encode())]), rows, PRICES)
    return found


def test_calls_meet_by_their_request_ids() -> None:
    found = reckon(
        [seen("r1"), seen("r2", counts=(5, 6))], row("c2", (5, 6), api_request_id="r2"), row("c1", api_request_id="r1")
    )
    assert (found.calls, found.corrections, found.reasons) == (2, (), ())
    assert found.ledger_usd_micros == found.provider_usd_micros


def test_errors_are_billed_by_nobody() -> None:
    failed = row("c1", (0, 0), cost_usd_micros=0, outcome="overloaded", api_request_id=None)
    assert reckon([seen("r1", counts=(0, 0))], failed).reasons == ()


def test_an_answer_whose_caller_died_is_the_lost_call_that_began_last_before_it() -> None:
    first, second = lost("c1", started_ms=NOON_MS - 20_000), lost("c2", started_ms=NOON_MS - 9_000)
    found = reckon([seen("r1", NOON_MS, (700, 7))], first, second)
    after = {one.after.call_id: (one.after.input_tokens, one.after.cost_usd_micros) for one in found.corrections}
    assert after == {"c1": (0, 0), "c2": (700, 74)}
    assert found.reasons == ()
    assert found.ledger_usd_micros == found.provider_usd_micros == 74


def test_an_answer_that_came_and_could_not_be_read_is_put_right_by_its_id() -> None:
    broken = lost("c1", outcome="server_error", api_request_id="r1", started_ms=NOON_MS - 60_000)
    gone = lost("c2", started_ms=NOON_MS - 1_000)
    found = reckon([seen("r1")], broken, gone)
    assert {one.after.call_id: one.after.cost_usd_micros for one in found.corrections} == {"c1": 150, "c2": 0}


@pytest.mark.parametrize(
    ("calls", "rows", "unexplained", "reason"),
    [
        ([seen("r1")], [], 150, r"F, calls[0]: the ledger has no such call"),
        ([], [row("c1", api_request_id="r1")], 150, "c1: the provider has no such call"),
        (
            [seen("r1", counts=(1_010, 100))],
            [row("c1", api_request_id="r1")],
            1,
            "c1: has other tokens than F, calls[0]",
        ),
        ([seen("r1")], [lost("c1", 149)], 150, "F, calls[0]: is more than c1 can have cost"),
        ([seen("r1", NOON_MS)], [lost("c1", started_ms=NOON_MS + 60_000)], 150, "the ledger has no such call"),
        ([seen("r1")], [lost("c1", outcome="sent")], 150, "c1: is in flight"),
    ],
)
def test_what_nobody_can_explain_is_told(
    calls: list[dict[str, Any]], rows: list[CallRecord], unexplained: int, reason: str
) -> None:
    found = reckon(calls, *rows)
    assert found.unexplained_usd_micros == unexplained
    assert any(reason in told for told in found.reasons)


def test_a_call_that_nobody_answered_yet_is_no_difference() -> None:
    assert reckon([], lost("c1", outcome="sent")).reasons == ()


def test_calls_of_another_time_are_no_matter() -> None:
    early, late = row("c1", started_ms=NOON_MS - 3_700_000), row("c2", started_ms=NOON_MS + 3_700_000)
    found = reckon([seen("r1")], early, late, row("c3", api_request_id="r1"))
    assert (found.calls, found.reasons) == (1, ())
