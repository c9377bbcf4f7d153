"""Jobs that ask in batches: a real ledger and step engine, the real SDK against the simulated Claude, and a worker that
is gone at each point between a question and its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected
from scopegate.errors import AIError, StoreUnavailable
from scopegate.leads.job import SENT, JobState, LeadJob
from scopegate.limits.budget import account
from scopegate.limits.pricing import Usage, price
from scopegate.limits.steps import StepName
from scopegate.policy.policy import OffloadUrgency, WhenSpent
from scopegate.worker.batch_watch import SENDING_MS, SKEW_MS, BatchWatch
from scopegate.worker.batches import BatchLane, custom_id
from scopegate.worker.bill import Bill
from scopegate.worker.call import BATCH, ListedBatch, ModelReply, ModelRequest
from scopegate.worker.prices import load
from scopegate.worker.purse import Purse
from scopegate.worker.tries import Purpose
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures for `home`
from tests.worker.house import House, ai, budget, house

DAY_USD_MICROS = 1_000_000
MODEL_STEPS = ["photo_analysis", "scope", "estimate"]


@dataclass
class SetClock(SystemClock):
    """The real clock, moved: the simulated Claude has the real one."""

    ahead_ms: int = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude, ai(getattr(request, "param", budget(DAY_USD_MICROS))), SetClock()) as built:
        claude.simulation.clock = built.clock
        built.urgency = OffloadUrgency.LOW
        yield built


def later(home: House, ms: int) -> None:
    assert isinstance(home.clock, SetClock)
    home.clock.ahead_ms += ms


def together(home: House, count: int) -> None:
    """From now on so many questions make a batch, however long it takes until they are there."""
    purse = Purse(home.caller, home.ledger, load(), home.ai, home.clock, lambda: uuid4().hex)
    home.life = home.living(BatchLane(home.caller, purse, home.batches, home.clock, gather_s=600, most=count))


async def in_batches(home: House, job_id: str) -> LeadJob:
    """Walked until it has ended, each batch looked at in between."""
    for _ in range(10):
        job = await home.walk(job_id)
        if job.finished_ms is not None:
            return job
        await home.watch.look()
    raise AssertionError("it does not end")


def tries(job: LeadJob) -> dict[str, list[str]]:
    return {s.name.value: [a.error_code or a.state.value for a in s.attempts] for s in job.steps}


async def money(home: House) -> tuple[int, int]:
    """(spent, reserved)."""
    now_ms = home.clock.now_ms()
    scope = account(budget(DAY_USD_MICROS), now_ms, {}).scope
    return (await home.ledger.accounts([scope], now_ms))[scope]


async def outcomes(home: House) -> list[str]:
    return [call.outcome for call in await home.ledger.calls()]


# ── the whole way ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lead_goes_all_the_way_at_half_price(home: House) -> None:
    job = await in_batches(home, (await home.order(home.app.photos(2))).job_id)
    assert job.state is JobState.DONE
    assert tries(job) == {step: ["batched", "done"] for step in MODEL_STEPS} | {"save": ["done"], "score": ["done"]}
    calls, seen = await home.ledger.calls(), home.claude.calls
    assert [call.outcome for call in calls] == ["ok"] * 3
    for call, one in zip(calls, seen, strict=True):
        whole = price(Usage(one.input_tokens, one.output_tokens), call.model, load())
        assert whole is not None
        assert whole / 2 - 1 < call.cost_usd_micros <= whole / 2 + 1, "half; each is rounded up once"
    assert await money(home) == (sum(call.cost_usd_micros for call in calls), 0)
    told = sum(attempt.cost_usd_micros for step in job.steps for attempt in step.attempts)
    assert told == sum(call.cost_usd_micros for call in calls), "the history costs what the ledger says"
    data = home.app.messages[0]["data"]
    assert [photo["outcome"] for photo in data["photos"]] == ["used", "used"]
    assert len(home.claude.simulation.batches.made) == 3


async def test_jobs_share_a_batch(home: House) -> None:
    together(home, 5)
    made = [(await home.order()).job_id for _ in range(5)]
    await asyncio.gather(*(home.walk(job_id) for job_id in made))
    (batch,) = home.claude.simulation.batches.made
    assert len(batch.requests) == 5
    assert [(await home.job(job_id)).state for job_id in made] == [JobState.HELD] * 5
    await home.watch.look()
    together(home, 1)
    for job_id in made:
        assert (await in_batches(home, job_id)).state is JobState.DONE


async def test_half_the_worst_case_is_set_aside(home: House) -> None:
    await home.walk((await home.order()).job_id)
    _, batched = await money(home)
    home.urgency = OffloadUrgency.NORMAL
    home.claude.fail(Injected("cut_json"))  # booked at its worst case
    await home.walk((await home.order()).job_id)
    spent, _ = await money(home)
    assert 0 < batched == pytest.approx(spent / 2, rel=0.01)


async def test_a_replay_is_asked_in_batches_where_somebody_wants_it(home: House) -> None:
    home.urgency = OffloadUrgency.NORMAL
    done = await home.walk((await home.order()).job_id)
    again = await home.jobs.replay(
        done.job_id, "job_again", home.clock.now_ms(), StepName.PHOTO_ANALYSIS, in_batches=True
    )
    assert again is not None
    assert again.in_batches
    job = await in_batches(home, again.job_id)
    assert tries(job)["photo_analysis"] == ["batched", "done"]


@pytest.mark.parametrize("home", [budget(1, WhenSpent.FAIL)], indirect=True)
async def test_a_spent_budget_takes_no_question(home: House) -> None:
    job = await home.walk((await home.order()).job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "no_budget")
    assert await home.batches.open() == []
    assert home.claude.simulation.batches.made == []


# ── what else a batch says ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "booked"),
    [
        (Injected("expired"), "batch_expired"),
        (Injected("error", 500), "server_error"),
        (Injected("error", 400), "bad_request"),
        (Injected("truncated"), "truncated"),
        (Injected("wrong_schema"), "ok"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
async def test_what_failed_in_a_batch_is_asked_directly(home: House, fault: Injected, booked: str) -> None:
    job_id = (await home.order()).job_id
    await home.walk(job_id)
    home.claude.fail(fault)
    await home.watch.look()
    job = await in_batches(home, job_id)
    assert job.state is JobState.DONE
    first, second = (await home.ledger.calls())[:2]
    assert (first.outcome, second.outcome) == (booked, "ok")
    assert first.cost_usd_micros == 0 or fault.kind in ("truncated", "wrong_schema")
    assert (await money(home))[1] == 0


async def test_part_of_a_batch_fails_alone(home: House) -> None:
    together(home, 3)
    made = [(await home.order()).job_id for _ in range(3)]
    await asyncio.gather(*(home.walk(job_id) for job_id in made))
    home.claude.fail(Injected("none"), Injected("expired"))
    await home.watch.look()
    assert sorted(await outcomes(home)) == ["batch_expired", "ok", "ok"]


async def test_a_refusal_is_final(home: House) -> None:
    job_id = (await home.order()).job_id
    await home.walk(job_id)
    home.claude.fail(Injected("refusal"))
    await home.watch.look()
    job = await home.walk(job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "refused")
    assert await outcomes(home) == ["refused"]


async def test_a_batch_that_takes_too_long_is_asked_directly_and_cancelled(home: House) -> None:
    home.claude.simulation.batches.lasts_s = 86_400
    job_id = (await home.order()).job_id
    waiting = await home.walk(job_id)
    assert (waiting.state, waiting.error_code) == (JobState.HELD, "batched")
    await home.watch.look()
    later(home, waiting.due_ms - home.clock.now_ms())
    job = await home.walk(job_id)
    assert job.state is JobState.DONE
    assert tries(job) == {step: ["done"] for step in tries(job)} | {"photo_analysis": ["batched", "done"]}
    await home.watch.look()
    (batch,) = home.claude.simulation.batches.made
    assert batch.cancelled_ms is not None, "nobody waits for it any more"
    await home.watch.look()
    assert (await outcomes(home)).count("batch_canceled") == 1
    assert (await money(home))[1] == 0
    assert await home.batches.open() == []


async def test_the_batch_of_a_cancelled_job_is_cancelled_once_nobody_else_is_in_it(home: House) -> None:
    home.claude.simulation.batches.lasts_s = 3600
    together(home, 2)
    first, second = [(await home.order()).job_id for _ in range(2)]
    await asyncio.gather(home.walk(first), home.walk(second))
    (batch,) = home.claude.simulation.batches.made
    await home.jobs.cancel(first, home.clock.now_ms())
    await home.watch.look()
    assert batch.cancelled_ms is None
    await home.jobs.cancel(second, home.clock.now_ms())
    await home.watch.look()
    await home.watch.look()
    assert await outcomes(home) == ["batch_canceled"] * 2
    assert await money(home) == (0, 0)


@pytest.mark.parametrize(("status", "state"), [(529, JobState.HELD), (500, JobState.HELD), (401, JobState.FAILED)])
async def test_a_batch_that_the_api_does_not_take_costs_nothing(home: House, status: int, state: JobState) -> None:
    home.claude.fail(Injected("error", status))
    job_id = (await home.order()).job_id
    job = await home.walk(job_id)
    assert job.state is state
    assert await money(home) == (0, 0)
    assert await home.ledger.calls() == []
    if state is JobState.HELD:
        await home.watch.look()
        assert (await in_batches(home, job_id)).state is JobState.DONE


# ── killed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here: nothing after this line happens."""


