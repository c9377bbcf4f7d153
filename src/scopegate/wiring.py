"""The composition root: the only place that names concrete stores. Called by the command line and by flow tests.

Each `serve_*` opens what its role needs, calls `ready` once it serves, runs until `stop` is set, and closes everything.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from scopegate import logs
from scopegate.clock import SystemClock

if TYPE_CHECKING:
    from httpx import AsyncClient

    from scopegate.gateway.intake import Intake
    from scopegate.gateway.late import LateSignIn
    from scopegate.gateway.signin import SignIn
    from scopegate.policy.policy import Policy
    from scopegate.reload import Applying
    from scopegate.settings import Settings
    from scopegate.stores.database import Database
    from scopegate.stores.ports import BreakerStore, LimitStore, Messenger, Outbox
    from scopegate.worker.main import Worker

_log = logs.get("wiring")
_ADMIN_DRAIN_S = 2.0
_PROBE_MARGIN_S = 5.0


def _limit_store(settings: Settings) -> LimitStore:
    if settings.redis_url is None:
        from scopegate.stores.memory import MemoryLimits

        _log.warning("limits.in_memory", reason="REDIS_URL is not set: this process counts alone")
        return MemoryLimits(SystemClock())
    from scopegate.stores.redis_limits import RedisLimits

    return RedisLimits(settings.redis_url)


def _breaker_store(settings: Settings, probe_s: float) -> BreakerStore:
    """`probe_s`: how long the one probe of a half-open breaker may take."""
    if settings.redis_url is None:
        from scopegate.stores.memory import MemoryBreakers

        return MemoryBreakers(SystemClock(), lease_s=probe_s)
    from scopegate.stores.redis_breaker import RedisBreakers

    return RedisBreakers(settings.redis_url, lease_s=probe_s)


def _messenger(settings: Settings) -> Messenger:
    from scopegate.stores.queue import ArqMessenger, NoMessenger

    if settings.redis_url is None:
        _log.warning("jobs.by_sweep", reason="REDIS_URL is not set: workers look for due jobs in the database")
        return NoMessenger()
    return ArqMessenger(settings.redis_url, SystemClock())


async def serve_gateway(
    settings: Settings,
    policy: Policy,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None],
    follow: Callable[[Applying], Coroutine[None, None, None]] | None = None,
) -> None:
    """The edge, on a socket that listens already. `follow` is given the way to have a newer policy adopted, and runs as
    long as the gateway does."""
    from scopegate.gateway.app import Gateway, serve
    from scopegate.gateway.limiter import Limiter
    from scopegate.stores.memory import MemoryLimits

    clock = SystemClock()
    async with AsyncExitStack() as opened:
        limiter = Limiter(_limit_store(settings), MemoryLimits(clock), clock)
        signin = await opened.enter_async_context(_signin())
        intake = await opened.enter_async_context(_intake(settings))
        gateway = Gateway(policy, limiter, signin, intake, clock)
        gc.collect()
        gc.freeze()  # what a start makes stays: no collection needs to look through it (measured: half the pause)
        following = None if follow is None else asyncio.create_task(follow(gateway.adopt))
        try:
            await serve(gateway, sock, stop, ready)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def _signin() -> AsyncIterator[LateSignIn]:
    """A reload may bring the first route that asks for it; nobody pays for it before."""
    from scopegate.gateway.late import LateSignIn

    clients: list[AsyncClient] = []

    def make() -> SignIn:
        import httpx

        from scopegate.gateway.identity import Identities
        from scopegate.gateway.signin import SignIn

        clients.append(httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=5.0))
        return SignIn(Identities(clients[0], SystemClock()))

    try:
        yield LateSignIn(make)
    finally:
        for client in clients:
            await client.aclose()


@asynccontextmanager
async def _intake(settings: Settings) -> AsyncIterator[Intake]:
    """Likewise."""
    from scopegate.gateway.intake import Intake
    from scopegate.stores.late import LateDatabase, LateMessenger, LateOutbox

    database = LateDatabase(settings.database)

    def outbox() -> Outbox:
        from scopegate.stores.outbox import SqlOutbox

        return SqlOutbox(database)

    try:
        yield Intake(LateOutbox(outbox), LateMessenger(lambda: _messenger(settings)), SystemClock())
    finally:
        await database.close()


async def serve_worker(settings: Settings, policy: Policy, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """The jobs: woken through Redis where there is one, found by the sweep in any case."""
    from scopegate import metrics
    from scopegate.stores.late import LateDatabase
    from scopegate.stores.queue import WakeUps

    metrics.declare(policy)
    if policy.ai is None or settings.anthropic_api_key is None:
        _log.warning("worker.idle", reason="the policy offloads nothing")
        ready()
        await stop.wait()
        return
    clock = SystemClock()
    database = LateDatabase(settings.database)
    async with _worker(settings, policy, database) as worker:
        drain_s = policy.server.timeouts.drain_s
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.serve(stop, drain_s))
                if settings.redis_url is not None:
                    wake_ups = WakeUps(settings.redis_url, worker.run, clock, drain_s=drain_s)
                    group.create_task(wake_ups.serve(stop))
        finally:
            await database.close()


@asynccontextmanager
async def _worker(settings: Settings, policy: Policy, database: Database) -> AsyncIterator[Worker]:
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.memory import MemoryLimits
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.worker import prices
    from scopegate.worker.claude import ClaudeCaller
    from scopegate.worker.deliver import Courier
    from scopegate.worker.fetch import PhotoFetcher
    from scopegate.worker.life import Life
    from scopegate.worker.main import Starts, Worker
    from scopegate.worker.metered import MeteredClaude
    from scopegate.worker.steps import Steps

    assert policy.ai is not None
    assert settings.anthropic_api_key is not None
    clock = SystemClock()
    jobs, ledger = SqlJobs(database), SqlLedger(database)
    limits = _limit_store(settings)
    breakers = _breaker_store(settings, _PROBE_MARGIN_S + max(step.timeout_s for step in policy.ai.steps.values()))
    claude = ClaudeCaller(settings.anthropic_api_key, settings.anthropic_base_url)
    model = MeteredClaude(claude, ledger, breakers, prices.load(), policy.ai, clock, random.SystemRandom().random)
    steps = Steps(model, PhotoFetcher(), Courier(clock), clock)
    life = Life(jobs, ledger, steps, policy.ai.budgets, clock, random.SystemRandom().random)
    try:
        yield Worker(
            jobs,
            SqlOutbox(database),
            life,
            Starts(limits, MemoryLimits(clock)),
            lambda: policy.offloads,
            clock,
            owner=f"{socket.gethostname()}-{os.getpid()}",
        )
    finally:
        await claude.close()
        await breakers.close()
        await limits.close()


async def serve_admin(
    settings: Settings, policy: Policy, sock: socket.socket, stop: asyncio.Event, ready: Callable[[], None]
) -> None:
    """Metrics, health and the first page, on a socket that listens already."""
    from scopegate import exposition, metrics, serving
    from scopegate.admin.app import Sources, create_admin
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.late import LateDatabase
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.outbox import SqlOutbox

    metrics.declare(policy)
    database = LateDatabase(settings.database)
    messenger = None if settings.redis_url is None else _messenger(settings)
    sources = Sources(
        policy=policy,
        jobs=SqlJobs(database),
        ledger=SqlLedger(database),
        outbox=SqlOutbox(database),
        clock=SystemClock(),
        messenger=messenger,
        checks=None if messenger is None else {"redis": messenger.ping},
        metrics_directory=exposition.active_directory(),
    )
    app = create_admin(sources, settings.admin_token)
    try:
        await serving.serve(app, sock, stop, ready, drain_s=lambda: _ADMIN_DRAIN_S)
    finally:
        if messenger is not None:
            await messenger.close()
        await database.close()
