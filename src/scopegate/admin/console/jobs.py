"""Jobs: found by what is known of them, and acted on, one page or all that fit at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scopegate import logs
from scopegate.admin.console.live import Live
from scopegate.admin.console.pages import Pages, known, link
from scopegate.admin.console.reading import Form, day_starts_ms, form_of, query_of, read
from scopegate.admin.credentials import Credentials, Who
from scopegate.admin.masking import may_see_words
from scopegate.admin.reruns import MAX_AT_ONCE, expected_usd_micros, wake
from scopegate.admin.sources import Sources
from scopegate.leads.job import FINAL_STATES, JobFilter, JobState, LeadJob

log = logs.get("admin")

PAGE = 50
FILTERS = ("state", "offload", "contractor", "lead", "error", "request", "since", "until", "text")
DONE = {"replay": "replayed", "cancel": "cancelled"}
_QUERY = (*FILTERS, "after", "did", "count")


class JobsPage:
    def __init__(self, sources: Sources, pages: Pages, credentials: Credentials, live: Live) -> None:
        self._s, self._pages, self._credentials, self._live = sources, pages, credentials, live

    def routes(self) -> list[Route]:
        return [
            Route("/jobs", self.show),
            Route("/live/jobs", self.follow),
            Route("/jobs/act", self.act, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        return self._pages.answer(request, "jobs.html", **await self._values(request))

    async def follow(self, request: Request) -> Response:
        query_of(request, _QUERY)

        async def part() -> str:
            return self._pages.text(request, "jobs_live.html", **await self._values(request))

        return self._live.stream(part)

    async def _values(self, request: Request) -> Mapping[str, Any]:
        query = query_of(request, _QUERY)
        who, policy = known(request), self._s.policy()
        wanted = filter_of(query, in_words=may_see_words(policy, who))
        found = await self._s.jobs.list(replace(wanted, limit=PAGE + 1))
        jobs, after = found[:PAGE], None
        if len(found) > PAGE:
            after = (jobs[-1].created_ms, jobs[-1].job_id)
        elif wanted.text is not None:
            after = await self._s.jobs.searched_to(wanted)
        given = {name: query[name] for name in FILTERS if name in query}
        return {
            "filters": {name: query.get(name, "") for name in FILTERS},
            "given": given,
            "jobs": jobs,
            "costs": await self._s.ledger.cost_of([job.job_id for job in jobs]),
            "counts": await self._s.jobs.counts(),
            "paused": await self._s.jobs.paused(),
            "states": list(JobState),
            "offloads": sorted(policy.offloads),
            "older": None if after is None else link("/jobs", given, after=f"{after[0]}.{after[1]}"),
            "is_cut": wanted.text is not None and after is not None and len(found) <= PAGE,
            "is_first": "after" not in query,
            "searches_words": wanted.in_words,
            "live": link("/live/jobs", given, after=query.get("after")),
            "done": _done(query),
        }

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def act(self, request: Request) -> Response:
        """Asks first, with how many and for how much; with `sure` it is done."""
        form, who = await form_of(request, self._credentials), known(request)
        action, _, every = form.one("action").partition("-")
        if action not in DONE or every not in ("", "all"):
            raise HTTPException(400, "action must be one of: replay, replay-all, cancel, cancel-all.")
        found = await self._chosen(form, action, is_all=bool(every))
        if form.one("sure") != "yes":
            return await self._ask(request, form, action, found, is_all=bool(every))
        count = 0
        for job in found:
            count += await self._do(action, job, who)
        log.info("admin.jobs_changed", action=action, count=count, actor=who.name)
        given = {name: value for name in FILTERS if (value := form.one(name))}
        return RedirectResponse(link("/jobs", given, did=action, count=count), 303)

    async def _chosen(self, form: Form, action: str, *, is_all: bool) -> Sequence[LeadJob]:
        """Those of the selected that the action is for; or, with `is_all`, of all that fit the filter."""
        ids = tuple(form.all("job"))
        if is_all:
            wanted = filter_of({name: value for name in FILTERS if (value := form.one(name))})
            wanted = replace(wanted, limit=MAX_AT_ONCE)
            if action == "replay":
                wanted = replace(wanted, state=wanted.state or JobState.FAILED, not_replayed=True)
            else:
                wanted = replace(wanted, is_open=True)
        elif 0 < len(ids) <= MAX_AT_ONCE:
            wanted = JobFilter(ids=ids, limit=len(ids))
        else:
            raise HTTPException(400, f"Select 1 to {MAX_AT_ONCE} jobs first.")
        is_for_ended = action == "replay"
        return [job for job in await self._s.jobs.list(wanted) if (job.state in FINAL_STATES) is is_for_ended]

    async def _ask(
        self, request: Request, form: Form, action: str, found: Sequence[LeadJob], *, is_all: bool
    ) -> Response:
        now_ms = self._s.clock.now_ms()
        expected = await expected_usd_micros(found, None, self._s.jobs, self._s.ledger, now_ms)
        return self._pages.answer(
            request,
            "sure.html",
            action=action,
            done=DONE[action],
            jobs=found,
            asked=len(found) if is_all else len(form.all("job")),
            expected=expected,
            is_all=is_all,
            most=MAX_AT_ONCE,
            given={name: value for name in FILTERS if (value := form.one(name))},
        )

    async def _do(self, action: str, job: LeadJob, who: Who) -> bool:
        """False where the job has changed meanwhile."""
        now_ms = self._s.clock.now_ms()
        if action == "cancel":
            return await self._s.jobs.cancel(job.job_id, now_ms, who.name) is not None
        new = await self._s.jobs.replay(job.job_id, f"job_{uuid4().hex}", now_ms, actor=who.name)
        if new is not None:
            await wake(self._s.messenger, new.job_id)
        return new is not None


def filter_of(query: Mapping[str, str], *, in_words: bool = False) -> JobFilter:
    """Raises HTTPException."""
    day = "a day as YYYY-MM-DD"
    text = query.get("text")
    if text is not None and not text.isprintable():
        raise HTTPException(400, "text must be printable.")
    return JobFilter(
        state=read(query, "state", JobState, ", ".join(JobState)),
        offload=query.get("offload"),
        contractor=query.get("contractor"),
        lead_id=query.get("lead"),
        error_code=query.get("error"),
        request_id=query.get("request"),
        since_ms=read(query, "since", day_starts_ms, day),
        until_ms=read(query, "until", lambda said: day_starts_ms(said, 1), day),
        after=read(query, "after", _cursor, "where a page ended"),
        text=text,
        in_words=in_words,
    )


def _cursor(text: str) -> tuple[int, str]:
    at_ms, point, job_id = text.partition(".")
    if not (point and job_id and at_ms.isascii() and at_ms.isdigit() and len(at_ms) <= 15):
        raise ValueError
    return int(at_ms), job_id


def _done(query: Mapping[str, str]) -> str:
    """What a form of before has done, in words."""
    did = DONE.get(query.get("did", ""))
    count = read(query, "count", lambda text: int(text[:6]), "a number")
    if did is None or count is None:
        return ""
    return f"{count} job{' is' if count == 1 else 's are'} {did}."
