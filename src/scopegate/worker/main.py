"""The worker: takes jobs that are due, one lease each, and walks them.

Two ways lead here: a wake-up by id (`run`, called by `stores/queue`), and the sweep, which finds in the database what
nobody woke: retries, held jobs, jobs of workers that died. What happens under a lease is `worker/life`'s business. The
database decides who may run what; everything here may be killed at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from scopegate import logs, tasks
from scopegate.clock import Clock
from scopegate.errors import LeaseLost, StoreError, StoreUnavailable
from scopegate.leads.job import LeadJob, Lease, Precedence
from scopegate.limits.window import Spent, Window, window_key
from scopegate.policy.policy import Offload, Priority
from scopegate.stores.ports import JobStore, Ledger, LimitStore, Outbox
from scopegate.tasks import first_of
from scopegate.worker.batch_watch import BatchWatch
from scopegate.worker.life import INTERNAL, Life

log = logs.get("worker")

LEASE_S: Final = 12.0
"""How long a killed worker's job waits for the next one."""
RENEW_S: Final = 4.0
SWEEP_S: Final = 2.0
OVERDUE_S: Final = 120.0
"""A lead order still pending after this is unknown: its gateway died before the app's answer was recorded."""
AT_ONCE: Final = 10
"""Jobs of one process at a time. They mostly wait for the model; photos and decoders have bounds of their own."""
MAX_ANSWERS: Final = 100_000
"""Answers of the app that are kept for repeats of their leads."""
_FORGET_EVERY_MS: Final = 60_000
_GIVE_BACK_S: Final = 3.0

OFFLOAD_GONE: Final = "offload_gone"
"""The error code of a job whose offload is no longer in the policy."""
OFFLOAD_UNKNOWN: Final = "offload_unknown"
"""The error code of a job that waits for a policy with its offload: gateway and worker may read a change of the file at
different moments, and on different machines."""
UNKNOWN_FOR_S: Final = 600.0
"""A job waits for its offload until it is this old, then it has failed."""
_UNKNOWN_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job is begun under, and keeps as long as this worker holds it: one policy's offloads, and a life made for
    that policy's limits and budgets; besides, who looks after its batches."""

    offloads: Mapping[str, Offload]
    life: Life
    batches: BatchWatch | None = None


class Starts:
    """`starts: N per T` of an offload: how many jobs may begin. One that goes on after a wait or a crash has begun."""

    def __init__(self, limits: LimitStore, local: LimitStore) -> None:
        """`local` counts in this process while `limits` is unusable."""
        self._limits = limits
        self._local = local

    async def wait_ms(self, offload: Offload) -> int:
        """0 when one more job may begin, and it is counted; else milliseconds until it is worth asking again."""
        if offload.starts is None:
            return 0
        window = Window("starts", window_key("starts/offload", offload.starts, offload.name), offload.starts)
        try:
            spent = await _spent(self._limits, window)
        except StoreUnavailable as fault:
            log.warning("starts.counted_locally", kind=fault.kind)
            spent = await _spent(self._local, window)
        return 0 if spent.admitted else max(1, spent.retry_after_ms)


async def _spent(limits: LimitStore, window: Window) -> Spent:
    answer = limits.spend([window])
    return answer if isinstance(answer, Spent) else await answer


