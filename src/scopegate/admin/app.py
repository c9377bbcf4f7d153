"""The admin application: probes, metrics, the console (`console/`), and jobs, open orders and spend as JSON.

Reads and replays through the ports; `access` stands around all of it. Made by `wiring`, served on the admin port.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scopegate import logs
from scopegate.admin import limits, purges
from scopegate.admin.access import PURGES, RESULTS, STATIC, Access
from scopegate.admin.answers import AsciiJson, problem
from scopegate.admin.console.audit import write_down
from scopegate.admin.console.console import Console
from scopegate.admin.console.pages import known, who_of
from scopegate.admin.console.reading import query_of, read
from scopegate.admin.credentials import ConsoleRole, Credentials, Who
from scopegate.admin.forecasts import forecast_row, read_forecasts
from scopegate.admin.health import Check, HealthChecks, is_ready, limit_store
from scopegate.admin.limits import Stand
from scopegate.admin.records import job_detail, job_summary, lead_result, order_summary, usage_row
from scopegate.admin.reruns import wake
from scopegate.admin.scrape import Scrape
from scopegate.admin.sources import Sources
from scopegate.admin.top import MOST, top
from scopegate.errors import StoreError, StoreUnavailable
from scopegate.leads.job import JobFilter, JobState
from scopegate.leads.webhook import SIGNATURE_FIELD
from scopegate.limits.steps import StepName
from scopegate.metrics.totals import DirectoryBusy
from scopegate.stores.ports import LimitDesk

log = logs.get("admin")

MAX_JOBS = 500
SIGNED = Who("the app", ConsoleRole.OPERATOR, "signature")
"""Who sends what the app has signed."""
USAGE_BY = ("day", "model", "step", "lead", "contractor", "offload")
_DEFAULT_USAGE_DAYS = 30
_JOB_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def create_admin(
    sources: Sources,
    token: SecretStr | None,
    read_token: SecretStr | None = None,
    viewer_token: SecretStr | None = None,
) -> Starlette:
    """The ASGI application of the admin port. `admin_problems` must have found nothing."""
    credentials = Credentials(token, sources.clock, read_token, viewer_token)
    health = _health(sources)
    port, console = _Port(sources, health), Console(sources, credentials, health)
    return Starlette(
        routes=[
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
            Mount(STATIC.rstrip("/"), StaticFiles(directory=Path(__file__).parent / "static")),
            *console.routes(),
        ],
        middleware=[
            Middleware(
                Access,
                credentials=credentials,
                identity=lambda: sources.policy().admin.identity,
                asking=console.asking,
            )
        ],
        exception_handlers={
            HTTPException: console.faults.refused,
            StoreUnavailable: console.faults.away,
            StoreError: console.faults.away,
            TimeoutError: console.faults.away,
            Exception: console.faults.broken,
        },
    )


def _health(sources: Sources) -> HealthChecks:
    checks: dict[str, Check] = {"database": sources.jobs.counts, **(sources.checks or {})}
    if sources.metrics_directory is not None:
        checks["limit_store"] = partial(limit_store, sources.metrics_directory)
    return HealthChecks(checks, sources.metrics_directory, clock=sources.clock)


class _Port:
    def __init__(self, sources: Sources, health: HealthChecks) -> None:
        self._s, self._health = sources, health
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
        limit = read(_query(request, ["limit"]), "limit", _limit, f"a number from 1 to {MAX_JOBS}") or 50
        return AsciiJson({"orders": [order_summary(order) for order in await self._s.outbox.open(limit)]})

    async def jobs(self, request: Request) -> Response:
        query = _query(request, ["state", "offload", "lead", "limit"])
        wanted = JobFilter(
            state=read(query, "state", JobState, ", ".join(JobState)),
            offload=query.get("offload"),
            lead_id=query.get("lead"),
            limit=read(query, "limit", _limit, f"a number from 1 to {MAX_JOBS}") or 50,
        )
        found = await self._s.jobs.list(wanted)
        return AsciiJson({"jobs": [job_summary(job) for job in found]})

    async def job(self, request: Request) -> Response:
        _query(request, [])
        job = await self._s.jobs.get(_job_id(request))
        if job is None:
            raise HTTPException(404, "There is no such job.")
        return AsciiJson(job_detail(job, await self._s.ledger.calls(job_id=job.job_id)))

    async def result(self, request: Request) -> Response:
        """What is known of a lead: of its newest job that is done, else of its newest."""
        wanted = JobFilter(offload=_query(request, ["offload"]).get("offload"), lead_id=request.path_params["lead_id"])
        jobs = await self._s.jobs.list(wanted)
        chosen = next((job for job in jobs if job.state is JobState.DONE), jobs[0] if jobs else None)
        job = None if chosen is None else await self._s.jobs.get(chosen.job_id)
        if job is None:
            raise HTTPException(404, "There is no job of such a lead.")
        return AsciiJson(lead_result(job))

    async def replay(self, request: Request) -> Response:
        """A new job for the same lead."""
        old_id = _job_id(request)
        step = read(_query(request, ["from"]), "from", StepName, ", ".join(StepName))
        now_ms, who = self._s.clock.now_ms(), known(request)
        new = await self._s.jobs.replay(old_id, f"job_{uuid4().hex}", now_ms, step, actor=who.name)
        if new is None:
            there = await self._s.jobs.get(old_id)
            raise HTTPException(409 if there else 404, "The job has not ended." if there else "There is no such job.")
        log.info("admin.job_replayed", job_id=new.job_id, replay_of=old_id, request_id=new.request_id)
        await wake(self._s.messenger, new.job_id)
        return AsciiJson(job_summary(new), 202, {"location": f"/api/jobs/{new.job_id}"})

    async def cancel(self, request: Request) -> Response:
        _query(request, [])
        who = known(request)
        job = await self._s.jobs.cancel(_job_id(request), self._s.clock.now_ms(), who.name)
        if job is None:
            there = await self._s.jobs.get(_job_id(request))
            raise HTTPException(409 if there else 404, "The job has ended." if there else "There is no such job.")
        log.info("admin.job_cancelled", job_id=job.job_id, request_id=job.request_id)
        return AsciiJson(job_summary(job))

    async def usage(self, request: Request) -> Response:
        query = _query(request, ["by", "since"])
        by = read(query, "by", _usage_by, ", ".join(USAGE_BY)) or "day"
        since = read(query, "since", date.fromisoformat, "a day as YYYY-MM-DD") or self._days_ago(_DEFAULT_USAGE_DAYS)
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
        _query(request, [])
        return AsciiJson(await asyncio.to_thread(lambda: top(self._s.top(), MOST)))

    async def change_limits(self, request: Request) -> Response:
        """reset, ban or unban of `key`."""
        desk, found = self._stands(request)
        action = request.path_params["action"]
        told: dict[str, object]
        if action in ("reset", "ban", "unban"):
            await write_down(self._s, known(request), action, request.query_params["key"])
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
        what = found.what.decode("ascii", "replace") or found.kind.value
        await write_down(self._s, who_of(request) or SIGNED, "purge", what, f"by {found.kind.value}")
        number = await self._s.purges.purge(found)
        return AsciiJson({"purge": number})

    def _stands(self, request: Request) -> tuple[LimitDesk, list[Stand]]:
        if self._s.limits is None:
            raise HTTPException(409, "Each gateway counts in its own memory: there is no Redis to look in.")
        try:
            key = _query(request, ["key"]).get("key", "")
            return self._s.limits, limits.stands(self._s.policy(), key, self._s.limit_secret)
        except limits.BadKey as fault:
            raise HTTPException(400, f"key: {fault}.") from None

    def _days_ago(self, days: int) -> date:
        return datetime.fromtimestamp(self._s.clock.now_ms() / 1000, UTC).date() - timedelta(days=days)


def _query(request: Request, names: list[str]) -> Mapping[str, str]:
    return query_of(request, names, keeps_empty=True)


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["job_id"]
    if not _JOB_ID.fullmatch(job_id):
        raise HTTPException(404, "There is no such job.")
    return job_id


def _limit(text: str) -> int:
    number = int(text[:10])
    if not 1 <= number <= MAX_JOBS:
        raise ValueError
    return number


def _usage_by(text: str) -> str:
    if text not in USAGE_BY:
        raise ValueError
    return text
