"""A small policy, jobs of every state in a real SQLite file, and a client of the admin application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp

from scopegate.leads.job import (
    SENT,
    Attempt,
    AttemptState,
    CallRecord,
    Lead,
    LeadJob,
    LeadOrder,
    OrderState,
)
from scopegate.limits import budget
from scopegate.limits.breaker import BreakerRule
from scopegate.limits.budget import Reservation
from scopegate.limits.steps import StepLimits, StepName
from scopegate.limits.window import Quota
from scopegate.policy.policy import (
    AI,
    Address,
    Admin,
    BodyRule,
    BudgetRule,
    CachedMethod,
    CacheKey,
    CacheRule,
    CacheStore,
    Deliver,
    KeyKind,
    KeyPart,
    Mode,
    Offload,
    OnStoreError,
    Origin,
    Policy,
    Retention,
    Route,
    Server,
    ServerLimits,
    ServerTimeouts,
    Tier,
    Upstream,
    UpstreamTimeouts,
    WhenSpent,
)
from scopegate.stores.ports import JobStore, Ledger, Outbox

TOKEN = "correct-horse-battery-staple"
DAY_MS = 86_400_000
NOW_MS = 1_800_000_000_000  # 2027-01-15T08:00:00Z

CACHE = CacheRule(CacheKey(), 0.0, 0.0, frozenset(CachedMethod), 1 << 20, 0.0, 0.0, False)


def policy(routes: int = 3, listen: str = "127.0.0.1") -> Policy:
    tier = Tier("strict", (Quota(10, 10_000),), (KeyPart(KeyKind.CLIENT_IP),), OnStoreError.LOCAL)
    web = Upstream("web", (Origin("http", "127.0.0.1", 3000),), UpstreamTimeouts(2, 30, 60), None)
    offload = Offload(
        name="lead-photos",
        when_status=frozenset({201}),
        lead_id="response.id",
        contractor="request.contractor",
        photos="request.photos",
        text="request.text",
        photo_hosts=(),
        deliver=Deliver("http://127.0.0.1:3000/x", (SecretStr("s" * 32),)),
        starts=None,
    )
    names = ["submit-lead", "read-api", "everything-else", *(f"route-{n}" for n in range(3, routes))]
    return Policy(
        digest="0123456789ab",
        server=Server(
            Address("127.0.0.1", 8080),
            None,
            (),
            2,
            ServerLimits(32768, 100, 8192, 1 << 20, 1000, 100),
            ServerTimeouts(10, 15, 60, 30),
        ),
        cache=CacheStore(64 << 20, 0, 5.0),
        admin=Admin(Address(listen, 9900)),
        upstreams={"web": web},
        retention=Retention(leads_ms=90 * DAY_MS, photos_ms=0, orders_ms=7 * DAY_MS, calls_ms=400 * DAY_MS),
        tiers={"strict": tier},
        auths={},
        routes=tuple(
            Route(
                name=name,
                methods=frozenset({"POST"}),
                pattern="/**",
                tiers=(tier,),
                auth=None,
                body=BodyRule(1 << 20, frozenset()),
                offload=offload if name == "submit-lead" else None,
                mode=Mode.ENFORCE,
                upstream=web,
                line=n,
                cache=CACHE if name == "read-api" else None,
            )
            for n, name in enumerate(names)
        ),
        offloads={"lead-photos": offload},
        ai=AI(
            model="claude-haiku-5-5",
            steps=dict.fromkeys(("photo_analysis", "scope", "estimate"), StepLimits(45, 3, 2048)),
            breaker=BreakerRule(5, 60),
            budgets=(
                BudgetRule("day", 20_000_000, "day", None, (0.8,), WhenSpent.HOLD),
                BudgetRule("month", 300_000_000, "month", None, (0.8,), WhenSpent.HOLD),
                BudgetRule("contractor-day", 2_000_000, "day", budget.Per.CONTRACTOR, (0.8,), WhenSpent.HOLD),
            ),
        ),
        promises=(),
    )


async def add_job(
    outbox: Outbox, lead_id: str, contractor: str | None = "roofers", text: str = "the roof leaks"
) -> LeadJob:
    order = LeadOrder(
        f"order-{uuid4().hex}", "lead-photos", "submit-lead", f"req-{lead_id}"[:60], NOW_MS, {"text": text}
    )
    lead = Lead(lead_id, contractor, text, ("https://photos.example.com/1.jpg?X-Amz-Signature=SECRETQUERY",))
    job = await outbox.settle(order, OrderState.ACCEPTED, 201, lead)
    assert job is not None
    return job


async def fail_job(jobs: JobStore, job: LeadJob, code: str = "auth", detail: str = "bad key") -> None:
    taken = await jobs.lease(job.job_id, "worker-1", NOW_MS, NOW_MS + 60_000)
    assert taken is not None
    lease, _ = taken
    attempt = await jobs.start_attempt(lease, StepName.PHOTO_ANALYSIS, NOW_MS + 10)
    ended = Attempt(attempt.n, AttemptState.FAILED, attempt.started_ms, NOW_MS + 510, code, detail, 1234)
    await jobs.finish_attempt(lease, StepName.PHOTO_ANALYSIS, ended)
    await jobs.finish(lease, NOW_MS + 600, error_code=code)


async def book(ledger: Ledger, job: LeadJob, micros: int = 1234, call_id: str = "call-1") -> None:
    rules = policy().ai
    assert rules is not None
    accounts = budget.accounts(rules.budgets, NOW_MS, {budget.Per.CONTRACTOR: job.lead.contractor})
    ended = call(job, micros, call_id)
    sent = replace(ended, outcome=SENT, cost_usd_micros=micros + 1)
    reservation = await ledger.reserve(accounts, sent, NOW_MS + 60_000)
    assert isinstance(reservation, Reservation)
    await ledger.settle(reservation, ended)


def call(job: LeadJob, micros: int, call_id: str) -> CallRecord:
    return CallRecord(
        call_id=call_id,
        job_id=job.job_id,
        lead_id=job.lead.lead_id,
        contractor=job.lead.contractor,
        offload=job.offload,
        step="photo_analysis",
        step_attempt=1,
        call_n=1,
        model="claude-haiku-5-5",
        started_ms=NOW_MS,
        duration_ms=500,
        outcome="ok",
        status=200,
        api_request_id="req_1",
        input_tokens=1000,
        output_tokens=100,
        cache_read_tokens=0,
        cache_write_tokens=0,
        cost_usd_micros=micros,
        price_version="1",
        day="2027-01-15",
    )


async def hostile_job(outbox: Outbox, jobs: JobStore, ledger: Ledger, text: str) -> LeadJob:
    """A failed job that says `text` wherever others than us decide what it says."""
    number = uuid4().hex
    order = LeadOrder(f"order-{number}", text, text, f"req-{number}", NOW_MS, {"text": text})
    lead = Lead(f"{text}{number}", text, text, (f"https://photos.example.com/{text}",))
    job = await outbox.settle(order, OrderState.ACCEPTED, 201, lead)
    assert job is not None
    await fail_job(jobs, job, text.encode("ascii", "replace").decode().replace("\0", "?"), text)
    await book(ledger, job, 1234, f"call-{number}")
    return job


def client(
    app: ASGIApp,
    *,
    peer: str = "127.0.0.1",
    host: str = "127.0.0.1:9900",
    headers: Mapping[str, str] = MappingProxyType({}),
    token: str | None = None,
) -> httpx.AsyncClient:
    fields = dict(headers)
    if token is not None:
        fields["authorization"] = f"Bearer {token}"
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 50000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=fields)


def directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