class Gone:
    """A port of a process that is gone when it comes to one of its methods."""

    def __init__(self, port: Any, method: str) -> None:
        self._port = port
        self._method = method
        self.reached = asyncio.Event()
        self.over = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return self._never if name == self._method else getattr(self._port, name)

    async def _never(self, *_: object, **__: object) -> None:
        self.reached.set()
        await self.over.wait()
        raise StoreUnavailable("other", "the process has ended")


async def killed_at(home: House, job_id: str, part: str, method: str) -> None:
    """The walk of a worker that is gone before `part.method` does anything; its lease runs out."""
    ports: dict[str, Any] = {"client": home.caller, "ledger": home.ledger, "batches": home.batches}
    gone = ports[part] = Gone(ports[part], method)
    purse = Purse(home.caller, ports["ledger"], load(), home.ai, home.clock, lambda: uuid4().hex)
    lane = BatchLane(ports["client"], purse, ports["batches"], home.clock, gather_s=0.05)
    life, home.life = home.life, home.living(lane)
    walk = asyncio.create_task(home.walk(job_id))
    await gone.reached.wait()
    walk.cancel()
    gone.over.set()
    await asyncio.wait({walk})
    home.life = life
    later(home, 20_000)


async def is_whole(home: House, job_id: str, paid: int) -> None:
    """The job comes to its end, each question paid once, nothing left set aside."""
    later(home, SENDING_MS + SKEW_MS)
    await home.watch.look()
    job = await in_batches(home, job_id)
    assert job.state is JobState.DONE
    calls = await home.ledger.calls()
    assert [call.step for call in calls] == MODEL_STEPS
    assert len(home.claude.calls) == paid
    assert await money(home) == (sum(call.cost_usd_micros for call in calls), 0)


