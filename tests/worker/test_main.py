"""The worker: leases, renewal, the sweep, starts, room, and the ways it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import JobState, LeadJob, LeadOrder, Lease, OrderState, Precedence
from scopegate.limits.steps import StepName
from scopegate.limits.window import Quota, Spent, Window
from scopegate.stores.jobs import FIRST_COME, SqlJobs
from scopegate.stores.memory import MemoryLimits
from scopegate.worker.main import AT_ONCE, LEASE_S, RENEW_S, UNKNOWN_FOR_S, Starts, Terms, Worker
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures for `home`
from tests.worker.app import Asked, answer
from tests.worker.clock import SteppedClock
from tests.worker.house import House, house

PATIENCE_S = 20


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude, clock=SteppedClock()) as built:
        yield built


class NoLimits:
    """A limit store that is gone."""

    def spend(self, windows: Sequence[Window]) -> Spent:
        raise StoreUnavailable("connect")

    async def close(self) -> None: ...


def worker(
    home: House,
    *,
    owner: str = "one",
    jobs: SqlJobs | None = None,
    terms: Callable[[], Terms] | None = None,
    **changes: object,
) -> Worker:
    def usual() -> Terms:
        return Terms({"lead-photos": home.app.offload(changes.get("starts"))}, home.life)  # type: ignore[arg-type]

    limits = changes.get("limits") or MemoryLimits(home.clock)
    starts = Starts(limits, MemoryLimits(home.clock))  # type: ignore[arg-type]
    at_once = changes.get("at_once", AT_ONCE)
    assert isinstance(at_once, int)
    return Worker(
        jobs or home.jobs, home.outbox, home.ledger, starts, terms or usual, home.clock, owner, at_once=at_once
    )


def clock(home: House) -> SteppedClock:
    assert isinstance(home.clock, SteppedClock)
    return home.clock


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0)


async def until_state(home: House, job_id: str, state: JobState) -> LeadJob:
    async with asyncio.timeout(PATIENCE_S):
        while (job := await home.job(job_id)).state is not state:
            await asyncio.sleep(0)
    return job


class Gate:
    """An app that does not answer its webhook until told to: the job stays in its save step, under its lease."""

    def __init__(self, home: House) -> None:
        self._home = home
        self.asked: list[Asked] = []
        self.open = asyncio.Event()
        home.app.hook = self._hook

    async def _hook(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        await self.open.wait()
        return self._home.app.take(asked)


async def test_a_woken_job_is_run_to_its_end(home: House) -> None:
    job = await home.order()
    await worker(home).run(job.job_id)
    assert (await home.job(job.job_id)).state is JobState.DONE


@pytest.mark.parametrize("job_id", ["job_unknown", ""])
async def test_a_wake_up_for_nothing_is_nothing(home: House, job_id: str) -> None:
    await worker(home).run(job_id)


async def test_a_finished_or_waiting_job_is_left_alone(home: House) -> None:
    job = await home.order(photos=[])
    one = worker(home)
    await one.run(job.job_id)
    await one.run(job.job_id)
    assert (await home.job(job.job_id)).tries == 1


async def test_many_wake_ups_of_many_workers_run_a_job_once(home: House) -> None:
    job = await home.order()
    workers = [worker(home, owner=str(n)) for n in range(5)]
    await asyncio.gather(*(one.run(job.job_id) for one in workers * 4))
    done = await home.job(job.job_id)
    assert (done.state, done.tries) == (JobState.DONE, 1)
    assert len(home.app.messages) == 2
    assert home.claude.requests == 3


async def test_the_sweep_finds_what_nobody_woke(home: House) -> None:
    jobs = [await home.order(photos=[]) for _ in range(3)]
    stop = asyncio.Event()
    serving = asyncio.create_task(worker(home).serve(stop, drain_s=lambda: 5))
    for job in jobs:
        await until_state(home, job.job_id, JobState.DONE)
    stop.set()
    await asyncio.wait_for(serving, PATIENCE_S)


async def test_the_sweep_takes_no_more_than_there_is_room_for(home: House) -> None:
    gate = Gate(home)
    for _ in range(5):
        await home.order(photos=[])
    one = worker(home, at_once=2)
    await one.sweep()
    await until(lambda: len(gate.asked) == 2)
    await one.sweep()
    third = (await home.order(photos=[])).job_id
    await one.run(third)
    assert (await home.job(third)).tries == 0
    assert (await home.jobs.counts())["running"] == 2
    gate.open.set()
    await until(lambda: not one._running)
    await one.sweep()
    await until(lambda: len(gate.asked) >= 6)


async def test_a_place_that_is_free_is_taken_at_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Twelve jobs for two places, and no second sweep."""
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude, clock=SystemClock()) as home:
        for _ in range(12):
            await home.order([])
        limits = MemoryLimits(home.clock)
        starts = Starts(limits, limits)
        terms = Terms({"lead-photos": home.app.offload()}, home.life)
        one = Worker(
            home.jobs, home.outbox, home.ledger, starts, lambda: terms, home.clock, "one", at_once=2, sweep_s=3600.0
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(one.serve(stop, lambda: 1.0))
        async with asyncio.timeout(PATIENCE_S):
            while (await home.jobs.counts())["done"] < 12:
                await asyncio.sleep(0.05)
        stop.set()
        await serving


async def test_a_lease_is_renewed_while_the_job_runs(home: House) -> None:
    gate = Gate(home)
    job = await home.order(photos=[])
    running = asyncio.create_task(worker(home).run(job.job_id))
    await until(lambda: len(gate.asked) == 1)
    started_ms = clock(home).now_ms()
    for n in range(1, 9):
        await until(lambda: clock(home).sleeping == 1)
        clock(home).advance(RENEW_S)
        expected_ms = started_ms + round((n * RENEW_S + LEASE_S) * 1000)
        async with asyncio.timeout(PATIENCE_S):
            while (await home.job(job.job_id)).due_ms != expected_ms:
                await asyncio.sleep(0)
        assert await home.jobs.lease(job.job_id, "other", clock(home).now_ms(), 0) is None
    gate.open.set()
    await running
    assert (await home.job(job.job_id)).tries == 1


async def test_a_lost_lease_stops_the_run_at_once(home: House) -> None:
    gate = Gate(home)
    job = await home.order(photos=[])
    running = asyncio.create_task(worker(home).run(job.job_id))
    await until(lambda: len(gate.asked) == 1 and clock(home).sleeping == 1)
    clock(home)._now_ms += 16_000  # the machine slept: nobody was woken in time
    now_ms = clock(home).now_ms()
    taken = await home.jobs.lease(job.job_id, "thief", now_ms, now_ms + 15_000)
    assert taken is not None
    clock(home).advance(0)
    await asyncio.wait_for(running, PATIENCE_S)
    left = await home.job(job.job_id)
    assert (left.state, left.due_ms, left.tries) == (JobState.RUNNING, now_ms + 15_000, 2)
    assert [attempt.error_code for attempt in left.steps[3].attempts] == ["worker_lost"]


async def test_a_killed_workers_job_is_taken_after_its_lease(home: House) -> None:
    job = await home.order()
    now_ms = home.clock.now_ms()
    taken = await home.jobs.lease(job.job_id, "killed", now_ms, now_ms + 15_000)
    assert taken is not None
    await home.jobs.start_attempt(taken[0], StepName.PHOTO_ANALYSIS, now_ms)
    other = worker(home, owner="other")
    clock(home).advance(14.9)
    await other.sweep()
    await other.run(job.job_id)
    assert (await home.job(job.job_id)).tries == 1
    clock(home).advance(0.1)
    await other.run(job.job_id)
    done = await home.job(job.job_id)
    assert (done.state, done.tries) == (JobState.DONE, 2)


class Flaky(SqlJobs):
    """A database that can be switched off."""

    down = False

    async def renew(self, lease: Lease, until_ms: int) -> Lease:
        if self.down:
            raise StoreUnavailable("timeout")
        return await super().renew(lease, until_ms)

    async def take(
        self, owner: str, now_ms: int, until_ms: int, limit: int, precedence: Precedence = FIRST_COME
    ) -> Sequence[tuple[Lease, LeadJob]]:
        if self.down:
            raise StoreUnavailable("connect")
        return await super().take(owner, now_ms, until_ms, limit, precedence)

    async def lease(
        self, job_id: str, owner: str, now_ms: int, until_ms: int, precedence: Precedence = FIRST_COME
    ) -> tuple[Lease, LeadJob] | None:
        if self.down:
            raise StoreUnavailable("connect")
        return await super().lease(job_id, owner, now_ms, until_ms, precedence)


async def test_a_renewal_that_fails_is_repeated_until_the_lease_runs_out(home: House) -> None:
    gate, jobs = Gate(home), Flaky(home.database)
    job = await home.order(photos=[])
    running = asyncio.create_task(worker(home, jobs=jobs).run(job.job_id))
    await until(lambda: len(gate.asked) == 1)
    jobs.down = True
    for _ in range(2):
        await until(lambda: clock(home).sleeping == 1)
        clock(home).advance(5)
    jobs.down = False
    await until(lambda: clock(home).sleeping == 1)
    clock(home).advance(4)
    jobs.down = True
    assert not running.done()
    clock(home).advance(1)
    for _ in range(3):
        await until(lambda: clock(home).sleeping == 1 or running.done())
        clock(home).advance(5)
    await asyncio.wait_for(running, PATIENCE_S)
    assert home.app.messages == []


async def test_a_database_that_is_down_is_waited_for(home: House) -> None:
    jobs = Flaky(home.database)
    jobs.down = True
    job = await home.order(photos=[])
    one, stop = worker(home, jobs=jobs), asyncio.Event()
    await one.run(job.job_id)
    serving = asyncio.create_task(one.serve(stop, drain_s=lambda: 5))
    for _ in range(3):
        await until(lambda: clock(home).sleeping == 1)
        clock(home).advance(2)
    assert not serving.done()
    jobs.down = False
    await until(lambda: clock(home).sleeping == 1)
    clock(home).advance(2)
    await until_state(home, job.job_id, JobState.DONE)
    stop.set()
    await asyncio.wait_for(serving, PATIENCE_S)


# ── a changed policy ────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_job_whose_offload_is_unknown_waits_and_says_why_and_fails_by_name_in_the_end(home: House) -> None:
    job, one = await home.order(offload="removed"), worker(home)
    pauses = 0
    await one.run(job.job_id)
    while (left := await home.job(job.job_id)).finished_ms is None:
        assert (left.state, left.error_code) == (JobState.QUEUED, "offload_unknown")
        assert 0 < left.due_ms - home.clock.now_ms() <= 5000
        clock(home).advance((left.due_ms - home.clock.now_ms()) / 1000)
        await one.run(job.job_id)
        pauses += 1
    assert (left.state, left.error_code) == (JobState.FAILED, "offload_gone")
    assert left.finished_ms - left.created_ms == UNKNOWN_FOR_S * 1000
    assert pauses == 120
    assert not any(step.attempts for step in left.steps)


async def test_a_job_is_run_once_a_policy_knows_its_offload(home: House) -> None:
    in_force = Terms({}, home.life)
    job, one = await home.order(photos=[]), worker(home, terms=lambda: in_force)
    await one.run(job.job_id)
    assert (await home.job(job.job_id)).error_code == "offload_unknown"
    in_force = Terms({"lead-photos": home.app.offload()}, home.life)
    clock(home).advance(5)
    await one.run(job.job_id)
    done = await home.job(job.job_id)
    assert (done.state, done.error_code) == (JobState.DONE, None)


async def test_a_job_under_way_keeps_the_terms_it_began_with(home: House) -> None:
    gate = Gate(home)
    in_force = Terms({"lead-photos": home.app.offload()}, home.life)
    job, one = await home.order(photos=[]), worker(home, terms=lambda: in_force)
    running = asyncio.create_task(one.run(job.job_id))
    await until(lambda: len(gate.asked) == 1)
    in_force = Terms({}, home.life)
    gate.open.set()
    await asyncio.wait_for(running, PATIENCE_S)
    done = await home.job(job.job_id)
    assert (done.state, done.tries) == (JobState.DONE, 1)
    assert len(home.app.messages) == 2


class Confused(NoLimits):
    """A limit store with a bug."""

    def spend(self, windows: Sequence[Window]) -> Spent:
        raise ZeroDivisionError


async def test_a_bug_before_the_first_step_fails_the_job_by_name(home: House) -> None:
    job = await home.order()
    await worker(home, starts=Quota(1, 1000), limits=Confused()).run(job.job_id)
    failed = await home.job(job.job_id)
    assert (failed.state, failed.error_code) == (JobState.FAILED, "internal")


# ── starts ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("limits", [None, NoLimits()])
async def test_no_more_jobs_start_than_the_policy_says(home: House, limits: NoLimits | None) -> None:
    one = worker(home, starts=Quota(2, 60_000), limits=limits)
    jobs = [await home.order(photos=[]) for _ in range(3)]
    for job in jobs:
        await one.run(job.job_id)
    states = [(await home.job(job.job_id)).state for job in jobs]
    assert states == [JobState.DONE, JobState.DONE, JobState.QUEUED]
    waiting = await home.job(jobs[2].job_id)
    assert (waiting.due_ms - home.clock.now_ms(), waiting.error_code) == (60_000, None)
    assert not any(step.attempts for step in waiting.steps)
    clock(home).advance(60)
    await one.run(waiting.job_id)
    assert (await home.job(waiting.job_id)).state is JobState.DONE


async def test_a_job_that_goes_on_is_no_start(home: House) -> None:
    one = worker(home, starts=Quota(1, 600_000))
    job = await home.order(photos=[])
    answers = [answer(503), answer(503)]

    async def hook(asked: Asked) -> bytes:
        return answers.pop() if answers else home.app.take(asked)

    home.app.hook = hook
    for _ in range(3):
        await one.run(job.job_id)
        clock(home).advance(40)
    assert (await home.job(job.job_id)).state is JobState.DONE


# ── stopping ────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_stop_lets_running_jobs_end_and_takes_no_more(home: House) -> None:
    gate, stop = Gate(home), asyncio.Event()
    running = await home.order(photos=[])
    one = worker(home)
    serving = asyncio.create_task(one.serve(stop, drain_s=lambda: 10))
    await until(lambda: len(gate.asked) == 1)
    stop.set()
    await until(lambda: one._stopping)
    later = await home.order(photos=[])
    await one.run(later.job_id)
    gate.open.set()
    await asyncio.wait_for(serving, PATIENCE_S)
    assert (await home.job(running.job_id)).state is JobState.DONE
    assert (await home.job(later.job_id)).tries == 0


async def test_what_does_not_end_in_time_is_given_back_without_a_failure(home: House) -> None:
    home.claude.fail(Injected("hang", seconds=20))
    job = await home.order(photos=[])
    stop = asyncio.Event()
    one = worker(home)
    serving = asyncio.create_task(one.serve(stop, drain_s=lambda: 10))
    await until(lambda: home.claude.requests == 1)
    stop.set()
    await until(lambda: one._stopping and clock(home).sleeping == 2)  # the renewal, and the end of the drain
    clock(home).advance(10)
    await asyncio.wait_for(serving, PATIENCE_S)
    left = await home.job(job.job_id)
    assert (left.state, left.due_ms) == (JobState.QUEUED, home.clock.now_ms())
    assert [attempt.error_code for attempt in left.steps[1].attempts] == ["worker_stopped"]
    home.claude.reset()
    await worker(home, owner="next").run(job.job_id)
    assert (await home.job(job.job_id)).state is JobState.DONE


async def test_a_cancelled_wake_up_gives_the_job_back(home: House) -> None:
    home.claude.fail(Injected("hang", seconds=20))
    job = await home.order(photos=[])
    running = asyncio.create_task(worker(home).run(job.job_id))
    await until(lambda: home.claude.requests == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    left = await home.job(job.job_id)
    assert (left.state, left.due_ms) == (JobState.QUEUED, home.clock.now_ms())


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_an_order_without_an_answer_becomes_unknown_after_two_minutes(home: House) -> None:
    await home.outbox.put(LeadOrder("o-1", "lead-photos", "submit-lead", "req", home.clock.now_ms(), {}))
    one = worker(home)
    clock(home).advance(120)
    await one.sweep()
    assert await home.outbox.count(OrderState.PENDING) == 1
    clock(home).advance(1)
    await one.sweep()
    assert await home.outbox.count(OrderState.UNKNOWN) == 1
