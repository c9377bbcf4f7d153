"""The admin application: probes, metrics, a first page, and jobs, open orders and spend as JSON.

Reads and replays through the ports; `access` stands around all of it. Made by `wiring`, served on the admin port.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar, cast
from uuid import uuid4

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scopegate import logs
from scopegate.admin import limits, purges
from scopegate.admin.access import PURGES, RESULTS, Access
from scopegate.admin.answers import AsciiJson, problem
from scopegate.admin.forecasts import forecast_row, read_forecasts
from scopegate.admin.health import Check, HealthChecks, is_ready, limit_store
from scopegate.admin.limits import Stand
from scopegate.admin.page import Overview, render
from scopegate.admin.records import job_detail, job_summary, lead_result, moment, order_summary, usage_row
from scopegate.admin.scrape import Scrape, read_budget_states
from scopegate.admin.top import MOST, top
from scopegate.clock import Clock
from scopegate.errors import StoreError, StoreUnavailable
from scopegate.leads.job import JobFilter, JobState
from scopegate.leads.webhook import SIGNATURE_FIELD
from scopegate.limits.steps import StepName
from scopegate.metrics.totals import DirectoryBusy
from scopegate.policy.policy import Policy
from scopegate.stores.ports import JobStore, Ledger, LimitDesk, Messenger, Outbox, PurgeDesk, RetentionStore

log = logs.get("admin")
T = TypeVar("T")

MAX_JOBS = 500
USAGE_BY = ("day", "model", "step", "lead", "contractor", "offload")
_DEFAULT_USAGE_DAYS = 30
_PAGE_JOBS = 25
_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Sources:
    """What the admin port shows. `policy` gives the one in force; `checks` besides the database, e.g. `redis`;
    `metrics_directory` is where the processes count (`exposition.active_directory()`), None when this one alone does;
    `messenger` wakes a worker for a replay, None where the workers' sweep must find it; `limits` looks at windows, None
    where each gateway counts in its own memory, under keys that are hashed with `limit_secret`; `top`: what each
    gateway tells of the keys it refuses and admits most."""

    policy: Callable[[], Policy]
    jobs: JobStore
    ledger: Ledger
    outbox: Outbox
    retention: RetentionStore
    clock: Clock
    messenger: Messenger | None = None
    checks: Mapping[str, Check] | None = None
    metrics_directory: Path | None = None
    limits: LimitDesk | None = None
    purges: PurgeDesk | None = None
    limit_secret: bytes = b""
    top: Callable[[], Iterable[bytes]] = tuple


def create_admin(sources: Sources, token: SecretStr | None, read_token: SecretStr | None = None) -> Starlette:
    """The ASGI application of the admin port. `admin_problems` must have found nothing."""
    port = _Port(sources)
    return Starlette(
        routes=[
            Route("/", port.first_page),
            Route("/livez", port.livez),
            Route("/readyz", port.readyz),
            Route("/metrics", port.metrics),
            Route("/api/jobs", port.jobs),
            Route("/api/jobs/{job_id}", port.job),
            Route("/api/jobs/{job_id}/replay", port.replay, methods=["POST"]),
            Route("/api/jobs/{job_id}/cancel", port.cancel, methods=["POST"]),
            Route(f"{RESULTS}{{lead_id:path}}", port.result),
            Route("/api/orders", port.orders),
            Route("/api/usage", port.usage),
            Route("/api/limits", port.client_limits),
            Route("/api/limits/top", port.top_keys),
            Route("/api/limits/{action:str}", port.change_limits, methods=["POST"]),
            Route(PURGES, port.purge, methods=["POST"]),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Access, token=token, clock=sources.clock, read_token=read_token)],
        exception_handlers={
            HTTPException: _on_http_exception,
            StoreUnavailable: _on_outage,
            StoreError: _on_outage,
            TimeoutError: _on_outage,
            Exception: _on_bug,
        },
    )


class _Port:
    def __init__(self, sources: Sources) -> None:
        self._s = sources
        checks: dict[str, Check] = {"database": sources.jobs.counts, **(sources.checks or {})}
        if sources.metrics_directory is not None:
            checks["limit_store"] = partial(limit_store, sources.metrics_directory)
        self._health = HealthChecks(checks, sources.metrics_directory)
        self._scrape = Scrape(
            sources.policy,
            sources.jobs,
            sources.ledger,
            sources.outbox,
            sources.retention,
            sources.clock,
            sources.metrics_directory,
        )

    async def livez(self, request: Request) -> Response:
        return AsciiJson({"alive": True})

    async def readyz(self, request: Request) -> Response:
        states = await self._health.states()
        ready = is_ready(states)
        return AsciiJson({"ready": ready, "checks": dict(states)}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        try:
            text, content_type = await self._scrape.text(request.headers.get("accept", ""))
        except (DirectoryBusy, OSError) as fault:
            log.error("admin.scrape_failed", exc=fault)
            return problem(503, "metrics_unreadable", "The metrics directory cannot be read now.")
        return Response(text, media_type=None, headers={"content-type": content_type})

    async def orders(self, request: Request) -> Response:
        """Lead orders that gave no job and were not refused."""
        limit = _read(request.query_params.get("limit"), _limit, "limit", f"a number from 1 to {MAX_JOBS}") or 50
        return AsciiJson({"orders": [order_summary(order) for order in await self._s.outbox.open(limit)]})

    async def jobs(self, request: Request) -> Response:
        query = request.query_params
        wanted = JobFilter(
            state=_read(query.get("state"), JobState, "state", ", ".join(JobState)),
            offload=query.get("offload"),
            lead_id=query.get("lead"),
            limit=_read(query.get("limit"), _limit, "limit", f"a number from 1 to {MAX_JOBS}") or 50,
        )
        found = await self._s.jobs.list(wanted)
        return AsciiJson({"jobs": [job_summary(job) for job in found]})

    async def job(self, request: Request) -> Response:
        job = await self._s.jobs.get(_job_id(request))
        if job is None:
            raise HTTPException(404, "There is no such job.")
        return AsciiJson(job_detail(job, await self._s.ledger.calls(job_id=job.job_id)))

    async def result(self, request: Request) -> Response:
        """What is known of a lead: of its newest job that is done, else of its newest."""
        wanted = JobFilter(offload=request.query_params.get("offload"), lead_id=request.path_params["lead_id"])
        jobs = await self._s.jobs.list(wanted)
        chosen = next((job for job in jobs if job.state is JobState.DONE), jobs[0] if jobs else None)
        job = None if chosen is None else await self._s.jobs.get(chosen.job_id)
        if job is None:
            raise HTTPException(404, "There is no job of such a lead.")
        return AsciiJson(lead_result(job))

    async def replay(self, request: Request) -> Response:
        """A new job for the same lead; a browser's form goes back to the page, everybody else gets the job."""
        old_id = _job_id(request)
        step = _read(request.query_params.get("from"), StepName, "from", ", ".join(StepName))
        new = await self._s.jobs.replay(old_id, f"job_{uuid4().hex}", self._s.clock.now_ms(), step)
        if new is None:
            known = await self._s.jobs.get(old_id)
            raise HTTPException(409 if known else 404, "The job has not ended." if known else "There is no such job.")
        log.info("admin.job_replayed", job_id=new.job_id, replay_of=old_id, request_id=new.request_id)
        await self._wake(new.job_id)
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/", 303)
        return AsciiJson(job_summary(new), 202, {"location": f"/api/jobs/{new.job_id}"})

    async def cancel(self, request: Request) -> Response:
        job = await self._s.jobs.cancel(_job_id(request), self._s.clock.now_ms())
        if job is None:
            known = await self._s.jobs.get(_job_id(request))
            raise HTTPException(409 if known else 404, "The job has ended." if known else "There is no such job.")
        log.info("admin.job_cancelled", job_id=job.job_id, request_id=job.request_id)
        return AsciiJson(job_summary(job))

    async def _wake(self, job_id: str) -> None:
        if self._s.messenger is None:
            return
        try:
            await self._s.messenger.wake(job_id)
        except StoreError as outage:  # the sweep will find the job
            log.warning("admin.wake_failed", job_id=job_id, error_detail=str(outage))

    async def usage(self, request: Request) -> Response:
        query = request.query_params
        by = _read(query.get("by"), _usage_by, "by", ", ".join(USAGE_BY)) or "day"
        since = _read(query.get("since"), date.fromisoformat, "since", "a day as YYYY-MM-DD") or self._days_ago(
            _DEFAULT_USAGE_DAYS
        )
        rows = await self._s.ledger.spend_by(by, since.isoformat())
        ai, now_ms = self._s.policy().ai, self._s.clock.now_ms()
        zone = UTC if ai is None else ai.zone
        expected = await read_forecasts(self._s.ledger, now_ms, zone)
        return AsciiJson(
            {
                "by": by,
                "since": since.isoformat(),
                "rows": [usage_row(row) for row in rows],
                "forecast": {name: forecast_row(one) for name, one in expected.items()} | {"time_zone": str(zone)},
            }
        )

    async def client_limits(self, request: Request) -> Response:
        """How a client stands: `key` is its address or its key."""
        desk, found = self._stands(request)
        return AsciiJson({"limits": await limits.show(desk, found)})

    async def top_keys(self, request: Request) -> Response:
        """Whom tiers refuse and admit most, over all gateways of this state directory."""
        return AsciiJson(await asyncio.to_thread(lambda: top(self._s.top(), MOST)))

    async def change_limits(self, request: Request) -> Response:
        """reset, ban or unban of `key`."""
        desk, found = self._stands(request)
        action = request.path_params["action"]
        told: dict[str, object]
        try:
            match action:
                case "reset":
                    told = {"reset": await limits.reset(desk, found)}
                case "ban":
                    told = {"banned": await limits.ban(desk, found)}
                case "unban":
                    told = {"unbanned": await limits.unban(desk, found)}
                case _:
                    raise HTTPException(404, "There is no such action.")
        except limits.BadKey as fault:
            raise HTTPException(409, f"{fault}.") from None
        log.info("admin.limits_changed", action=action)
        return AsciiJson(told)

    async def purge(self, request: Request) -> Response:
        """Take kept answers back: by the token with `url`, `prefix`, `tag` or `all` (and `soft`) in the query, or
        signed by the app with the same as a JSON object in the body."""
        if self._s.purges is None:
            raise HTTPException(409, "There is no Redis through which gateways could hear of it.")
        try:
            if SIGNATURE_FIELD in request.headers:
                store = self._s.policy().cache
                told = await purges.signed(request, store.purge_secret, self._s.clock.now_ms() / 1000)
            else:
                told = dict(request.query_params)
            found = purges.purge_of(told)
        except purges.NotSigned as fault:
            raise HTTPException(401, f"{fault}.") from None
        except purges.BadPurge as fault:
            raise HTTPException(409, f"{fault}.") from None
        number = await self._s.purges.purge(found)
        log.info("admin.cache_purged", kind=found.kind.value, soft=found.soft, number=number)
        return AsciiJson({"purge": number})

    def _stands(self, request: Request) -> tuple[LimitDesk, list[Stand]]:
        if self._s.limits is None:
            raise HTTPException(409, "Each gateway counts in its own memory: there is no Redis to look in.")
        try:
            key = request.query_params.get("key", "")
            return self._s.limits, limits.stands(self._s.policy(), key, self._s.limit_secret)
        except limits.BadKey as fault:
            raise HTTPException(400, f"key: {fault}.") from None

    async def first_page(self, request: Request) -> Response:
        now_ms, policy = self._s.clock.now_ms(), self._s.policy()
        rules = policy.ai.budgets if policy.ai else ()
        today = await self._s.ledger.spend_by("day", self._days_ago(0).isoformat())
        overview = Overview(
            now=moment(now_ms) or "",
            digest=policy.digest,
            states=await self._health.states(),
            counts=await self._s.jobs.counts(),
            spent_today_usd_micros=sum(cast(int, row["cost_usd_micros"]) for row in today),
            calls_today=sum(cast(int, row["calls"]) for row in today),
            standings=await read_budget_states(rules, self._s.ledger, now_ms),
            jobs=await self._s.jobs.list(JobFilter(limit=_PAGE_JOBS)),
        )
        return HTMLResponse(render(overview))

    def _days_ago(self, days: int) -> date:
        return datetime.fromtimestamp(self._s.clock.now_ms() / 1000, UTC).date() - timedelta(days=days)


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["job_id"]
    if not _JOB_ID.fullmatch(job_id):
        raise HTTPException(404, "There is no such job.")
    return job_id


def _read(text: str | None, parse: Callable[[str], T], name: str, allowed: str) -> T | None:
    """A query parameter; None when absent, 400 when it is not what `allowed` says."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be one of: {allowed}.") from None


def _limit(text: str) -> int:
    number = int(text[:10])
    if not 1 <= number <= MAX_JOBS:
        raise ValueError
    return number


def _usage_by(text: str) -> str:
    if text not in USAGE_BY:
        raise ValueError
    return text


_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 409: "conflict"}


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return problem(exc.status_code, _CODES.get(exc.status_code, "error"), exc.detail, exc.headers)


async def _on_outage(request: Request, exc: Exception) -> Response:
    log.warning("admin.store_unavailable", error=type(exc).__name__, error_detail=str(exc))
    return problem(503, "store_unavailable", "The database does not answer.", {"retry-after": "5"})


async def _on_bug(request: Request, exc: Exception) -> Response:
    log.error("admin.bug", exc=exc)
    return problem(500, "internal", "Something broke here; the log has the details.")
