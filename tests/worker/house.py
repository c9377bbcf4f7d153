"""A worker's whole house for tests: a real SQLite file, the real SDK against the simulation, a real app on loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from scopegate.clock import Clock, ManualClock
from scopegate.leads.job import Lead, LeadJob, LeadOrder, OrderState
from scopegate.leads.webhook import verify
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.limits.window import Quota
from scopegate.policy.policy import AI, BudgetRule, Deliver, Offload, OffloadUrgency, WhenSpent
from scopegate.stores.batches import SqlBatches
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.worker.batch_watch import BatchWatch
from scopegate.worker.batches import BatchLane
from scopegate.worker.bill import Bill
from scopegate.worker.claude import ClaudeCaller
from scopegate.worker.deliver import Courier
from scopegate.worker.fetch import PhotoFetcher
from scopegate.worker.life import Life
from scopegate.worker.metered import MeteredClaude
from scopegate.worker.prices import load
from scopegate.worker.purse import Purse
from scopegate.worker.steps import Steps
from tests.simulated import KEY, SimulatedClaude
from tests.worker.app import App, Asked, answer, serving
from tests.worker.pictures import picture

SECRET = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
TLS = ssl.create_default_context()
"""One for all: nothing here speaks TLS, and reading the certificates takes a while."""

JPEGS = {f"/photos/{n}.jpg": picture(size=(64 + n, 48)) for n in range(1, 4)}


class Breakers:
    """A breaker whose state the test sets: `denied_s` is None while it is closed."""

    def __init__(self) -> None:
        self.denied_s: float | None = None

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
        return Permit(1) if self.denied_s is None else Denied(self.denied_s)

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None: ...

    async def state(self, name: str, rule: BreakerRule) -> str:
        return "closed" if self.denied_s is None else "open"

    async def close(self) -> None: ...


@dataclass
class TheApp:
    """The web app behind the gateway: has photos, takes webhooks. `hook` and `photo` may be replaced by a test."""

    clock: Clock
    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    hook: Callable[[Asked], Awaitable[bytes | None]] | None = None
    photo: Callable[[Asked], Awaitable[bytes | None]] | None = None
    server: App | None = None

    async def handle(self, asked: Asked) -> bytes | None:
        if asked.method == "GET":
            if self.photo is not None:
                return await self.photo(asked)
            found = JPEGS.get(asked.target)
            return answer(200, found) if found else answer(404)
        if self.hook is not None:
            return await self.hook(asked)
        return self.take(asked)

    def take(self, asked: Asked) -> bytes:
        wrong = verify(SECRET, dict(asked.fields), asked.body, self.clock.now_ms() / 1000)
        if wrong is not None:
            return answer(401, wrong.encode())
        self.ids.append(asked.get("webhook-id"))
        self.messages.append(json.loads(asked.body))
        return answer(200)

    @property
    def origin(self) -> str:
        assert self.server is not None
        return f"http://{self.server.authority}"

    def photos(self, count: int) -> tuple[str, ...]:
        return tuple(f"{self.origin}/photos/{n}.jpg" for n in range(1, count + 1))

    def offload(self, starts: Quota | None = None) -> Offload:
        assert self.server is not None
        return offload(self.server.authority, starts)


def offload(authority: str, starts: Quota | None = None) -> Offload:
    """For an app on this loopback address, which has the photos as well."""
    return Offload(
        name="lead-photos",
        when_status=frozenset({201}),
        lead_id="response.id",
        contractor="request.contractorSlug",
        photos="request.photos[].url",
        text="request.projectDescription",
        photo_hosts=(authority,),
        deliver=Deliver(f"http://{authority}/hook", (SecretStr(SECRET),)),
        starts=starts,
    )


@dataclass
class House:
    clock: Clock
    database: Database
    jobs: SqlJobs
    outbox: SqlOutbox
    ledger: SqlLedger
    breakers: Breakers
    app: TheApp
    steps: Steps
    life: Life
    claude: SimulatedClaude
    batches: SqlBatches
    watch: BatchWatch
    caller: ClaudeCaller
    ai: AI
    living: Callable[[BatchLane], Life]
    """Another life, whose steps ask in this lane."""
    urgency: OffloadUrgency = OffloadUrgency.NORMAL

    async def order(self, photos: Sequence[str] | None = None, offload: str = "lead-photos", **lead: str) -> LeadJob:
        """A lead as the gateway leaves it: accepted, queued, due now."""
        lead_id = lead.get("lead_id", f"lead-{uuid4().hex[:8]}")
        text = lead.get("text", "The roof leaks above the kitchen since the last storm.")
        urls = self.app.photos(1) if photos is None else tuple(photos)
        order = LeadOrder(uuid4().hex, offload, "submit-lead", "req-1", self.clock.now_ms(), {})
        job = await self.outbox.settle(order, OrderState.ACCEPTED, 201, Lead(lead_id, "roofers", text, urls))
        assert job is not None
        return job

    async def walk(self, job_id: str) -> LeadJob:
        """One lease of the job, as the worker gives it; the job afterwards."""
        now_ms = self.clock.now_ms()
        taken = await self.jobs.lease(job_id, "test", now_ms, now_ms + 15_000)
        assert taken is not None
        await self.life.walk(*taken, replace(self.app.offload(), urgency=self.urgency))
        return await self.job(job_id)

    async def walk_to_end(self, job_id: str) -> LeadJob:
        """Leases until the job is final, the clock moved to each due moment."""
        job = await self.job(job_id)
        while job.finished_ms is None:
            assert isinstance(self.clock, ManualClock)
            self.clock.advance(max(0, job.due_ms - self.clock.now_ms()) / 1000)
            job = await self.walk(job_id)
        return job

    async def job(self, job_id: str) -> LeadJob:
        job = await self.jobs.get(job_id)
        assert job is not None
        return job


def budget(limit_usd_micros: int, when_spent: WhenSpent = WhenSpent.HOLD) -> BudgetRule:
    return BudgetRule("day", limit_usd_micros, "day", None, (0.8,), when_spent)


def ai(*budgets: BudgetRule, retries: int = 0, timeout_s: float = 30) -> AI:
    """Retries within a call are `worker/metered`'s: off here unless asked for, so that a fault is a failed attempt."""
    return AI(
        model="claude-haiku-5-5",
        steps={step: StepLimits(timeout_s, retries, 4096) for step in MODEL_STEPS},
        breaker=BreakerRule(5, 60),
        budgets=budgets,
    )