async def test_killed_before_money_is_set_aside(home: House) -> None:
    job_id = (await home.order()).job_id
    await killed_at(home, job_id, "ledger", "reserve")
    assert await home.ledger.calls() == []
    await is_whole(home, job_id, paid=3)


async def test_killed_before_the_batch_is_made(home: House) -> None:
    job_id = (await home.order()).job_id
    await killed_at(home, job_id, "client", "create_batch")
    assert await outcomes(home) == [SENT]
    assert len(await home.batches.open()) == 1
    await home.watch.look()
    assert len(await home.batches.open()) == 1, "it may still be on its way"
    await is_whole(home, job_id, paid=3)


async def test_killed_after_the_batch_is_made_and_before_it_is_noted(home: House) -> None:
    job_id = (await home.order()).job_id
    await killed_at(home, job_id, "batches", "name")
    assert len(home.claude.simulation.batches.made) == 1
    (open_call,) = await home.batches.open()
    assert open_call.batch_id is None
    await is_whole(home, job_id, paid=3)
    assert len(home.claude.simulation.batches.made) == 3


async def test_a_batch_under_way_that_may_be_ours_is_waited_for(home: House) -> None:
    home.claude.simulation.batches.lasts_s = 3600
    job_id = (await home.order()).job_id
    await killed_at(home, job_id, "batches", "name")
    later(home, 2 * (SENDING_MS + SKEW_MS))
    await home.watch.look()
    assert len(await home.batches.open()) == 1
    home.claude.simulation.batches.lasts_s = 0
    home.claude.simulation.batches.made[0].ends_ms = 0
    await is_whole(home, job_id, paid=3)