class Worker:
    """`owner` names this process in leases; `terms` gives those of the policy in force, asked at each job's start."""

    def __init__(
        self,
        jobs: JobStore,
        outbox: Outbox,
        ledger: Ledger,
        starts: Starts,
        terms: Callable[[], Terms],
        clock: Clock,
        owner: str,
        *,
        at_once: int = AT_ONCE,
        lease_s: float = LEASE_S,
        renew_s: float = RENEW_S,
        sweep_s: float = SWEEP_S,
    ) -> None:
        assert renew_s * 2 < lease_s, "one missed renewal must not lose the lease"
        self._jobs = jobs
        self._outbox = outbox
        self._ledger = ledger
        self._starts = starts
        self._terms = terms
        self._clock = clock
        self._owner = owner
        self._at_once = at_once
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._sweep_s = sweep_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._place_free = asyncio.Event()
        self._being_taken = 0
        self._may_be_more = False
        self._stopping = False
        self._store_was_down = False
        self._forget_ms = 0

    # ── the sweep ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, stop: asyncio.Event, drain_s: Callable[[], float]) -> None:
        """Sweep until `stop` is set, then take nothing more and let the running jobs come to an end; what still runs
        after `drain_s()` seconds, asked then, is cut short and given back."""
        try:
            for ended in await first_of(self._sweep_on(), self._fill_on(), stop.wait()):
                if not ended.cancelled():
                    ended.result()  # a bug ends the worker, and its supervisor says so
        finally:
            await self._drain(drain_s())

    async def _sweep_on(self) -> None:
        while True:
            await self._telling(self.sweep)
            await self._clock.sleep(self._sweep_s)

    async def _fill_on(self) -> None:
        """Take the next due jobs the moment a place is free, as long as there are any."""
        while True:
            await self._place_free.wait()
            self._place_free.clear()
            await self._telling(self._fill)

    async def _telling(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look into the database; that it is away, and back, is said once."""
        try:
            await look()
        except StoreUnavailable as fault:
            if not self._store_was_down:
                log.error("worker.store_down", kind=fault.kind)
            self._store_was_down = True
        else:
            if self._store_was_down:
                log.info("worker.store_back")
            self._store_was_down = False

    async def sweep(self) -> None:
        """Start the jobs that are due, as many as there is room for; call overdue orders and lost calls unknown."""
        await self._fill()
        now_ms = self._clock.now_ms()
        unknown = await self._outbox.overdue(now_ms - round(OVERDUE_S * 1000))
        if unknown:
            log.error("orders.unknown", count=unknown)
        await self._ledger.expire(now_ms)
        if now_ms >= self._forget_ms:
            self._forget_ms = now_ms + _FORGET_EVERY_MS
            await self._outbox.forget(now_ms, MAX_ANSWERS)

    async def _fill(self) -> None:
        """Take the next jobs, as many as there are places."""
        places = self._at_once - len(self._running) - self._being_taken
        if self._stopping or places <= 0:
            self._may_be_more = True
            return
        self._being_taken += places
        try:
            taken = await self._take(places)
        finally:
            self._being_taken -= places
        self._may_be_more = len(taken) == places
        for lease, job in taken:
            if not self._start(job.job_id, self._under_lease(lease, job)):
                await self._give_back(lease)  # its last holder here has not heard yet that its lease is lost

    async def _take(self, places: int) -> Sequence[tuple[Lease, LeadJob]]:
        """Leases. Cancelled meanwhile, it gives them back."""
        now_ms = self._clock.now_ms()
        until_ms = now_ms + round(self._lease_s * 1000)
        taking = asyncio.ensure_future(self._jobs.take(self._owner, now_ms, until_ms, places, self._precedence()))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with suppress(StoreError):
                for lease, _ in await taking:
                    await self._give_back(lease)
            raise

    def _precedence(self) -> Precedence:
        offloads = self._terms().offloads
        return Precedence(
            tuple(tuple(name for name, one in offloads.items() if one.priority is lane) for lane in Priority),
            {name: one.at_once_per_contractor for name, one in offloads.items() if one.at_once_per_contractor},
        )

    async def _drain(self, drain_s: float) -> None:
        self._stopping = True
        running = set(self._running.values())
        if running:
            log.info("worker.draining", jobs=len(running))
            await first_of(asyncio.wait(running), self._clock.sleep(drain_s))
        await tasks.end(running)

    # ── one job ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, job_id: str) -> None:
        """Run a job if it is due, free, and there is room for it; returns when it has ended or waits again.

        Never raises a StoreError: the job is then left to the sweep. Cancelled, it gives the job back."""
        task = self._start(job_id, self._lease_and_walk(job_id))
        if task is None:
            return
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise

    def _start(self, job_id: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """None, and nothing is begun, where there is no place or the job is here already."""
        is_full = len(self._running) >= self._at_once
        self._may_be_more |= is_full
        if self._stopping or is_full or job_id in self._running:
            work.close()
            return None
        task = asyncio.create_task(work)
        self._running[job_id] = task
        task.add_done_callback(partial(self._end, job_id))
        return task

    def _end(self, job_id: str, _: asyncio.Task[None]) -> None:
        self._running.pop(job_id, None)
        if self._may_be_more:
            self._place_free.set()

    async def _lease_and_walk(self, job_id: str) -> None:
        try:
            now_ms = self._clock.now_ms()
            until_ms = now_ms + round(self._lease_s * 1000)
            taken = await self._jobs.lease(job_id, self._owner, now_ms, until_ms, self._precedence())
        except StoreUnavailable as fault:
            log.error("job.store_unavailable", job_id=job_id, kind=fault.kind)
            return
        if taken is not None:
            await self._under_lease(*taken)

    async def _under_lease(self, lease: Lease, job: LeadJob) -> None:
        with logs.bound(job_id=job.job_id, request_id=job.request_id):
            try:
                await self._walk_and_renew(lease, job)
            except LeaseLost:
                log.warning("job.lease_lost")
            except StoreUnavailable as fault:
                log.error("job.store_unavailable", kind=fault.kind)

    async def _walk_and_renew(self, lease: Lease, job: LeadJob) -> None:
        """Walk the job while a second task renews the lease. When it cannot, the walk is stopped at once."""
        try:
            walk, _ = await first_of(self._walk(lease, job), self._renew(lease))
        except asyncio.CancelledError:
            await self._give_back(lease)
            raise
        if walk.cancelled():  # only a lost lease ends the renewal
            raise LeaseLost(f"job {lease.job_id}, token {lease.token}")
        walk.result()

    async def _walk(self, lease: Lease, job: LeadJob) -> None:
        terms = self._terms()
        try:
            await self._begin(lease, job, terms)
        except StoreError:
            raise
        except Exception as error:  # a bug: it would meet the next holder, too
            log.error("job.broken", exc=error)
            await terms.life.fail(lease, job, INTERNAL, type(error).__name__)

    async def _begin(self, lease: Lease, job: LeadJob, terms: Terms) -> None:
        offload = terms.offloads.get(job.offload)
        if offload is None:
            await self._await_offload(lease, job, terms)
            return
        has_begun = any(step.attempts for step in job.steps)
        wait_ms = 0 if has_begun else await self._starts.wait_ms(offload)
        if wait_ms:
            await self._jobs.release(lease, self._clock.now_ms() + wait_ms)
            log.info("job.waiting", reason="starts", seconds=wait_ms / 1000)
            return
        await terms.life.walk(lease, job, offload)

    async def _await_offload(self, lease: Lease, job: LeadJob, terms: Terms) -> None:
        now_ms = self._clock.now_ms()
        fails_ms = job.created_ms + round(UNKNOWN_FOR_S * 1000)
        if now_ms >= fails_ms:
            await terms.life.fail(lease, job, OFFLOAD_GONE, f"the policy has no offload {job.offload}")
            return
        log.warning("job.offload_unknown", offload=job.offload, fails_at=logs.timestamp(fails_ms / 1000))
        due_ms = min(fails_ms, now_ms + round(_UNKNOWN_PAUSE_S * 1000))
        await self._jobs.release(lease, due_ms, error_code=OFFLOAD_UNKNOWN)

    async def _renew(self, lease: Lease) -> None:
        """Returns when the lease is lost, or has run out while the database could not be reached."""
        until_ms = lease.until_ms
        while self._clock.now_ms() < until_ms:
            await self._clock.sleep(self._renew_s)
            wanted_ms = self._clock.now_ms() + round(self._lease_s * 1000)
            try:
                await self._jobs.renew(lease, wanted_ms)
                until_ms = wanted_ms
            except LeaseLost:
                return
            except StoreUnavailable as fault:
                log.warning("job.not_renewed", kind=fault.kind)

    async def _give_back(self, lease: Lease) -> None:
        """So that another worker takes the job at once instead of after the lease. Whatever fails: it runs out."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._jobs.release(lease, self._clock.now_ms())
