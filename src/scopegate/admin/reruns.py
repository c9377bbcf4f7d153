"""What another go of jobs is expected to cost, and telling a worker of one. Called by the console and by `scopegate
jobs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from scopegate import logs
from scopegate.errors import StoreError
from scopegate.leads.job import LeadJob
from scopegate.limits.steps import MODEL_STEPS, StepName
from scopegate.stores.ports import JobStore, Ledger, Messenger

log = logs.get("admin")

EXPECTED_FROM_DAYS = 30
MAX_AT_ONCE = 1000


async def expected_usd_micros(
    found: Sequence[LeadJob], step: StepName | None, jobs: JobStore, ledger: Ledger, now_ms: int
) -> int:
    """What the steps that would ask the model again have cost for each good answer, in the last 30 days."""
    first_day = datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=EXPECTED_FROM_DAYS - 1)
    rows = await ledger.spend_by("step", first_day.isoformat())
    costs = {str(row["key"]): _per_answer(row) for row in rows}
    whole = [await jobs.get(job.job_id) for job in found]
    return sum(costs.get(name, 0) for job in whole if job is not None for name in asked_again(job, step))


def asked_again(job: LeadJob, step: StepName | None) -> Sequence[StepName]:
    """The model's steps that a replay from `step` on does again; without one, those without a result."""
    names = list(StepName)
    first = len(names) if step is None else names.index(step)
    return [name for name in MODEL_STEPS if names.index(name) >= first or name not in job.results()]


def _per_answer(row: Mapping[str, object]) -> int:
    cost, calls, failed, unknown = (row[name] for name in ("cost_usd_micros", "calls", "failed", "unknown"))
    assert isinstance(cost, int)
    assert isinstance(calls, int)
    assert isinstance(failed, int)
    assert isinstance(unknown, int)
    return cost // max(1, calls - failed - unknown)


async def wake(messenger: Messenger | None, job_id: str) -> None:
    """Where nobody can be told, the workers' sweep finds the job."""
    if messenger is None:
        return
    try:
        await messenger.wake(job_id)
    except StoreError as outage:
        log.warning("admin.wake_failed", job_id=job_id, error_detail=str(outage))
