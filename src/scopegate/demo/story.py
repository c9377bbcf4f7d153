"""The demo's story, told over HTTP alone: as a visitor at the gateway, and as an operator at the admin port.

Nothing here looks into a database or a process. What was seen is an `StoryResult`; whether it is right is judged by
`report`.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from scopegate.clock import Clock
from scopegate.demo import pictures
from scopegate.demo.narrator import Narrator, usd
from scopegate.demo.report import (
    PROMISED_FAULTS,
    QUICK_LEADS,
    STRICT_LIMIT,
    Answer,
    JobView,
    StoryResult,
    job_view,
    median_ms,
    quick_complaints,
)
from scopegate.demo.stage import Stage

T = TypeVar("T")

_POLL_S = 0.15
_PATIENCE_S = 120.0
_SECOND_VISITOR = "127.0.0.2"
_WORDS = (
    "Water came through the bedroom ceiling after the storm: there is a brown stain of about four feet, "
    "a crack down the wall below it, and tiles are missing on the roof above."
)


class StoryBroken(Exception):
    """The story cannot go on. The text says where it stopped."""


@dataclass(frozen=True, slots=True)
class _Doors:
    """Clients for the four places: the gateway as two visitors see it, from two addresses where the machine has them.
    `claude` is our simulation, None with `--live`."""

    gateway: httpx.AsyncClient
    gateway_too: httpx.AsyncClient
    admin: httpx.AsyncClient
    app: httpx.AsyncClient
    claude: httpx.AsyncClient | None
    api: str
    is_simulated: bool


async def play(stage: Stage, narrator: Narrator, clock: Clock, patience_s: float = _PATIENCE_S) -> StoryResult:
    """Play it on a stage that is up. Raises StoryBroken when an answer does not come, or a job not in `patience_s`."""
    try:
        async with (
            _client(stage.gateway) as gateway,
            _client(stage.gateway, source=_second_address()) as gateway_too,
            _client(stage.admin, {"Authorization": f"Bearer {stage.admin_token}"}) as admin,
            _client(stage.app) as app,
            _client(stage.claude or stage.app) as claude,
        ):
            ours = claude if stage.claude else None
            api = stage.live.words if stage.live else "the simulated Claude"
            doors = _Doors(gateway, gateway_too, admin, app, ours, api, stage.is_simulated)
            return await _Story(doors, narrator, clock, patience_s).play()
    except httpx.HTTPError as exc:
        raise StoryBroken(f"{type(exc).__name__}: {exc}") from exc


def _client(address: str, headers: Mapping[str, str] | None = None, source: str | None = None) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(local_address=source, trust_env=False)
    return httpx.AsyncClient(base_url=f"http://{address}", headers=headers, timeout=30.0, transport=transport)


def _second_address() -> str | None:
    """Another loopback address for a second visitor, whom the first one's limit does not touch. None where there is
    but one (macOS): the second visitor then waits as Retry-After says."""
    with socket.socket() as probe:
        try:
            probe.bind((_SECOND_VISITOR, 0))
        except OSError:
            return None
    return _SECOND_VISITOR


class _Story:
    def __init__(self, doors: _Doors, narrator: Narrator, clock: Clock, patience_s: float) -> None:
        self._doors = doors
        self._tell = narrator
        self._clock = clock
        self._patience_s = patience_s

    async def play(self) -> StoryResult:
        quick, direct = await self._quick_leads()
        promised = await self._prepare_faults()
        lead_id = await self._lead_with_photos()
        job = await self._follow(lead_id)
        shown = await self._result(lead_id)
        ledger = await self._ledger(job)
        families = await self._metrics()
        return StoryResult(
            quick, direct, job, promised, ledger, shown.get("analysis") is not None, shown.get("score"), families
        )

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _quick_leads(self) -> tuple[tuple[Answer, ...], tuple[Answer, ...]]:
        self._tell.act(f"1  {QUICK_LEADS} quick leads against a limit of {STRICT_LIMIT} per 10 s")
        quick = tuple([await self._send(self._doors.gateway, _lead(f"Visitor {n}")) for n in range(QUICK_LEADS)])
        accepted, limited = sum(one.is_accepted for one in quick), sum(one.is_limited for one in quick)
        self._tell.checked(f"{accepted} accepted, {limited} answered 429 with headers", quick_complaints(quick))
        for answer in (quick[0], quick[-1]):
            self._tell.say(f"{answer.status}  {_limit_fields(answer)}")
        direct = tuple([await self._send(self._doors.app, _lead(f"Direct {n}")) for n in range(STRICT_LIMIT)])
        self._tell.say(
            f"median time to accept a lead: {median_ms(quick)} ms through the gateway, {median_ms(direct)} ms without"
        )
        return quick, direct

    async def _send(self, client: httpx.AsyncClient, lead: Mapping[str, Any]) -> Answer:
        started_s = self._clock.monotonic_s()
        answer = await client.post("/api/leads", json=lead)
        seconds = self._clock.monotonic_s() - started_s
        lead_id = answer.json()["id"] if answer.status_code == 201 else None
        return Answer(answer.status_code, dict(answer.headers), seconds, lead_id)

    # ── the lead ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _prepare_faults(self) -> int | None:
        """Let the quick leads' jobs end, so that the faults meet the lead they are meant for. How many were set."""
        failing = "" if self._doors.claude is None else ", while Claude fails twice"
        self._tell.act(f"2  A lead with three photos{failing}")
        await self._until(self._no_open_jobs, "the quick leads' jobs to end")
        if self._doors.claude is None:
            self._tell.say(f"model calls go to {self._doors.api}: nothing is made to fail there")
            return None
        faults = [{"kind": "error", "status": int(name.split()[1])} for name in PROMISED_FAULTS]
        (await self._doors.claude.post("/_sim/faults", json=faults)).raise_for_status()
        self._tell.say("the simulated Claude will answer its next two calls with 529 and 500")
        return len(faults)

    async def _no_open_jobs(self) -> bool | None:
        jobs = (await self._admin("/api/jobs", limit="100"))["jobs"]
        return True if all(job["state"] in ("done", "failed") for job in jobs) else None

    async def _lead_with_photos(self) -> str:
        urls = []
        for picture in pictures.photos(seed=self._clock.now_ms()):
            place = await self._patient("/api/uploads/presign", {"contentType": "image/jpeg", "bytes": len(picture)})
            put = await self._doors.gateway_too.put(
                place["uploadUrl"], content=picture, headers={"Content-Type": "image/jpeg"}
            )
            put.raise_for_status()
            urls.append({"url": place["url"]})
        self._tell.say("three photos uploaded through presigned addresses")
        lead = await self._patient("/api/leads", {**_lead("Ada Homeowner"), "photos": urls})
        self._tell.say(f"lead {lead['id']} accepted")
        return str(lead["id"])

    async def _patient(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST until it is admitted, waiting exactly as long as the gateway says."""
        while True:
            answer = await self._doors.gateway_too.post(path, json=body)
            if answer.status_code != 429:
                answer.raise_for_status()
                found: dict[str, Any] = answer.json()
                return found
            wait_s = int(answer.headers["retry-after"])
            self._tell.say(f"the limit is still full: waiting {wait_s} s, as Retry-After asks")
            await self._clock.sleep(wait_s)

    async def _follow(self, lead_id: str) -> JobView:
        with self._tell.following() as show:

            async def ended() -> JobView | None:
                found = (await self._admin("/api/jobs", lead=lead_id))["jobs"]
                if not found:
                    return None
                job = job_view(await self._admin(f"/api/jobs/{found[0]['job_id']}"))
                show(job)
                return job if job.is_final else None

            job = await self._until(ended, f"the job of lead {lead_id} to end")
        self._tell.checked(f"job {job.job_id}: {job.state}", [job.error_code] if job.error_code else [])
        return job

    async def _result(self, lead_id: str) -> dict[str, Any]:
        """What the visitor sees in the end."""
        shown: dict[str, Any] = (await self._doors.gateway_too.get(f"/api/leads/{lead_id}")).raise_for_status().json()
        self._tell.act("3  The result, as the visitor sees it in the app")
        analysis = shown.get("analysis") or {}
        arrived = shown.get("analysis") is not None and shown.get("score") is not None
        self._tell.checked("arrived by signed webhook" if arrived else "delivered", [] if arrived else ["not there"])
        if arrived:
            self._tell.say(str(analysis["scope"]["summary"]))
            self._tell.say(
                f"estimate {analysis['estimate']['total_cents'] / 100:,.2f} USD, lead score {shown['score']}"
            )
        return shown

    # ── the books ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _ledger(self, job: JobView) -> int:
        self._tell.act("4  What the model calls cost")
        if self._doors.is_simulated:
            self._tell.say("(simulated Claude, real prices: nothing is charged)")
        self._tell.ledger(job.calls, job.cost_usd_micros)
        rows = (await self._admin("/api/usage", by="lead"))["rows"]
        booked = sum(int(row["cost_usd_micros"]) for row in rows if row["key"] == job.lead_id)
        differs = [] if booked == job.cost_usd_micros else [f"the ledger has {usd(booked)}"]
        self._tell.checked(f"the ledger holds {usd(booked)} USD for this lead", differs)
        return booked

    async def _metrics(self) -> int:
        text = (await self._doors.admin.get("/metrics")).raise_for_status().text
        families = sum(line.startswith("# TYPE scopegate_") for line in text.splitlines())
        self._tell.say(f"{families} metric families on the admin port")
        return families

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _admin(self, path: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self._doors.admin.get(path, params=query)).raise_for_status().json()
        return found

    async def _until(self, ask: Callable[[], Awaitable[T | None]], what: str) -> T:
        """Ask until the answer is not None. Raises StoryBroken when it never comes."""
        deadline_s = self._clock.monotonic_s() + self._patience_s
        while self._clock.monotonic_s() < deadline_s:
            found = await ask()
            if found is not None:
                return found
            await self._clock.sleep(_POLL_S)
        raise StoryBroken(f"waited {self._patience_s:.0f} s for {what}")


def _lead(name: str) -> dict[str, Any]:
    return {"name": name, "email": "ada@example.com", "contractorSlug": "demo", "projectDescription": _WORDS}


def _limit_fields(answer: Answer) -> str:
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")
    return "  ".join(f"{name}: {answer.fields[name]}" for name in names if name in answer.fields)
