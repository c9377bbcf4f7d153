"""What came of the demo's story, as values: what was seen, what is wrong with it, the report as JSON. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scopegate.limits.steps import StepName
from scopegate.types import Json

QUICK_LEADS = 15
STRICT_LIMIT = 10
STRICT_SPAN_S = 10
PROMISED_FAULTS = ("error 529", "error 500")
STEPS = tuple(step.value for step in StepName)
_LIMIT_FIELDS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to `POST /api/leads`. `fields` have lower-case names; `seconds` from sending to the last byte."""

    status: int
    fields: Mapping[str, str]
    seconds: float
    lead_id: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.status == 201

    @property
    def is_limited(self) -> bool:
        return self.status == 429


@dataclass(frozen=True, slots=True)
class StepView:
    """A step as the admin port shows it. `errors`: the codes of its failed attempts, oldest first."""

    name: str
    state: str
    attempts: int
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallView:
    """A model call as the ledger has it."""

    step: str
    call_n: int
    outcome: str
    input_tokens: int
    output_tokens: int
    duration_ms: int
    cost_usd_micros: int


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the admin port shows it."""

    job_id: str
    lead_id: str
    state: str
    error_code: str | None
    steps: tuple[StepView, ...]
    calls: tuple[CallView, ...]
    cost_usd_micros: int

    @property
    def is_final(self) -> bool:
        return self.state in ("done", "failed")


@dataclass(frozen=True, slots=True)
class StoryResult:
    """Everything the story saw. `ledger_usd_micros` is the ledger's own sum for the lead; `promised_failures` is how
    often the model was made to fail, None when nobody could make it."""

    quick: tuple[Answer, ...]
    direct: tuple[Answer, ...]
    job: JobView
    promised_failures: int | None
    ledger_usd_micros: int
    has_analysis: bool
    score: int | None
    metrics_families: int

    @property
    def is_delivered(self) -> bool:
        return self.has_analysis and self.score is not None


def job_view(detail: Mapping[str, Any]) -> JobView:
    """From the admin port's JSON."""
    return JobView(
        job_id=detail["job_id"],
        lead_id=detail["lead_id"],
        state=detail["state"],
        error_code=detail["error_code"],
        steps=tuple(_step_view(step) for step in detail["steps"]),
        calls=tuple(CallView(**{name: call[name] for name in CallView.__slots__}) for call in detail["calls"]),
        cost_usd_micros=detail["cost_usd_micros"],
    )


def _step_view(step: Mapping[str, Any]) -> StepView:
    errors = tuple(attempt["error_code"] for attempt in step["attempts"] if attempt["error_code"])
    return StepView(step["name"], step["state"], len(step["attempts"]), errors)


def median_ms(answers: Sequence[Answer]) -> float:
    """The median time of the accepted ones, in milliseconds; 0 when there is none."""
    times = [answer.seconds * 1000 for answer in answers if answer.is_accepted]
    return round(statistics.median(times), 2) if times else 0.0


def quick_complaints(answers: Sequence[Answer]) -> list[str]:
    """What is wrong with the answers to leads sent in quick succession: the promise is exact, so is the check."""
    found = []
    accepted = sum(answer.is_accepted for answer in answers)
    limited = sum(answer.is_limited for answer in answers)
    if (accepted, limited) != (STRICT_LIMIT, QUICK_LEADS - STRICT_LIMIT):
        statuses = " ".join(str(answer.status) for answer in answers)
        found.append(f"of {QUICK_LEADS} quick leads {accepted} were accepted and {limited} limited: {statuses}")
    for n, answer in enumerate(answers, 1):
        found += [f"quick lead {n}: {what}" for what in _field_complaints(n, answer)]
    return found


def _field_complaints(n: int, answer: Answer) -> list[str]:
    absent = [name for name in _LIMIT_FIELDS if not answer.fields.get(name, "").isdigit()]
    if absent:
        return [f"no number in {name}" for name in absent]
    found = []
    if answer.fields["x-ratelimit-limit"] != str(STRICT_LIMIT):
        found.append(f"x-ratelimit-limit is {answer.fields['x-ratelimit-limit']}")
    if answer.fields["x-ratelimit-remaining"] != str(max(0, STRICT_LIMIT - n)):
        found.append(f"x-ratelimit-remaining is {answer.fields['x-ratelimit-remaining']}")
    if answer.is_limited:
        wait = answer.fields.get("retry-after", "")
        if not (wait.isdigit() and 1 <= int(wait) <= STRICT_SPAN_S):
            found.append(f"retry-after is {wait or 'absent'}")
        if not answer.fields.get("content-type", "").startswith("application/problem+json"):
            found.append("a 429 that is not problem+json")
    return found


def complaints(outcome: StoryResult) -> list[str]:
    """Every way in which the story did not come true; empty when it did."""
    job = outcome.job
    found = quick_complaints(outcome.quick)
    if job.state != "done":
        found.append(f"the job is {job.state}" + (f" ({job.error_code})" if job.error_code else ""))
    if [step.name for step in job.steps] != list(STEPS) or any(step.state != "done" for step in job.steps):
        found.append("steps: " + ", ".join(f"{step.name} {step.state}" for step in job.steps))
    failed = sum(call.outcome != "ok" for call in job.calls)
    if outcome.promised_failures is not None and failed != outcome.promised_failures:
        found.append(f"{failed} model calls failed instead of {outcome.promised_failures}")
    called = {call.step for call in job.calls if call.outcome == "ok"}
    found += [f"no paid call for {step}" for step in STEPS[:3] if step not in called]
    if not outcome.ledger_usd_micros == job.cost_usd_micros == sum(call.cost_usd_micros for call in job.calls) > 0:
        found.append("the calls' costs do not add up to the ledger")
    if not outcome.is_delivered:
        found.append("the result did not arrive in the app")
    if outcome.metrics_families == 0:
        found.append("no metrics")
    return found


def as_json(outcome: StoryResult) -> dict[str, Json]:
    """The report. `failed` is there only when the story did not come true."""
    calls, failed = outcome.job.calls, complaints(outcome)
    report: dict[str, Json] = {
        "leads": {
            "sent": len(outcome.quick),
            "accepted": sum(answer.is_accepted for answer in outcome.quick),
            "limited": sum(answer.is_limited for answer in outcome.quick),
        },
        "job": {
            "id": outcome.job.job_id,
            "lead_id": outcome.job.lead_id,
            "state": outcome.job.state,
            "steps": [
                {"name": step.name, "state": step.state, "attempts": step.attempts} for step in outcome.job.steps
            ],
        },
        "ai": {
            "calls": len(calls),
            "failed": sum(call.outcome != "ok" for call in calls),
            "input_tokens": sum(call.input_tokens for call in calls),
            "output_tokens": sum(call.output_tokens for call in calls),
            "cost_usd": sum(call.cost_usd_micros for call in calls) / 1_000_000,
        },
        "accept_ms": {"gateway_p50": median_ms(outcome.quick), "direct_p50": median_ms(outcome.direct)},
        "delivered": outcome.is_delivered,
        "metrics_families": outcome.metrics_families,
    }
    return report | ({"failed": failed} if failed else {})