async def test_a_creation_without_an_answer_is_found_out(home: House) -> None:
    home.claude.fail(Injected("reset"))
    job_id = (await home.order()).job_id
    job = await home.walk(job_id)
    assert (job.state, job.error_code) == (JobState.HELD, "batched")
    await is_whole(home, job_id, paid=3)


class Killing(Gone):
    async def _never(self, *_: object, **__: object) -> None:
        raise Killed


@pytest.mark.parametrize(("part", "method"), [("ledger", "settle"), ("batches", "end"), ("batches", "wake")])
async def test_killed_between_a_result_and_its_job(home: House, part: str, method: str) -> None:
    job_id = (await home.order()).job_id
    await home.walk(job_id)
    ports: dict[str, Any] = {"ledger": home.ledger, "batches": home.batches}
    ports[part] = Killing(ports[part], method)
    table = load()
    watch = BatchWatch(home.caller, ports["batches"], ports["ledger"], Bill(table), table.version, home.clock)
    with pytest.raises(Killed):
        await watch.look()
    await is_whole(home, job_id, paid=3)


async def test_batches_of_others_are_none_of_our_business(home: House) -> None:
    request = ModelRequest("claude-haiku-5-5", "system", "text", {"type": "object"}, 100, 5.0)
    await home.caller.create_batch({"theirs": request})
    job_id = (await home.order()).job_id
    await is_whole(home, job_id, paid=4)


def test_custom_ids_are_those_of_step_and_attempt() -> None:
    ids = {
        custom_id(Purpose(job, "lead", None, step, attempt))
        for job in ("job_1", "job_2")
        for step in (StepName.SCOPE, StepName.ESTIMATE)
        for attempt in (1, 2)
    }
    assert len(ids) == 8
    assert all(len(one) <= 64 and one.replace("_", "").isalnum() for one in ids), "as the API takes them"


# ── what the API says of batches ────────────────────────────────────────────────────────────────────────────────────


class Api:
    """A list of one batch, and results that break off."""

    def __init__(self, batch: ListedBatch) -> None:
        self.batch = batch

    async def create_batch(self, requests: Mapping[str, ModelRequest]) -> str:
        raise AssertionError

    async def list_batches(self, since_ms: int) -> Sequence[ListedBatch]:
        return [self.batch]

    async def batch_results(self, batch_id: str) -> Mapping[str, ModelReply | AIError]:
        raise AIError("connection", retryable=True)

    async def cancel_batch(self, batch_id: str) -> None:
        raise AssertionError


async def test_results_that_cannot_be_read_now_are_read_later(home: House) -> None:
    job_id = (await home.order()).job_id
    await home.walk(job_id)
    (call,) = await home.batches.open()
    assert call.batch_id is not None
    api, table = Api(ListedBatch(call.batch_id, call.asked_ms, True, 1)), load()
    await BatchWatch(api, home.batches, home.ledger, Bill(table), table.version, home.clock).look()
    assert len(await home.batches.open()) == 1
    await is_whole(home, job_id, paid=3)


def test_a_batch_is_priced_in_its_tier() -> None:
    table = load()
    usage = Usage(1000, 100)
    whole = price(usage, "claude-sonnet-5-5", table)
    half = price(Usage(1000, 100, terms=(("service_tier", BATCH),)), "claude-sonnet-5-5", table)
    assert whole is not None
    assert half == whole // 2
