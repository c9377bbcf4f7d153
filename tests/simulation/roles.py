"""The processes of a simulation: gateways, workers and clients, made of the project's own parts.

A gateway is its `Intake` and, in place of sockets, `lead`, which does with it what `gateway/order` does. A worker is
the real one: sweep, leases, life, steps, metered client, look-ups, warnings.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from scopegate.edge.verdict import Refusal
from scopegate.errors import UpstreamError
from scopegate.gateway.intake import Intake
from scopegate.leads.intake import read_lead
from scopegate.leads.job import Earlier, Lead, LeadOrder, OrderState, Settlement
from scopegate.leads.repeats import Repeat, claim_of, judge, kept
from scopegate.limits.breaker import BreakerRule
from scopegate.limits.budget import Per, Period, Rolling
from scopegate.limits.retries import RetryBudget
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.policy.policy import AI, BudgetRule, Deliver, Lookup, Offload, OnDatabaseError, WhenSpent
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.memory import MemoryBreakers, MemoryLimits
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.paid import SqlPaidAnswers
from scopegate.stores.thresholds import SqlThresholds
from scopegate.types import Json
from scopegate.worker.life import Life
from scopegate.worker.lookups import Lookups
from scopegate.worker.main import Starts, Terms, Worker
from scopegate.worker.metered import MeteredClaude
from scopegate.worker.steps import Steps
from scopegate.worker.warnings import Warnings
from tests.simulation.database import SimulatedDatabase
from tests.simulation.doors import (
    SimulatedBreakers,
    SimulatedCourier,
    SimulatedFetcher,
    SimulatedMessenger,
    SimulatedModel,
    SimulatedSpool,
)
from tests.simulation.loop import Process
from tests.simulation.plan import Plan

if TYPE_CHECKING:
    from tests.simulation.world import World

OFFLOAD = "leads"
MODEL = "claude-haiku-5-5"
CHEAPER = "claude-haiku-5-5"
_SECRET = SecretStr("whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh")
_APP = Deliver("http://app.test/hook", (_SECRET,))
_BREAKER = BreakerRule(5, 20)
_TIMEOUT_S = 6.0
_CLIENT_PATIENCE_S = 30.0
_RESENDS = 4


class SimulatedClock:
    """`Clock` of one process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def now_ms(self) -> int:
        return self._world.now_ms() + self._process.clock_ms

    def monotonic_s(self) -> float:
        return self._world.loop.time()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


# ── the policy ──────────────────────────────────────────────────────────────────────────────────────────────────────


def offload(plan: Plan) -> Offload:
    return Offload(
        name=OFFLOAD,
        when_status=frozenset({201}),
        lead_id="response.id",
        contractor="request.contractor",
        photos="request.photos",
        text="request.text",
        photo_hosts=("photos.test",),
        deliver=_APP,
        starts=None,
        on_store_error=OnDatabaseError.SPOOL if plan.spools else OnDatabaseError.REFUSE,
        same_key_ms=600_000 if plan.keys else None,
        lookup=Lookup("http://app.test/look-up", frozenset({200}), frozenset({404})) if plan.asks_app else None,
    )


def ai(plan: Plan) -> AI:
    return AI(
        model="claude-sonnet-5-5" if plan.cheaper_model else MODEL,
        steps={step: StepLimits(_TIMEOUT_S, 2, 2048) for step in MODEL_STEPS},
        breaker=_BREAKER,
        budgets=tuple(_rule(plan, kind, cap) for kind, cap in plan.budgets),
        cheaper_model=CHEAPER if plan.cheaper_model else None,
        warn=_APP,
        reuse_ms=600_000 if plan.reuse else None,
    )


def _rule(plan: Plan, kind: str, cap_usd_micros: int) -> BudgetRule:
    period: Period = "total"
    if kind in ("day", "contractor"):
        period = "day"
    if kind == "rolling":
        period = Rolling(30_000)
    per = {"contractor": Per.CONTRACTOR, "lead": Per.LEAD}.get(kind)
    spent = WhenSpent.FAIL if plan.fails_when_spent else WhenSpent.HOLD
    if plan.cheaper_model and not plan.fails_when_spent:
        spent = WhenSpent.CHEAPER_MODEL
    return BudgetRule(kind, cap_usd_micros, period, per, (0.5, 0.8), spent, UTC)


# ── a gateway ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sent:
    """A client's request."""

    number: int
    key: str | None
    body: dict[str, Json]


