"""Values that the contract suites of the database ports share."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from scopegate.leads.job import SENT, CallRecord, Lead, LeadJob, LeadOrder, OrderState
from scopegate.limits.budget import Account, Reservation
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox

HOSTILE = "NUL \x00, half a pair \ud800, \ufffe, '; DROP TABLE jobs; -- 💧"
"""Text that JSON may carry into a lead and that an engine would refuse or misread."""


def order(n: int = 1, received_ms: int = 1_000, offload: str = "photos") -> LeadOrder:
    return LeadOrder(f"order-{n}", offload, "submit-lead", f"req-{n}", received_ms, {"text": HOSTILE, "n": n})


def lead(lead_id: str = "lead-1", contractor: str | None = "roofers") -> Lead:
    return Lead(lead_id, contractor, f"The roof leaks. {HOSTILE}", ("https://photos.example/1.jpg",))


async def accepted(database: Database, n: int = 1, received_ms: int = 1_000) -> LeadJob:
    """A queued job, made as the gateway makes one."""
    job = await SqlOutbox(database).settle(order(n, received_ms), OrderState.ACCEPTED, 201, lead(f"lead-{n}"))
    assert job is not None
    return job


CALL = CallRecord(
    call_id="call-1",
    job_id="job-1",
    lead_id="lead-1",
    contractor="roofers",
    offload="photos",
    step="scope",
    step_attempt=1,
    call_n=1,
    model="claude-haiku-5-5",
    started_ms=1_000,
    duration_ms=20,
    outcome="ok",
    status=200,
    api_request_id="req_1",
    input_tokens=10,
    output_tokens=5,
    cache_read_tokens=2,
    cache_write_tokens=1,
    cost_usd_micros=100,
    price_version="2026-11-01",
    day="2026-11-24",
)


def call(call_id: str, cost_usd_micros: int = 100, **changes: Any) -> CallRecord:
    return replace(CALL, call_id=call_id, cost_usd_micros=cost_usd_micros, **changes)


_numbers = itertools.count(1)


def intent(worst_usd_micros: int, now_ms: int = 0, **changes: Any) -> CallRecord:
    """A call that is about to be sent, with an id of its own."""
    sent = call(f"call-{next(_numbers)}", worst_usd_micros, started_ms=now_ms, outcome=SENT, status=None)
    return replace(sent, api_request_id=None, **changes)


async def booked(ledger: SqlLedger, record: CallRecord, *accounts: Account) -> None:
    """A call from its intent to its end."""
    reservation = await ledger.reserve(accounts, intent(0, call_id=record.call_id), 10_000_000)
    assert isinstance(reservation, Reservation)
    await ledger.settle(reservation, record)