@asynccontextmanager
async def house(
    folder: Path, claude: SimulatedClaude, policy: AI | None = None, clock: Clock | None = None
) -> AsyncIterator[House]:
    clock = clock or ManualClock()
    policy = policy or ai()
    database = await open_database(f"sqlite:///{folder}/scopegate.db")
    caller = ClaudeCaller(SecretStr(KEY), claude.url)
    app = TheApp(clock)
    fetcher = PhotoFetcher(tls=TLS)
    try:
        async with serving(app.handle) as app.server:
            jobs, ledger, breakers = SqlJobs(database), SqlLedger(database), Breakers()
            model = MeteredClaude(caller, ledger, breakers, load(), policy, clock, lambda: 0.5)
            batches, prices = SqlBatches(database), load()

            def living(lane: BatchLane) -> tuple[Steps, Life]:
                steps = Steps(model, fetcher, Courier(clock, tls=TLS), clock, lane=lane)
                return steps, Life(jobs, steps, policy.budgets, clock, lambda: 0.5)

            purse = Purse(caller, ledger, prices, policy, clock, lambda: uuid4().hex)
            steps, life = living(BatchLane(caller, purse, batches, clock, gather_s=0.05))
            watch = BatchWatch(caller, batches, ledger, Bill(prices), prices.version, clock)
            yield House(
                clock,
                database,
                jobs,
                SqlOutbox(database),
                ledger,
                breakers,
                app,
                steps,
                life,
                claude,
                batches,
                watch,
                caller,
                policy,
                lambda lane: living(lane)[1],
            )
    finally:
        await fetcher.close()
        await caller.close()
        await database.close()
