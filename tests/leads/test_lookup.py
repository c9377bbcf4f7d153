"""When the app is asked about an order that nobody settled, and what its answer means."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scopegate.leads import lookup
from scopegate.leads.job import Lead, LeadOrder, OrderRecord, OrderState, Unreadable
from scopegate.policy.policy import Lookup
from tests.worker.house import offload

LOOKUP = Lookup("http://127.0.0.1:9/lookup", frozenset({200}), frozenset({404, 410}))
OFFLOAD = replace(offload("127.0.0.1:9"), lookup=LOOKUP)
ORDER = LeadOrder("ord_1", "lead-photos", "lead", "r-1", 1_000, {"projectDescription": "It leaks.", "photos": []})
RECORD = OrderRecord(ORDER, OrderState.UNKNOWN, None, None, asked=1)
OLD_MS = 1_000 + lookup.ABSENT_MS


def judged(status: int, body: object = None, now_ms: int = OLD_MS, coding: str = "") -> tuple[str, str | None] | None:
    settled = lookup.judge(OFFLOAD, LOOKUP, RECORD, status, json.dumps(body).encode(), coding, now_ms)
    return None if settled is None else (settled.state, settled.lead.lead_id if settled.lead else None)


def test_a_lead_that_is_found_is_read_like_the_first_answer() -> None:
    settled = lookup.judge(OFFLOAD, LOOKUP, RECORD, 200, b'{"id": 7}', "", 2_000)
    assert settled is not None
    assert (settled.state, settled.status) == (OrderState.ACCEPTED, 200)
    assert settled.lead == Lead("7", None, "It leaks.", ())
    assert settled.answer is not None
    assert settled.answer.body == b'{"id": 7}'


@pytest.mark.parametrize(("body", "coding"), [({}, ""), ({"id": {}}, ""), ({"id": 1}, "gzip")])
def test_an_answer_that_cannot_be_read_waits_for_a_person(body: object, coding: str) -> None:
    assert judged(200, body, coding=coding) == (OrderState.UNREADABLE, None)


@pytest.mark.parametrize("status", [404, 410])
def test_that_there_is_no_lead_is_believed_of_an_old_order_alone(status: int) -> None:
    assert judged(status) == (OrderState.REFUSED, None)
    assert judged(status, now_ms=OLD_MS - 1) is None


@pytest.mark.parametrize("status", [201, 202, 204, 301, 400, 401, 403, 429, 500, 503])
def test_any_other_answer_says_nothing(status: int) -> None:
    assert judged(status, {"id": 1}) is None


def test_pauses_grow_and_outlast_the_app() -> None:
    pauses = [lookup.pause_ms(asked) for asked in range(1, lookup.MAX_ASKED + 1)]
    assert pauses[:4] == [5_000, 10_000, 20_000, 40_000]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 600_000
    assert lookup.FIRST_MS + sum(pauses[:-1]) > 3_600_000, "an app that is down for an hour is still asked"


def test_the_question_names_the_order_and_holds_what_was_sent() -> None:
    assert lookup.question(RECORD) == {
        "order_id": "ord_1",
        "request_id": "r-1",
        "offload": "lead-photos",
        "route": "lead",
        "request": ORDER.request,
    }
    unread = replace(RECORD, order=replace(ORDER, request=Unreadable("it is not JSON", b"\xff")))
    assert lookup.question(unread)["request"] is None
