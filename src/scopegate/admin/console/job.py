"""One job: what happened when, what it asked and got, what it cost, and another go of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scopegate import logs
from scopegate.admin.console.charts import TimelineBar
from scopegate.admin.console.live import Live
from scopegate.admin.console.pages import Pages, known, segment, span
from scopegate.admin.console.reading import Form, form_of, query_of
from scopegate.admin.credentials import Credentials
from scopegate.admin.masking import masked, masked_address, may_see_words
from scopegate.admin.reruns import asked_again, expected_usd_micros, wake
from scopegate.admin.sources import Sources
from scopegate.leads.intake import edit_lead
from scopegate.leads.job import (
    FINAL_STATES,
    OPEN_OUTCOMES,
    AttemptState,
    CallRecord,
    JobFilter,
    Lead,
    LeadJob,
    StepRecord,
    Unreadable,
)
from scopegate.leads.story import OnRecord, tell
from scopegate.limits.steps import MODEL_STEPS, SENT_STEPS, StepName
from scopegate.types import Json

log = logs.get("admin")

_MAX_LINES = 60
"""Of a time line that is drawn; the table has all."""


class StepStory(NamedTuple):
    record: StepRecord
    calls: Sequence[CallRecord]
    result: str
    asks_model: bool
    is_sent: bool


class JobPage:
    def __init__(self, sources: Sources, pages: Pages, credentials: Credentials, live: Live) -> None:
        self._s, self._pages, self._credentials, self._live = sources, pages, credentials, live

    def routes(self) -> list[Route]:
        return [
            Route("/jobs/{job_id}", self.show),
            Route("/live/jobs/{job_id}", self.follow),
            Route("/jobs/{job_id}/replay", self.replay, methods=["POST"]),
            Route("/jobs/{job_id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        query_of(request, [])
        return self._pages.answer(request, "job.html", **await self._values(request))

    async def follow(self, request: Request) -> Response:
        query_of(request, [])

        async def part() -> str:
            return self._pages.text(request, "job_live.html", **await self._values(request))

        return self._live.stream(part)

    async def _job(self, request: Request) -> LeadJob:
        job = await self._s.jobs.get(request.path_params["job_id"])
        if job is None:
            raise HTTPException(404, "There is no such job.")
        return job

    async def _values(self, request: Request) -> Mapping[str, Any]:
        job, who, policy = await self._job(request), known(request), self._s.policy()
        calls = await self._s.ledger.calls(job_id=job.job_id)
        orders = await self._s.outbox.of_request(job.request_id)
        sees_words = may_see_words(policy, who)
        now_ms = self._s.clock.now_ms()
        log_url = policy.admin.log_url
        return {
            "job": job,
            "calls": calls,
            "steps": [_view(step, calls, sees_words=sees_words) for step in job.steps],
            "line": list(_line(job, calls, now_ms))[:_MAX_LINES],
            "events": tell(OnRecord(tuple(orders), (job,), tuple(calls))),
            "cost": sum(call.cost_usd_micros for call in calls),
            "sees_words": sees_words,
            "photos": job.lead.photos if sees_words else [masked_address(url) for url in job.lead.photos],
            "outcomes": _outcomes(job),
            "replays": await self._s.jobs.list(JobFilter(replay_of=job.job_id)),
            "actions": await self._s.jobs.actions(job.job_id),
            "is_final": job.state in FINAL_STATES,
            "expected": await self._expected(job, now_ms),
            "log_url": log_url.replace("{id}", segment(job.request_id)) if log_url else None,
            "live": f"/live/jobs/{segment(job.job_id)}",
            "path": f"/jobs/{segment(job.job_id)}",
        }

    async def _expected(self, job: LeadJob, now_ms: int) -> Mapping[str, int]:
        """Of a replay from each step on; by the empty name of one that keeps what is done."""
        if job.state not in FINAL_STATES:
            return {}
        alone = {
            name: await expected_usd_micros([job], step, self._s.jobs, self._s.ledger, now_ms)
            for name, step in {"": None, **{step.value: step for step in StepName}}.items()
            if step is None or asked_again(job, step)
        }
        return {"": 0} | dict.fromkeys((step.value for step in StepName), 0) | alone

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def replay(self, request: Request) -> Response:
        form, who = await form_of(request, self._credentials), known(request)
        job = await self._job(request)
        step = form.one("from")
        if step and step not in set(StepName):
            raise HTTPException(400, f"from must be one of: {', '.join(StepName)}.")
        edited = self._edited(form, job) if form.one("edit") == "yes" else None
        new_id, now_ms = f"job_{uuid4().hex}", self._s.clock.now_ms()
        from_step = StepName(step) if step else None
        new = await self._s.jobs.replay(job.job_id, new_id, now_ms, from_step, edited=edited, actor=who.name)
        if new is None:
            raise HTTPException(409, "The job has not ended.")
        log.info("admin.job_replayed", job_id=new.job_id, replay_of=job.job_id, request_id=new.request_id)
        await wake(self._s.messenger, new.job_id)
        return RedirectResponse(f"/jobs/{segment(new.job_id)}", 303)

    def _edited(self, form: Form, job: LeadJob) -> Lead:
        """What is left empty stays as it is: who may not see it may still replace it."""
        given: dict[str, Json] = {}
        if text := form.one("words").replace("\r\n", "\n"):
            given["text"] = text
        if contractor := form.one("contractor").strip():
            given["contractor"] = contractor
        if photos := form.one("photos").split():
            given["photos"] = list[Json](photos)
        edited = edit_lead(job.lead, given)
        if isinstance(edited, Unreadable):
            raise HTTPException(400, f"The lead cannot be read so: {edited.reason}.")
        return edited

    async def cancel(self, request: Request) -> Response:
        form, who = await form_of(request, self._credentials), known(request)
        job = await self._job(request)
        del form
        if await self._s.jobs.cancel(job.job_id, self._s.clock.now_ms(), who.name) is None:
            raise HTTPException(409, "The job has ended.")
        log.info("admin.job_cancelled", job_id=job.job_id, request_id=job.request_id)
        return RedirectResponse(f"/jobs/{segment(job.job_id)}", 303)


def _view(step: StepRecord, calls: Sequence[CallRecord], *, sees_words: bool) -> StepStory:
    result = step.result if sees_words else masked(step.result)
    return StepStory(
        step,
        [call for call in calls if call.step == step.name],
        "" if result is None else json.dumps(result, indent=2, ensure_ascii=False),
        step.name in MODEL_STEPS,
        step.name in SENT_STEPS,
    )


def _outcomes(job: LeadJob) -> Sequence[str]:
    """What became of each photo, once the analysis says so."""
    result = job.results().get(StepName.PHOTO_ANALYSIS)
    photos = result.get("photos") if isinstance(result, Mapping) else None
    if not isinstance(photos, list):
        return []
    return [str(photo.get("outcome", "")) for photo in photos if isinstance(photo, Mapping)]


def _line(job: LeadJob, calls: Sequence[CallRecord], now_ms: int) -> Iterator[TimelineBar]:
    """Waiting, trying and asking, in order of time."""
    begin, ended = job.created_ms, job.finished_ms or now_ms
    tries = sorted(
        ((one.started_ms, step.name, one) for step in job.steps for one in step.attempts), key=lambda t: t[0]
    )
    free_ms = begin
    for started_ms, name, one in tries:
        if started_ms - free_ms > max(50, (ended - begin) // 200):
            waited = span(started_ms - free_ms)
            yield TimelineBar("waits", free_ms - begin, started_ms - begin, "waits", waited)
        until_ms = one.finished_ms or now_ms
        kind = "done" if one.state is AttemptState.DONE else "running" if one.finished_ms is None else "failed"
        yield TimelineBar(f"{name} {one.n}", started_ms - begin, until_ms - begin, kind, span(until_ms - started_ms))
        for call in calls:
            if (call.step, call.step_attempt) == (name, one.n):
                at_ms = call.started_ms - begin
                end_ms = now_ms - begin if call.outcome in OPEN_OUTCOMES else at_ms + call.duration_ms
                yield TimelineBar(f"  call {call.call_n}", at_ms, end_ms, "call", f"{call.model}, {call.outcome}")
        free_ms = max(free_ms, until_ms)
    if job.finished_ms is None and now_ms > free_ms and not (tries and tries[-1][2].finished_ms is None):
        yield TimelineBar("waits", free_ms - begin, now_ms - begin, "waits", span(now_ms - free_ms))
