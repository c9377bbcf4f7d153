"""Jobs, open orders, calls and spend as the JSON API shows them. Pure.

The lead's own words and photo addresses (they carry credentials) stay in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from scopegate.leads.job import Attempt, CallRecord, LeadJob, OpenOrder, StepRecord
from scopegate.limits.steps import StepName
from scopegate.types import Json


def moment(ms: int | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def usd(micros: int) -> float:
    return micros / 1_000_000


def job_summary(job: LeadJob) -> dict[str, Json]:
    return {
        "job_id": job.job_id,
        "lead_id": job.lead.lead_id,
        "offload": job.offload,
        "contractor": job.lead.contractor,
        "photos": len(job.lead.photos),
        "request_id": job.request_id,
        "state": job.state.value,
        "created": moment(job.created_ms),
        "due": moment(job.due_ms),
        "finished": moment(job.finished_ms),
        "tries": job.tries,
        "error_code": job.error_code,
        "reason": job.reason,
        "score": job.score,
        "replay_of": job.replay_of,
    }


def lead_result(job: LeadJob) -> dict[str, Json]:
    """What the job has sent to the app, or will have: `state` says which; what no step has found yet is None."""
    results = job.results()

    def part(step: StepName, name: str) -> Json:
        result = results.get(step)
        return result[name] if isinstance(result, Mapping) else None

    return {
        "lead_id": job.lead.lead_id,
        "offload": job.offload,
        "contractor": job.lead.contractor,
        "job_id": job.job_id,
        "state": job.state.value,
        "error_code": job.error_code,
        "finished": moment(job.finished_ms),
        "outcome": part(StepName.PHOTO_ANALYSIS, "outcome"),
        "photos": part(StepName.PHOTO_ANALYSIS, "photos"),
        "photo_analysis": part(StepName.PHOTO_ANALYSIS, "analysis"),
        "scope": part(StepName.SCOPE, "scope"),
        "estimate": part(StepName.ESTIMATE, "estimate"),
        "score": job.score,
        "parts": part(StepName.SCORE, "parts"),
    }


def order_summary(order: OpenOrder) -> dict[str, Json]:
    return {
        "order_id": order.order_id,
        "state": order.state.value,
        "offload": order.offload,
        "route": order.route,
        "request_id": order.request_id,
        "received": moment(order.received_ms),
        "status": order.status,
    }


def job_detail(job: LeadJob, calls: Sequence[CallRecord]) -> dict[str, Json]:
    return job_summary(job) | {
        "steps": [_step(step) for step in job.steps],
        "calls": [_call(call) for call in calls],
        "cost_usd_micros": sum(call.cost_usd_micros for call in calls),
        "cost_usd": usd(sum(call.cost_usd_micros for call in calls)),
    }


def _step(step: StepRecord) -> Json:
    return {
        "name": step.name.value,
        "state": step.state.value,
        "result": step.result,
        "attempts": [_attempt(attempt) for attempt in step.attempts],
    }


def _attempt(attempt: Attempt) -> Json:
    ended = attempt.finished_ms
    return {
        "n": attempt.n,
        "state": attempt.state.value,
        "started": moment(attempt.started_ms),
        "finished": moment(ended),
        "duration_ms": None if ended is None else ended - attempt.started_ms,
        "error_code": attempt.error_code,
        "error_detail": attempt.error_detail,
        "cost_usd_micros": attempt.cost_usd_micros,
    }


def _call(call: CallRecord) -> Json:
    return {
        "call_id": call.call_id,
        "step": call.step,
        "step_attempt": call.step_attempt,
        "call_n": call.call_n,
        "model": call.model,
        "started": moment(call.started_ms),
        "duration_ms": call.duration_ms,
        "outcome": call.outcome,
        "status": call.status,
        "api_request_id": call.api_request_id,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cache_read_tokens": call.cache_read_tokens,
        "cache_write_tokens": call.cache_write_tokens,
        "cost_usd_micros": call.cost_usd_micros,
        "cost_usd": usd(call.cost_usd_micros),
        "saved_usd_micros": call.saved_usd_micros,
        "price_version": call.price_version,
    }


def usage_row(row: Mapping[str, Json]) -> dict[str, Json]:
    micros, unknown = row["cost_usd_micros"], row["unknown_usd_micros"]
    assert isinstance(micros, int)
    assert isinstance(unknown, int)
    return {**row, "cost_usd": usd(micros), "unknown_usd": usd(unknown)}
