"""kill -9 of real worker processes in the middle of a step: nothing is lost, nothing finished is paid twice."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected
from scopegate.leads.job import AttemptState, JobState, LeadJob
from scopegate.limits.steps import StepName
from scopegate.stores.leases import LOST
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures for `home`
from tests.worker.app import Asked
from tests.worker.house import House, house

LEASE_S = 1.5
PATIENCE_S = 40
MODEL_STEPS = {StepName.PHOTO_ANALYSIS: "PhotoAnalysis", StepName.SCOPE: "ScopeOfWork", StepName.ESTIMATE: "Estimate"}


@dataclass
class Workers:
    """Worker processes of one test, forked by `nursery`: only these are ever killed."""

    home: House
    folder: Path
    nursery: asyncio.subprocess.Process

    async def start(self) -> int:
        """The new worker's pid."""
        return await self._say("start")

    async def kill(self, pid: int) -> None:
        assert await self._say(f"kill {pid}") == -signal.SIGKILL

    async def stop(self, pid: int) -> int:
        """SIGTERM; its exit code."""
        return await self._say(f"stop {pid}")

    async def _say(self, words: str) -> int:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(f"{words}\n".encode())
        return int(await asyncio.wait_for(self.nursery.stdout.readline(), PATIENCE_S))

    def holder(self) -> int:
        """The process that holds the one job's lease."""
        with sqlite3.connect(self.folder / "scopegate.db") as database:
            (owner,) = database.execute("SELECT lease_owner FROM jobs").fetchone()
        return int(owner)

    async def job_is(self, job_id: str, state: JobState) -> LeadJob:
        async with asyncio.timeout(PATIENCE_S):
            while (job := await self.home.job(job_id)).state is not state:
                assert job.state not in (JobState.DONE, JobState.FAILED), (job.state, job.error_code)
                await asyncio.sleep(0.05)
        return job


@pytest.fixture
async def workers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Workers]:
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude, clock=SystemClock()) as home:
        assert home.app.server is not None
        nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.flows.worker_process"),
            *(str(tmp_path), claude.url, home.app.server.authority, str(LEASE_S)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Workers(home, tmp_path, nursery)
        finally:
            assert nursery.stdin is not None
            nursery.stdin.close()
            await asyncio.wait_for(nursery.wait(), PATIENCE_S)


async def reached(claude: SimulatedClaude, requests: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while claude.requests < requests:
            await asyncio.sleep(0.02)


def answered(claude: SimulatedClaude) -> Counter[str]:
    """Calls that got an answer, by schema: what was paid for."""
    return Counter(call.schema for call in claude.calls if call.fault != "hang")


async def outcomes_in_the_books(home: House, job: LeadJob) -> Counter[str]:
    """Every call that the API heard of is there; those of killed workers as they were sent."""
    return Counter(call.outcome for call in await home.ledger.calls(job_id=job.job_id))


async def test_a_worker_killed_in_the_scope_step_costs_no_finished_step(workers: Workers) -> None:
    home, claude = workers.home, workers.home.claude
    claude.fail(Injected("none"), Injected("hang"))
    job = await home.order()
    first = await workers.start()
    await reached(claude, 2)
    await workers.kill(first)
    left = await home.job(job.job_id)
    assert left.state is JobState.RUNNING
    second = await workers.start()
    done = await workers.job_is(job.job_id, JobState.DONE)
    assert answered(claude) == {"PhotoAnalysis": 1, "ScopeOfWork": 1, "Estimate": 1}
    assert claude.requests == 4
    assert await outcomes_in_the_books(home, job) == {"sent": 1, "ok": 3}
    outcomes = {step.name: [attempt.state for attempt in step.attempts] for step in done.steps}
    assert outcomes[StepName.PHOTO_ANALYSIS] == [AttemptState.DONE]
    assert outcomes[StepName.SCOPE] == [AttemptState.LOST, AttemptState.DONE]
    assert [message["type"] for message in home.app.messages] == ["lead.analysis.completed", "lead.score.updated"]
    paid = {call.step for call in await home.ledger.calls(job_id=job.job_id) if call.outcome == "ok"}
    assert paid == set(MODEL_STEPS)
    assert await workers.stop(second) == 0


async def test_killed_by_turns_at_every_step_the_job_still_ends_done(workers: Workers) -> None:
    """Two workers; whoever holds the job is killed in the middle of each step, and a fresh one joins."""
    home, claude = workers.home, workers.home.claude
    hooks: asyncio.Queue[Asked] = asyncio.Queue()
    hung = Counter[str]()

    async def hang_once_per_message(asked: Asked) -> bytes | None:
        kind = asked.get("webhook-id").rpartition("_")[2]
        hung[kind] += 1
        if hung[kind] == 1:
            hooks.put_nowait(asked)
            await asyncio.sleep(PATIENCE_S)
        return home.app.take(asked)

    home.app.hook = hang_once_per_message
    claude.fail(*[Injected("hang"), Injected("none")] * 3)
    await workers.start()
    await workers.start()
    job = await home.order()
    for requests in (1, 3, 5):
        await reached(claude, requests)
        await workers.kill(workers.holder())
        await workers.start()
    for _ in range(2):
        await asyncio.wait_for(hooks.get(), PATIENCE_S)
        await workers.kill(workers.holder())
        await workers.start()
    done = await workers.job_is(job.job_id, JobState.DONE)
    ends = {step.name: [attempt.error_code or attempt.state for attempt in step.attempts] for step in done.steps}
    assert ends == {name: [LOST, AttemptState.DONE] for name in StepName}
    assert answered(claude) == {"PhotoAnalysis": 1, "ScopeOfWork": 1, "Estimate": 1}
    assert claude.requests == 6
    assert await outcomes_in_the_books(home, job) == {"sent": 3, "ok": 3}
    assert [message["type"] for message in home.app.messages] == ["lead.analysis.completed", "lead.score.updated"]
    assert done.tries == 6


async def test_a_stopped_worker_gives_its_job_to_the_next_at_once(workers: Workers) -> None:
    home, claude = workers.home, workers.home.claude
    claude.fail(Injected("none"), Injected("hang"))
    job = await home.order()
    first = await workers.start()
    await reached(claude, 2)
    assert await workers.stop(first) == 0
    left = await home.job(job.job_id)
    assert left.state is JobState.QUEUED
    assert left.due_ms <= home.clock.now_ms()
    assert [attempt.error_code for attempt in left.steps[1].attempts] == ["worker_stopped"]
    await workers.start()
    await workers.job_is(job.job_id, JobState.DONE)
    assert answered(claude) == {"PhotoAnalysis": 1, "ScopeOfWork": 1, "Estimate": 1}


async def test_many_workers_share_many_jobs_without_running_one_twice(workers: Workers) -> None:
    home, claude = workers.home, workers.home.claude
    pids = [await workers.start() for _ in range(3)]
    jobs = [await home.order(photos=[]) for _ in range(15)]
    await reached(claude, 5)
    await workers.kill(pids[0])
    done = [await workers.job_is(job.job_id, JobState.DONE) for job in jobs]
    lost = [a for job in done for step in job.steps for a in step.attempts if a.state is AttemptState.LOST]
    assert len(set(home.app.ids)) == 30
    assert len(home.app.ids) <= 30 + len(lost)
    assert 30 <= claude.requests <= 30 + len(lost)
    booked = sum([await outcomes_in_the_books(home, job) for job in jobs], Counter[str]())
    assert booked.total() >= claude.requests
    assert booked["ok"] >= 30
    assert [await workers.stop(pid) for pid in pids[1:]] == [0, 0]
