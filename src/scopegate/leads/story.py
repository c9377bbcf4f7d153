"""The story of a lead: everything that is on record about it, in order of time.

Pure. `scopegate explain-lead` finds the records and shows the events. Of the visitor's words and of photo addresses
nothing is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from scopegate.leads.job import OPEN_OUTCOMES, Attempt, CallRecord, LeadJob, OrderRecord, StepRecord
from scopegate.limits.steps import SENT_STEPS
from scopegate.types import Json

_RANKS: Final = ("order", "job", "attempt", "delivery", "call", "end")
"""Of what happened in the same millisecond, what comes first."""


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What is known of a lead, or of a request: `calls` are those of its jobs."""

    orders: tuple[OrderRecord, ...] = ()
    jobs: tuple[LeadJob, ...] = ()
    calls: tuple[CallRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is one of order, job, attempt, delivery, call, end; `subject` the id of what it happened to; `took_ms` is
    None where it has no length or has not ended; `cost_usd_micros` is set for calls alone, so that a sum counts each
    once."""

    at_ms: int
    kind: str
    subject: str
    detail: str
    took_ms: int | None = None
    cost_usd_micros: int = 0

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


def tell(records: OnRecord) -> tuple[Event, ...]:
    """Oldest first."""
    events = [*_orders(records.orders), *_jobs(records.jobs), *_calls(records.calls)]
    return tuple(sorted(events, key=lambda event: (event.at_ms, _RANKS.index(event.kind))))


def cost_usd_micros(events: Sequence[Event]) -> int:
    return sum(event.cost_usd_micros for event in events)


def _orders(orders: Sequence[OrderRecord]) -> Iterator[Event]:
    for one in orders:
        said = "no answer of the app" if one.status is None else f"the app said {one.status}"
        detail = f"request {one.order.request_id} of route {one.order.route}: {one.state.value}, {said}"
        yield Event(one.order.received_ms, "order", one.order.order_id, detail)


def _jobs(jobs: Sequence[LeadJob]) -> Iterator[Event]:
    for job in jobs:
        again = f", replay of {job.replay_of}" if job.replay_of else ""
        photos = f"{len(job.lead.photos)} photo{'' if len(job.lead.photos) == 1 else 's'}"
        yield Event(job.created_ms, "job", job.job_id, f"offload {job.offload}, {photos}{again}")
        for step in job.steps:
            for attempt in step.attempts:
                yield _attempt(step, attempt)
        if job.finished_ms is not None:
            yield Event(job.finished_ms, "end", job.job_id, _end(job))


def _attempt(step: StepRecord, attempt: Attempt) -> Event:
    kind = "delivery" if step.name in SENT_STEPS else "attempt"
    how = attempt.state.value if attempt.error_code is None else f"{attempt.state.value}, {attempt.error_code}"
    took_ms = None if attempt.finished_ms is None else attempt.finished_ms - attempt.started_ms
    return Event(attempt.started_ms, kind, step.name.value, f"attempt {attempt.n}: {how}", took_ms)


def _end(job: LeadJob) -> str:
    if job.error_code is not None:
        return f"{job.state.value}, {job.error_code}"
    return f"{job.state.value}, score {job.score}"


def _calls(calls: Sequence[CallRecord]) -> Iterator[Event]:
    for call in calls:
        tokens = f"{call.input_tokens} tokens in, {call.output_tokens} out"
        detail = f"{call.step} attempt {call.step_attempt}, try {call.call_n}: {call.model}, {call.outcome}, {tokens}"
        took_ms = None if call.outcome in OPEN_OUTCOMES else call.duration_ms
        yield Event(call.started_ms, "call", call.call_id, detail, took_ms, call.cost_usd_micros)
