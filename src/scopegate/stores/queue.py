"""Wake-ups through Redis: "job X is due", told to whichever worker is free. The only file that names arq.

arq delivers and nothing more. Who may run a job, how often and with what result is decided by leases in the database,
so a wake-up may be lost, doubled or late without harm: the sweep finds in the database what nobody woke. Payloads are
JSON of one exact shape; anything else in Redis is refused unread (arq's default would unpickle it).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scopegate import jsontext, logs
from scopegate.clock import Clock
from scopegate.errors import StoreUnavailable
from scopegate.stores.redis_errors import kind_of, translated
from scopegate.stores.redis_pool import pool_of
from scopegate.tasks import first_of

QUEUE = "scopegate:wake"
"""The sorted set of waiting wake-ups; arq's other keys are named `arq:...` and cannot be renamed."""

_FUNCTION = "run_job"
_TIMEOUT_S = 1.0
_EXPIRES = timedelta(minutes=10)
_SAME_WAKE_MS = 10_000
_POLL_S = 0.2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
_SAID_AGAIN_S = 0.1

_log = logs.get("queue")


class NoMessenger:
    """Messenger where there is no Redis: the sweep finds every job in the database."""

    async def wake(self, job_id: str) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class ArqMessenger:
    """Messenger on Redis, at most a second per wake-up.

    A wake-up's id is the job and a span of ten seconds: many in that span are one, while one that finished, failed or
    died with its worker never keeps a later one out (arq refuses an id that is queued, running or has a kept result).
    """

    def __init__(self, redis_url: str, clock: Clock) -> None:
        self._redis = _connect(redis_url, connections=8)
        self._clock = clock

    async def wake(self, job_id: str) -> None:
        wake_id = f"{job_id}:{self._clock.now_ms() // _SAME_WAKE_MS}"
        await self._try(self._redis.enqueue_job(_FUNCTION, job_id, _job_id=wake_id, _expires=_EXPIRES))

    async def ping(self) -> None:
        await self._try(self._redis.ping())

    @staticmethod
    async def _try(command: Awaitable[Any]) -> None:
        with translated():
            async with asyncio.timeout(_TIMEOUT_S):
                await command

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


class WakeUps:
    """The receiving side: calls `run(job_id)` for each wake-up, at most `at_once` at a time, until told to stop.

    arq's worker ends when Redis goes away and takes a running function down with a time-out. Here it is started again
    with growing pauses, and `run` is no part of it: a wake-up is acknowledged when the run has ended or after
    `acknowledge_s`, whichever is first, and the run goes on under its lease. Whatever `run` raises is logged; it must
    give its lease back when cancelled.
    """

    def __init__(
        self,
        redis_url: str,
        run: Callable[[str], Awaitable[None]],
        clock: Clock,
        *,
        at_once: int = 10,
        drain_s: Callable[[], float] = lambda: 25.0,
        acknowledge_s: float = 10.0,
    ) -> None:
        self._redis_url = redis_url
        self._run = run
        self._clock = clock
        self._at_once = at_once
        self._drain_s = drain_s
        self._acknowledge_s = acknowledge_s
        self._slots = asyncio.Semaphore(at_once)
        self._running: set[asyncio.Task[None]] = set()
        self._pause_s = _FIRST_PAUSE_S

    async def serve(self, stop: asyncio.Event) -> None:
        """Returns once `stop` is set and the runs have ended, `drain_s()` seconds later at most, asked then: they are
        cancelled after that."""
        try:
            while not stop.is_set():
                await self._receive(stop)
            if self._running:
                await asyncio.wait(self._running, timeout=self._drain_s())
        finally:
            await _cancelled(self._running)

    async def _receive(self, stop: asyncio.Event) -> None:
        """One life of an arq worker, and the pause after its death."""
        redis = _connect(self._redis_url, connections=self._at_once + 4)
        worker = self._worker(redis)
        try:
            receiving, _ = await first_of(_ended_when_cancelled(worker.main()), stop.wait())
        finally:
            await _cancelled(set(worker.tasks.values()))
            with suppress(StoreUnavailable), translated():
                await redis.aclose(close_connection_pool=True)
        died_of = None if receiving.cancelled() else receiving.exception()
        if not stop.is_set():
            await self._pause(died_of, stop)

    async def _pause(self, died_of: BaseException | None, stop: asyncio.Event) -> None:
        kind = None if died_of is None else kind_of(died_of)
        if kind is not None:
            _log.warning("queue.unreachable", kind=kind, retry_s=self._pause_s)
        else:
            _log.error("queue.receiver_died", exc=died_of, retry_s=self._pause_s)
        await first_of(self._clock.sleep(self._pause_s), stop.wait())
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def _worker(self, redis: ArqRedis) -> Worker:
        async def deliver(_context: dict[Any, Any], job_id: str) -> None:
            await self._deliver(job_id)

        return Worker(
            functions=[func(deliver, name=_FUNCTION)],  # type: ignore[arg-type]  # its protocol asks for __qualname__
            redis_pool=redis,
            queue_name=QUEUE,
            on_startup=self._connected,  # type: ignore[arg-type]
            handle_signals=False,
            max_jobs=self._at_once,
            job_timeout=self._acknowledge_s * 3,
            keep_result=0,
            poll_delay=_POLL_S,
            job_serializer=_dump,
            job_deserializer=_load,
            log_results=False,
        )

    async def _connected(self, _context: dict[Any, Any]) -> None:
        self._pause_s = _FIRST_PAUSE_S
        _log.info("queue.receiving", at_once=self._at_once)

    async def _deliver(self, job_id: str) -> None:
        """Without a free slot in time the wake-up is dropped: the job stays due in the database."""
        try:
            async with asyncio.timeout(self._acknowledge_s):
                await self._slots.acquire()
        except TimeoutError:
            return
        task = asyncio.create_task(self._guarded(job_id))
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=self._acknowledge_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()

    async def _guarded(self, job_id: str) -> None:
        try:
            await self._run(job_id)
        except Exception as exc:
            _log.error("queue.run_failed", exc=exc, job_id=job_id)


def _connect(redis_url: str, connections: int) -> ArqRedis:
    pool = pool_of(
        redis_url,
        max_connections=connections,
        timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S * 5,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return ArqRedis(pool, job_serializer=_dump, job_deserializer=_load, default_queue_name=QUEUE)


async def _ended_when_cancelled(work: Coroutine[Any, Any, None]) -> None:
    """A time-out of redis-py that runs out, or is just being left, takes a cancellation for its own on Python 3.11: it
    is said again until it is heard."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_SAID_AGAIN_S)
        with suppress(asyncio.CancelledError, Exception):  # how it ended is nobody's business any more
            task.result()
        raise


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel and wait; what they raise in the end is nobody's business any more."""
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _dump(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, default=str).encode()


def _load(raw: bytes) -> dict[str, Any]:
    """A wake-up as `_dump` wrote it. ValueError for anything else; arq then drops it."""
    payload: Any = jsontext.parse(raw, max_depth=2)
    match payload:
        case {"f": str(), "a": [str()], "k": dict() as keywords, "t": int() | None, "et": int()} if not keywords:
            return dict(payload)
    raise ValueError("not a wake-up")
