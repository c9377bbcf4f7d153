"""The composition root: the only place that names concrete stores. Called by the command line and by flow tests.

Each `serve_*` opens what its role needs, calls `ready` once it serves, runs until `stop` is set, and closes everything.
`follow`, where there is one, is given the way to have a newer policy adopted, and runs as long as the role does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from scopegate import logs
from scopegate.clock import SystemClock
from scopegate.tasks import first_of

if TYPE_CHECKING:
    from httpx import AsyncClient

    from scopegate.admin.sources import PolicyFile, Serving
    from scopegate.following.follower import Applying
    from scopegate.gateway.intake import Intake
    from scopegate.gateway.late import LateSignIn
    from scopegate.gateway.signin import SignIn
    from scopegate.gateway.top import TopKeys
    from scopegate.policy.policy import Policy
    from scopegate.process.board import Note
    from scopegate.settings import Settings
    from scopegate.stores.database import Database
    from scopegate.stores.mirror import Mirror
    from scopegate.stores.ports import (
        AnswerStore,
        BreakerStore,
        JobStore,
        LimitDesk,
        LimitStore,
        Messenger,
        Outbox,
        RetentionStore,
    )
    from scopegate.worker.claude import ClaudeCaller
    from scopegate.worker.lookups import Lookups
    from scopegate.worker.main import Terms, Worker
    from scopegate.worker.warnings import Warnings

    Follow = Callable[[Applying], Coroutine[None, None, None]]

_log = logs.get("wiring")
_ADMIN_DRAIN_S = 2.0
_PROBE_MARGIN_S = 5.0
TOP_FOLDER = "top"
"""Of the state directory: what gateways tell of the keys they refuse and admit most."""
SPOOL_FOLDER = "spool"
"""Likewise: lead orders that the database did not take."""
_TOLD_EVERY_S = 2.0
_PATIENCE_S = 0.5  # of a job with Redis: no visitor waits for it


def _limit_store(settings: Settings, mirror: Mirror) -> LimitStore:
    """`mirror` counts while Redis is away, and alone where there is none."""
    if settings.redis_url is None:
        _log.warning("limits.in_memory", reason="REDIS_URL is not set: this process counts alone")
        return mirror
    from scopegate.stores.redis_limits import RedisLimits
    from scopegate.stores.refusals import RememberedRefusals

    store = RedisLimits(settings.redis_url, timeout_s=settings.limit_timeout_s, mirror=mirror)
    return RememberedRefusals(store, SystemClock())


def _limit_desk(settings: Settings) -> LimitDesk | None:
    if settings.redis_url is None:
        return None
    from scopegate.stores.redis_desk import RedisDesk

    return RedisDesk(settings.redis_url)


def _answers(settings: Settings) -> Callable[[], AnswerStore] | None:
    """What gateways share of their caches: purges, and answers where the policy gives them room. Made by who needs it:
    most policies keep nothing."""
    url = settings.redis_url
    if url is None:
        return None

    def made() -> AnswerStore:
        from scopegate.stores.redis_answers import RedisAnswers

        return RedisAnswers(url, SystemClock())

    return made


def _start_limits(settings: Settings) -> LimitStore:
    """How many jobs begin, counted over all workers."""
    if settings.redis_url is None:
        from scopegate.stores.memory import MemoryLimits

        return MemoryLimits(SystemClock())
    from scopegate.stores.redis_limits import RedisLimits

    return RedisLimits(settings.redis_url, timeout_s=_PATIENCE_S, role="worker")


def _limit_secret(settings: Settings) -> bytes:
    if settings.limit_secret is not None:
        return settings.limit_secret.get_secret_value().encode()
    if settings.redis_url is not None:
        _log.warning("limits.keys_without_secret", reason="SCOPEGATE_LIMIT_SECRET is not set: addresses can be found")
    return b""


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
    follow: Follow | None = None,
    redirecting: socket.socket | None = None,
) -> None:
    """The edge, on sockets that listen already."""
    from scopegate.gateway.app import Gateway, serve
    from scopegate.gateway.limiter import Limiter
    from scopegate.process import heap
    from scopegate.stores.mirror import Mirror

    clock = SystemClock()
    async with AsyncExitStack() as opened:
        gateways = policy.server.workers or os.cpu_count() or 1  # until Redis says how many there are
        mirror = Mirror(clock, gateways=gateways, max_bytes=settings.limit_memory_bytes)
        limiter = Limiter(_limit_store(settings, mirror), mirror, _limit_secret(settings))
        signin = await opened.enter_async_context(_signin())
        intake = await opened.enter_async_context(_intake(settings))
        gateway = Gateway(policy, limiter, signin, intake, clock, _answers(settings))
        await opened.enter_async_context(_telling(settings.state_dir, limiter.top))
        if policy.tiers:
            await limiter.open()
        gc.collect()
        heap.give_back()
        gc.freeze()  # what a start makes stays: no collection needs to look through it (measured: half the pause)
        async with _following(follow, gateway.adopt):
            await serve(gateway, sock, stop, ready, redirecting)


@asynccontextmanager
async def _following(follow: Follow | None, adopt: Applying) -> AsyncIterator[None]:
    if follow is None:
        yield
        return
    task = asyncio.create_task(follow(adopt))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _telling(state_dir: Path, top: TopKeys) -> AsyncIterator[None]:
    """Whom this process refuses and admits most, for `scopegate limits top`. It serves all the same where the folder
    is unusable."""
    from scopegate.process import board

    try:
        note = board.Note(state_dir / TOP_FOLDER).__enter__()
    except OSError as error:
        _log.warning("limits.top_untold", detail=str(error)[:200])
        yield
        return
    task = asyncio.create_task(_tell(note, top))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        note.__exit__(None, None, None)


async def _tell(note: Note, top: TopKeys) -> None:
    changes = -1
    while True:
        text = top.told(SystemClock().monotonic_s())
        if top.changes != changes and await asyncio.to_thread(note.write, text):
            changes = top.changes
        await asyncio.sleep(_TOLD_EVERY_S)


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
    from scopegate.stores.spool import Spool

    database = LateDatabase(settings.database)

    def outbox() -> Outbox:
        from scopegate.stores.outbox import SqlOutbox

        return SqlOutbox(database)

    messenger, spool = LateMessenger(lambda: _messenger(settings)), Spool(settings.state_dir / SPOOL_FOLDER)
    try:
        intake = Intake(LateOutbox(outbox), messenger, spool, SystemClock())
        intake.open()
        yield intake
    finally:
        await database.close()


async def serve_worker(
    settings: Settings, policy: Policy, stop: asyncio.Event, ready: Callable[[], None], follow: Follow | None = None
) -> None:
    """The jobs: woken through Redis where there is one, found by the sweep in any case. A policy that offloads nothing
    leaves the worker idle until a newer one does."""
    from scopegate.metrics import catalogue as metrics

    metrics.declare(policy)
    trade = _Trade(settings, policy)
    async with _following(follow, trade.adopt), _pruning(settings, trade):
        if not trade.needed.is_set():
            _log.warning("worker.idle", reason="the policy offloads nothing")
            ready()
            ready = _said
            await first_of(stop.wait(), trade.needed.wait())
        if not stop.is_set():
            await _work(settings, trade, stop, ready)


@asynccontextmanager
async def _pruning(settings: Settings, trade: _Trade) -> AsyncIterator[None]:
    """Also by a worker that is idle: what earlier leads left goes as the policy of today says."""
    from scopegate.stores.late import LateDatabase
    from scopegate.worker.pruner import Pruner

    database = LateDatabase(settings.database)

    def store() -> RetentionStore:
        from scopegate.stores.retention import SqlRetention

        return SqlRetention(database)

    task = asyncio.create_task(Pruner(store, lambda: trade.policy.retention, SystemClock()).serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()


def _said() -> None:
    """It was said that this process is ready."""


class _Trade:
    """The policy that jobs are begun under. A newer one holds for the jobs that begin after it; those under way keep
    their terms, and whatever has connections or counts goes on as it is."""

    def __init__(self, settings: Settings, policy: Policy) -> None:
        self._has_key = settings.anthropic_api_key is not None
        self._terms_of: Callable[[Policy], Terms] | None = None
        self._terms: Terms | None = None
        self.policy = policy
        self.needed = asyncio.Event()
        self._look_for_work()

    def open(self, terms_of: Callable[[Policy], Terms]) -> None:
        """From now on there are terms. The policy must offload something."""
        self._terms_of, self._terms = terms_of, terms_of(self.policy)

    async def adopt(self, policy: Policy) -> None:
        from scopegate.metrics import catalogue as metrics

        if self._terms_of is not None:
            self._terms = self._terms_of(policy)
        self.policy = policy
        metrics.declare(policy)
        self._look_for_work()

    def _look_for_work(self) -> None:
        if self.policy.ai is not None and self._has_key:
            self.needed.set()

    def terms(self) -> Terms:
        assert self._terms is not None, "asked by a worker only"
        return self._terms

    def drain_s(self) -> float:
        return self.policy.server.timeouts.drain_s


async def _work(settings: Settings, trade: _Trade, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    from scopegate.stores.late import LateDatabase
    from scopegate.stores.queue import WakeUps
    from scopegate.worker import batch_watch

    database = LateDatabase(settings.database)
    async with _worker(settings, trade, database) as worker:
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.serve(stop, trade.drain_s))
                group.create_task(_lookups(database).serve(stop, lambda: trade.terms().offloads))
                group.create_task(_warnings(trade, database).serve(stop))
                group.create_task(batch_watch.serve(stop, lambda: trade.terms().batches, SystemClock()))
                if settings.redis_url is not None:
                    wake_ups = WakeUps(settings.redis_url, worker.run, SystemClock(), drain_s=trade.drain_s)
                    group.create_task(wake_ups.serve(stop))
        finally:
            await database.close()


def _lookups(database: Database) -> Lookups:
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.worker.deliver import Courier
    from scopegate.worker.lookups import Lookups

    clock = SystemClock()
    return Lookups(SqlOutbox(database), Courier(clock), clock)


def _warnings(trade: _Trade, database: Database) -> Warnings:
    from scopegate.stores.thresholds import SqlThresholds
    from scopegate.worker.deliver import Courier
    from scopegate.worker.warnings import Warnings

    clock = SystemClock()
    return Warnings(
        SqlThresholds(database),
        Courier(clock),
        lambda: None if trade.policy.ai is None else trade.policy.ai.warn,
        clock,
    )


@asynccontextmanager
async def _worker(settings: Settings, trade: _Trade, database: Database) -> AsyncIterator[Worker]:
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.memory import MemoryLimits
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.worker.main import Starts, Worker

    clock = SystemClock()
    async with AsyncExitStack() as opened:
        limits = _start_limits(settings)
        opened.push_async_callback(limits.close)
        jobs = SqlJobs(database)
        trade.open(_terms(settings, database, jobs, opened))
        owner = f"{socket.gethostname()}-{os.getpid()}"
        starts = Starts(limits, MemoryLimits(clock))
        yield Worker(jobs, SqlOutbox(database), SqlLedger(database), starts, trade.terms, clock, owner=owner)


def claude_caller(settings: Settings) -> ClaudeCaller:
    """Of settings with a key."""
    import ssl

    from scopegate.worker.claude import PUBLIC_URL, ClaudeCaller
    from scopegate.worker.proxy import proxy_for

    url = settings.anthropic_base_url or PUBLIC_URL
    proxy = proxy_for(url, settings.https_proxy, settings.no_proxy)
    trust = ssl.create_default_context(cafile=settings.ssl_cert_file) if settings.ssl_cert_file else None
    assert settings.anthropic_api_key is not None
    return ClaudeCaller(settings.anthropic_api_key, url, proxy=proxy, trust=trust)


def _terms(settings: Settings, database: Database, jobs: JobStore, opened: AsyncExitStack) -> Callable[[Policy], Terms]:
    """How a policy becomes terms. One client and one ledger serve all of them, and so does one breaker as long as the
    longest call stays what it is; `opened` closes them."""
    from scopegate.limits.retries import RetryBudget
    from scopegate.stores.batches import SqlBatches
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.paid import SqlPaidAnswers
    from scopegate.worker import prices
    from scopegate.worker.batch_watch import BatchWatch
    from scopegate.worker.batches import BatchLane
    from scopegate.worker.bill import Bill
    from scopegate.worker.deliver import Courier
    from scopegate.worker.fetch import PhotoFetcher
    from scopegate.worker.life import Life
    from scopegate.worker.main import Terms
    from scopegate.worker.metered import MeteredClaude
    from scopegate.worker.purse import Purse
    from scopegate.worker.steps import Steps

    clock, ledger, table = SystemClock(), SqlLedger(database), prices.load()
    claude = claude_caller(settings)
    opened.push_async_callback(claude.close)
    fetcher = PhotoFetcher()
    opened.push_async_callback(fetcher.close)
    breakers: dict[float, BreakerStore] = {}
    retry_budget = RetryBudget()
    last: Terms | None = None

    def breaker_store(probe_s: float) -> BreakerStore:
        if probe_s not in breakers:
            breakers[probe_s] = _breaker_store(settings, probe_s)
            opened.push_async_callback(breakers[probe_s].close)
        return breakers[probe_s]

    def terms_of(policy: Policy) -> Terms:
        nonlocal last
        if policy.ai is None:
            assert last is not None, "the first policy offloads something"
            return Terms({}, last.life, last.batches)
        store = breaker_store(_PROBE_MARGIN_S + max(step.timeout_s for step in policy.ai.steps.values()))
        prices_in_force = table.with_models(policy.ai.prices)
        model = MeteredClaude(
            claude,
            ledger,
            store,
            prices_in_force,
            policy.ai,
            clock,
            random.SystemRandom().random,
            retry_budget=retry_budget,
            kept=SqlPaidAnswers(database),
        )
        batches = SqlBatches(database)
        purse = Purse(claude, ledger, prices_in_force, policy.ai, clock, lambda: uuid4().hex)
        steps = Steps(model, fetcher, Courier(clock), clock, lane=BatchLane(claude, purse, batches, clock))
        life = Life(jobs, steps, policy.ai.budgets, clock, random.SystemRandom().random)
        watch = BatchWatch(claude, batches, ledger, Bill(prices_in_force), prices_in_force.version, clock)
        last = Terms(policy.offloads, life, watch)
        return last

    return terms_of


def _policy_file(config: Path | None, copy: Path | None, digest: str) -> PolicyFile:
    """The text in force, and what speaks against the file as it is now."""
    from scopegate.admin.sources import PolicyFile
    from scopegate.errors import ConfigError
    from scopegate.following import source

    if config is None:
        return PolicyFile("gateway.yaml", "")
    try:
        problems = source.on_disk(config).examine(os.environ, lenient=True).problems
    except ConfigError as fault:
        problems = fault.problems
    found = source.in_force(config, copy, digest, os.environ)
    said = tuple(str(problem) for problem in problems)
    if found is None:
        return PolicyFile(str(config), "", "", said)
    return PolicyFile(str(config), found[0].text.decode("utf-8", "replace"), found[1], said)


def _serving(state_dir: Path) -> list[Serving]:
    from scopegate.admin.sources import Serving
    from scopegate.following import standing

    return [
        Serving(
            pid=one.pid,
            host=one.host,
            digest=one.digest,
            at_ms=one.at_ms,
            outcome=one.outcome,
            problems=one.problems,
            needs_restart=one.needs_restart,
            leads=one.pid == one.leader,
        )
        for one in standing.living(state_dir)
    ]


async def serve_admin(
    settings: Settings,
    policy: Policy,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None],
    follow: Follow | None = None,
    config: Path | None = None,
    copy: Path | None = None,
) -> None:
    """Metrics, health and the console, on a socket that listens already. `config` is the policy file, `copy` where a
    supervisor keeps what is in force."""
    from scopegate.admin.app import create_admin
    from scopegate.admin.sources import Sources
    from scopegate.metrics import catalogue as metrics
    from scopegate.metrics import exposition
    from scopegate.process import board, serving
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.late import LateDatabase
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.stores.retention import SqlRetention
    from scopegate.stores.spool import Spool

    in_force = policy

    async def adopt(newer: Policy) -> None:
        nonlocal in_force
        in_force = newer
        metrics.declare(newer)

    metrics.declare(policy)
    database = LateDatabase(settings.database)
    messenger = None if settings.redis_url is None else _messenger(settings)
    desk = _limit_desk(settings)
    answers = _answers(settings)
    purging = None if answers is None else answers()
    spool = Spool(settings.state_dir / SPOOL_FOLDER)
    sources = Sources(
        policy=lambda: in_force,
        jobs=SqlJobs(database),
        ledger=SqlLedger(database),
        outbox=SqlOutbox(database),
        retention=SqlRetention(database),
        clock=SystemClock(),
        messenger=messenger,
        checks={"spool": spool.check} | ({} if messenger is None else {"redis": messenger.ping}),
        metrics_directory=exposition.active_directory(),
        limits=desk,
        purges=purging,
        top=lambda: board.living(settings.state_dir / TOP_FOLDER),
        limit_secret=b"" if settings.limit_secret is None else settings.limit_secret.get_secret_value().encode(),
        policy_file=lambda: _policy_file(config, copy, in_force.digest),
        serving=lambda: _serving(settings.state_dir),
        is_stopping=stop.is_set,
    )
    app = create_admin(sources, settings.admin_token, settings.read_token, settings.viewer_token)
    try:
        async with _following(follow, adopt):
            await serving.serve(app, sock, stop, ready, drain_s=lambda: _ADMIN_DRAIN_S)
    finally:
        if messenger is not None:
            await messenger.close()
        if desk is not None:
            await desk.close()
        if purging is not None:
            await purging.close()
        await database.close()