class SimulatedGateway:
    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self.process = process
        self.stop = asyncio.Event()
        self._clock = SimulatedClock(world, process)
        outbox = SqlOutbox(SimulatedDatabase(world.engine, process))
        spool = SimulatedSpool(world, process, world.spool)
        self.intake = Intake(outbox, SimulatedMessenger(world), spool, self._clock)
        self._offload = offload(world.plan)
        self._open = 0

    async def serve(self) -> None:
        self.intake.open()
        await self.stop.wait()
        while self._open:
            await asyncio.sleep(0.1)
        await self.intake.close()

    async def lead(self, sent: Sent) -> tuple[int, Json]:
        self._open += 1
        try:
            return await self._lead(sent)
        finally:
            self._open -= 1

    async def _lead(self, sent: Sent) -> tuple[int, Json]:
        intake, offload = self.intake, self._offload
        if intake.is_full():
            return 503, None
        content = json.dumps(sent.body).encode()
        claim = claim_of(offload, f"client {sent.number}", sent.key, (content,), self._clock.now_ms())
        order_id = self._world.new_order(sent.number)
        order = LeadOrder(order_id, offload.name, "leads", order_id, self._clock.now_ms(), sent.body, claim)
        placed = await intake.run(intake.place(order, offload))
        if isinstance(placed, Refusal):
            return placed.status, None
        if isinstance(placed, Earlier):
            assert claim is not None
            if judge(claim, placed) is Repeat.ANSWERED:
                assert placed.answer is not None
                return placed.answer.status, json.loads(placed.answer.body)
            return 409, None
        return await self._pass_on(order, sent.body)

    async def _pass_on(self, order: LeadOrder, body: Json) -> tuple[int, Json]:
        try:
            status, said = await self._world.app.create(order.order_id, body)
        except UpstreamError as error:
            self._settle_beside(Settlement(order, OrderState.UNKNOWN if error.sent else OrderState.REFUSED))
            return 502, None
        if status not in self._offload.when_status:
            self._settle_beside(Settlement(order, OrderState.REFUSED, status))
            return status, said
        found = read_lead(self._offload, order.request, said)
        lead = found if isinstance(found, Lead) else None
        answer = None if order.claim is None else kept(status, [], json.dumps(said).encode())
        state = OrderState.UNREADABLE if lead is None else OrderState.ACCEPTED
        await self.intake.run(self.intake.settle(Settlement(order, state, status, lead, answer), self._offload))
        return status, said

    def _settle_beside(self, settlement: Settlement) -> None:
        self.intake.run(self.intake.settle(settlement, self._offload))


# ── a worker ────────────────────────────────────────────────────────────────────────────────────────────────────────


class SimulatedWorker:
    def __init__(self, world: World, process: Process) -> None:
        plan, clock = world.plan, SimulatedClock(world, process)
        self.process = process
        self.stop = asyncio.Event()
        self._drain_s = world.faulty.choice((0.0, 0.0, 1.0, 10.0))
        database = SimulatedDatabase(world.engine, process)
        jobs, ledger, outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
        breakers = SimulatedBreakers(world, world.breakers if plan.has_redis else MemoryBreakers(clock))
        policy, chance = ai(plan), world.faulty.random
        model = MeteredClaude(
            SimulatedModel(world),
            ledger,
            breakers,
            world.prices,
            policy,
            clock,
            chance,
            world.new_call,
            RetryBudget(),
            SqlPaidAnswers(database),
        )
        courier = SimulatedCourier(world)
        steps = Steps(model, SimulatedFetcher(world), courier, clock, lambda: f"{world.faulty.getrandbits(64):016x}")
        terms = Terms({OFFLOAD: offload(plan)}, Life(jobs, steps, policy.budgets, clock, chance))
        limits = MemoryLimits(clock)
        self.worker = Worker(
            jobs, outbox, ledger, Starts(limits, limits), lambda: terms, clock, process.name, sweep_s=plan.sweep_s
        )
        self._lookups = Lookups(outbox, courier, clock)
        self._warnings = Warnings(SqlThresholds(database), courier, lambda: policy.warn, clock)
        self._terms = terms

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.worker.serve(self.stop, lambda: self._drain_s))
            group.create_task(self._lookups.serve(self.stop, lambda: self._terms.offloads))
            group.create_task(self._warnings.serve(self.stop))


# ── a client ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def visit(world: World, number: int) -> None:
    """Send one lead, and again with the same key until there is an answer, a few times."""
    plan = world.plan
    await asyncio.sleep(world.faulty.random() * 8.0)
    body: dict[str, Json] = {
        "text": "The roof leaks." if plan.same_words else f"The roof of house {number} leaks.",
        "contractor": f"roofers-{number % 2}",
        "photos": [f"https://photos.test/{number}-{photo}.jpg" for photo in range(plan.photos[number])],
    }
    sent = Sent(number, f"key-{number}" if plan.keys else None, body)
    for _ in range(_RESENDS if plan.keys else 1):
        answer = await _send(world, sent)
        world.answers[number].append(answer)
        if answer[0] in (201, 422):
            return
        await asyncio.sleep(1.0 + world.faulty.random() * 8.0)


async def _send(world: World, sent: Sent) -> tuple[int, Any]:
    heard = world.submit(sent)
    if heard is None:
        return 0, None
    try:
        async with asyncio.timeout(_CLIENT_PATIENCE_S):
            status, said = await heard
            return status, said
    except (TimeoutError, ConnectionResetError):
        return 0, None
