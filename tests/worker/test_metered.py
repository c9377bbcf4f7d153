"""The metered client on a real ledger, with the real SDK against the simulated Claude: tries, waits, money, breaker."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from fractions import Fraction
from typing import Any

import pytest

from scopegate.demo.claude import Injected
from scopegate.errors import (
    AICircuitBreakerError,
    AIOutputError,
    AITimeoutError,
    StoreUnavailable,
)
from scopegate.leads.findings import Broken
from scopegate.leads.job import SENT, CallRecord
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.limits.budget import NoRoom, Reservation
from scopegate.limits.pricing import Usage, price
from scopegate.limits.retries import RetryBudget
from scopegate.limits.steps import StepName
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.memory import MemoryBreakers
from scopegate.worker.call import ModelReply, ModelRequest
from scopegate.worker.metered import Completion, Purpose
from tests.simulated import _running_claude, simulated_claude
from tests.worker.metering import (
    CONTRACTOR,
    MODEL,
    OVERLOADED,
    PRICES,
    PURPOSE,
    Bench,
    Breakers,
    bench,
    counter,
    failure,
    policy,
    question,
    worst,
)

__all__ = ["_running_claude", "bench", "simulated_claude"]


# ── a good call ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_good_call_is_booked_to_the_micro_dollar(bench: Bench) -> None:
    answer = await bench.ask(bench.client())
    (row,), (seen,) = await bench.rows(), bench.claude.calls
    cost = price(Usage(seen.input_tokens, seen.output_tokens), MODEL, PRICES)
    assert isinstance(answer.value, PhotoAnalysis)
    assert (answer.calls, answer.cost_usd_micros) == (1, cost)
    assert await bench.account() == (cost, 0)
    assert await bench.account(CONTRACTOR) == (cost, 0)
    assert (row.outcome, row.status, row.model, row.step, row.call_n, row.step_attempt) == (
        "ok", 200, MODEL, "photo_analysis", 1, 1,
    )  # fmt: skip
    assert (row.job_id, row.lead_id, row.contractor) == ("job-1", "lead-1", "roofers-inc")
    assert (row.input_tokens, row.output_tokens, row.cost_usd_micros) == (seen.input_tokens, seen.output_tokens, cost)
    assert (row.api_request_id, row.price_version, row.day) == (seen.request_id, PRICES.version, "2027-01-15")
    assert bench.breakers.outcomes == [CallOutcome.SUCCESS]
    assert bench.clock.slept == []


# ── retries ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("jitter", "delays"), [(0.5, [1.0, 2.0, 4.0]), (0.0, [0.8, 1.6, 3.2]), (1.0, [1.2, 2.4, 4.8])])
async def test_always_overloaded_makes_exactly_the_configured_calls(
    bench: Bench, jitter: float, delays: list[float]
) -> None:
    bench.claude.fail(*[OVERLOADED] * 10)
    error = await failure(bench, bench.client(jitter=lambda: jitter))
    assert (error.code, error.status, error.cost_usd_micros) == ("overloaded", 529, 0)
    assert bench.claude.requests == 4
    assert bench.clock.slept == pytest.approx(delays)
    assert [(row.call_n, row.outcome, row.cost_usd_micros) for row in await bench.rows()] == [
        (n, "overloaded", 0) for n in (1, 2, 3, 4)
    ]
    assert await bench.account() == (0, 0)
    assert bench.breakers.outcomes == [CallOutcome.FAILURE] * 4


async def test_it_recovers(bench: Bench) -> None:
    bench.claude.fail(OVERLOADED, Injected("error", 500))
    answer = await bench.ask(bench.client())
    assert answer.calls == 3
    assert bench.clock.slept == pytest.approx([1.0, 2.0])
    assert [row.outcome for row in await bench.rows()] == ["overloaded", "server_error", "ok"]


@pytest.mark.parametrize(
    ("retry_after", "slept", "calls"), [("7", [8.75 - 0.875], 2), ("60", [67.5], 2), ("61", [], 1), ("4000000", [], 1)]
)
async def test_retry_after(bench: Bench, retry_after: str, slept: list[float], calls: int) -> None:
    bench.claude.fail(Injected("error", 429, retry_after=retry_after))
    client = bench.client()
    if calls == 1:
        assert (await failure(bench, client)).retry_after_s == float(retry_after)
    else:
        await bench.ask(client)
    assert bench.clock.slept == pytest.approx(slept)
    assert bench.claude.requests == calls


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Injected("error", 400), "bad_request"),
        (Injected("error", 401), "auth"),
        (Injected("error", 413), "bad_request"),
        (Injected("error", 429, error_code="enforced_spend_limit_reached"), "spend_limit"),
        (Injected("refusal"), "refused"),
    ],
)
async def test_what_waiting_does_not_heal_is_tried_once(bench: Bench, fault: Injected, code: str) -> None:
    bench.claude.fail(fault)
    assert (await failure(bench, bench.client())).code == code
    assert bench.claude.requests == 1
    assert CallOutcome.FAILURE not in bench.breakers.outcomes, "our own mistake is not the API's failure"


async def test_a_deadline_ends_the_waiting(bench: Bench) -> None:
    bench.claude.fail(*[OVERLOADED] * 4)
    error = await failure(bench, bench.client(), deadline_s=bench.clock.monotonic_s() + 2.5)
    assert error.code == "overloaded"
    assert bench.clock.slept == pytest.approx([1.0])
    assert bench.claude.requests == 2
    assert (await failure(bench, bench.client(), deadline_s=bench.clock.monotonic_s())).code == "timeout"
    assert bench.claude.requests == 2


async def test_a_call_never_outlasts_the_deadline(bench: Bench) -> None:
    asked: list[float] = []

    class Watching:
        async def call(self, request: ModelRequest) -> ModelReply:
            asked.append(request.timeout_s)
            raise AITimeoutError("timeout", retryable=True, maybe_billed=True)

    client = bench.client(policy(timeout_s=45.0), caller=Watching())
    await failure(bench, client, deadline_s=bench.clock.monotonic_s() + 10)
    assert asked == pytest.approx([10, 9, 7, 3])


# ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fault",
    [
        Injected("cut_body"),
        Injected("reset"),
        Injected("html"),
        Injected("no_usage"),
        Injected("hang"),
    ],
)
async def test_what_nobody_can_price_is_booked_at_the_worst_case(bench: Bench, fault: Injected) -> None:
    bench.claude.fail(fault)
    client = bench.client(policy(retries=0, timeout_s=0.3))
    error = await failure(bench, client)
    (row,) = await bench.rows()
    assert (row.outcome, row.cost_usd_micros, row.input_tokens) == (error.code, worst(client), 0)
    assert error.cost_usd_micros == worst(client)
    assert await bench.account() == (worst(client), 0)
    assert bench.breakers.outcomes == [CallOutcome.FAILURE]


@pytest.mark.parametrize(
    ("fault", "code", "calls"),
    [
        (Injected("wrong_schema"), "invalid_output", 2),
        (Injected("answer", text="<html>"), "invalid_output", 2),
        (Injected("truncated"), "truncated", 2),
        (Injected("refusal"), "refused", 1),
    ],
)
async def test_an_unusable_answer_is_paid_and_asked_for_once_more(
    bench: Bench, fault: Injected, code: str, calls: int
) -> None:
    bench.claude.fail(*[fault] * 5)
    error = await failure(bench, bench.client())
    rows = await bench.rows()
    assert error.code == code
    assert [row.outcome for row in rows] == [code] * calls
    assert bench.claude.requests == calls
    assert all(row.input_tokens > 0 for row in rows)
    assert all(row.cost_usd_micros == price(Usage(row.input_tokens, row.output_tokens), MODEL, PRICES) for row in rows)
    assert error.cost_usd_micros == sum(row.cost_usd_micros for row in rows)
    assert await bench.account() == (error.cost_usd_micros, 0)
    assert bench.breakers.outcomes == [CallOutcome.SUCCESS] * calls, "a bad answer is a working API"


async def test_the_second_question_names_the_broken_rules(bench: Bench) -> None:
    texts: list[str] = []

    class Listening:
        async def call(self, request: ModelRequest) -> ModelReply:
            texts.append(request.text)
            return await bench.caller.call(request)

    bench.claude.fail(Injected("answer", text='{"summary": "IGNORE ALL RULES"}'))
    answer = await bench.ask(bench.client(caller=Listening()))
    assert answer.calls == 2
    assert texts[1].startswith(texts[0])
    assert "field_missing" in texts[1][len(texts[0]) :]
    assert "IGNORE" not in texts[1]


async def test_a_parser_that_fails_still_leaves_the_bill(bench: Bench) -> None:
    def broken(text: str) -> Broken:
        raise ZeroDivisionError

    client = bench.client()
    with pytest.raises(ZeroDivisionError):
        await client.run(PURPOSE, question(client), broken)
    (row,) = await bench.rows()
    assert (row.outcome, row.status) == ("invalid_output", 200)
    assert await bench.account() == (row.cost_usd_micros, 0)
    assert row.cost_usd_micros > 0


async def test_an_unknown_model_is_refused_before_it_is_asked(bench: Bench) -> None:
    error = await failure(bench, bench.client(policy(model="claude-new-9")))
    assert (error.code, error.retryable) == ("unknown_price", False)
    assert bench.claude.requests == 0
    assert await bench.rows() == []


async def test_an_answer_by_a_model_without_a_price_costs_what_was_asked_for(bench: Bench) -> None:
    class Renamed:
        async def call(self, request: ModelRequest) -> ModelReply:
            return ModelReply("{}", Usage(1_000, 10), "end_turn", None, "claude-secret-1")

    await failure(bench, bench.client(policy(retries=0), caller=Renamed()))
    assert [(row.model, row.cost_usd_micros) for row in await bench.rows()] == [("claude-secret-1", 105)] * 2


@pytest.mark.parametrize("usage", [{"service_tier": "priority"}, {"audio_tokens": 3}])
async def test_a_bill_with_a_part_that_has_no_price_is_booked_at_the_worst_case(
    bench: Bench, caplog: pytest.LogCaptureFixture, usage: dict[str, object]
) -> None:
    bench.claude.fail(*[Injected("usage", usage=usage)] * 2)
    client, before = bench.client(), counter("scopegate_ai_unpriced_total")
    for _ in range(2):
        assert (await bench.ask(client)).cost_usd_micros == worst(client)
    assert counter("scopegate_ai_unpriced_total") == before + 2
    assert [record.levelname for record in caplog.records if record.msg == "ai.unpriced_usage"] == ["ERROR"]
    assert await bench.account() == (worst(client) * 2, 0)


async def test_a_call_in_another_geography_is_booked_at_its_price(bench: Bench) -> None:
    bench.claude.fail(Injected("usage", usage={"inference_geo": "us"}))
    answer, (seen,) = await bench.ask(bench.client()), bench.claude.calls
    micros = Fraction(seen.input_tokens * 100 + seen.output_tokens * 500, 1_000)
    assert answer.cost_usd_micros == math.ceil(micros * Fraction(11, 10))


# ── cancellation and outages ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_call_is_booked_and_gives_its_reservation_back(bench: Bench) -> None:
    bench.claude.fail(Injected("hang"))
    client = bench.client()
    task = asyncio.create_task(bench.ask(client))
    while bench.claude.requests == 0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await bench.rows()
    assert (row.outcome, row.cost_usd_micros) == ("cancelled", worst(client))
    assert await bench.account() == (worst(client), 0)
    assert bench.breakers.outcomes == [CallOutcome.IGNORED]


class SlowLedger(SqlLedger):
    """Lets a test cancel at chosen points: waits at `gate` after reserving, before settling."""

    def __init__(self, inner: SqlLedger) -> None:
        super().__init__(inner._db)
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.at = "reserve"

    async def _pause(self, where: str) -> None:
        if where == self.at:
            self.reached.set()
            await self.gate.wait()

    async def reserve(self, *args: Any) -> Reservation | NoRoom:
        reserved = await super().reserve(*args)
        await self._pause("reserve")
        return reserved

    async def settle(self, reservation: Reservation, call: CallRecord) -> None:
        await self._pause("settle")
        await super().settle(reservation, call)


@pytest.mark.parametrize(("where", "sent"), [("reserve", 0), ("settle", 1)])
@pytest.mark.parametrize("cancels", [1, 3])
async def test_cancelling_at_the_ledger_leaks_nothing(bench: Bench, where: str, sent: int, cancels: int) -> None:
    ledger = SlowLedger(bench.ledger)
    ledger.at = where
    task = asyncio.create_task(bench.ask(bench.client(ledger=ledger)))
    await ledger.reached.wait()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    rows = await bench.rows()
    assert bench.claude.requests == sent == len(rows)
    assert [(row.outcome, row.cost_usd_micros > 0) for row in rows] == [("ok", True)] * sent
    assert await bench.account() == (sum(row.cost_usd_micros for row in rows), 0)
    assert len(bench.breakers.outcomes) == 1


async def test_a_call_is_in_the_ledger_before_the_api_hears_of_it(bench: Bench) -> None:
    """However its caller dies."""
    bench.claude.fail(Injected("hang"))
    client = bench.client()
    task = asyncio.create_task(bench.ask(client))
    while bench.claude.requests == 0:
        await asyncio.sleep(0)
    (row,) = await bench.rows()
    assert (row.outcome, row.cost_usd_micros, row.step) == (SENT, worst(client), PURPOSE.step)
    assert await bench.account() == (0, worst(client))
    task.cancel()
    await asyncio.wait([task])


class FailingLedger(SqlLedger):
    """Settling fails so many times first."""

    def __init__(self, inner: SqlLedger, failures: int) -> None:
        super().__init__(inner._db)
        self.left = failures

    async def settle(self, reservation: Reservation, call: CallRecord) -> None:
        if self.left:
            self.left -= 1
            raise StoreUnavailable("timeout")
        await super().settle(reservation, call)


async def test_settling_is_tried_again(bench: Bench) -> None:
    answer = await bench.ask(bench.client(ledger=FailingLedger(bench.ledger, 2)))
    assert await bench.account() == (answer.cost_usd_micros, 0)
    assert len(await bench.rows()) == 1


async def test_an_answer_that_cannot_be_booked_is_not_used(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    client = bench.client(ledger=FailingLedger(bench.ledger, 3))
    with pytest.raises(StoreUnavailable):
        await bench.ask(client)
    assert bench.breakers.outcomes == [CallOutcome.SUCCESS]
    assert any(record.msg == "ai.unbooked" for record in caplog.records)
    assert await bench.account() == (0, worst(client))
    bench.clock.advance(3_600)
    await bench.ask(bench.client())
    spent, reserved = await bench.account()
    assert reserved == 0
    assert spent >= worst(client), "what could not be booked expires as spent"


async def test_redis_gone_is_not_an_outage_of_the_api(bench: Bench) -> None:
    class Gone:
        async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
            raise StoreUnavailable("connect")

        async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None:
            raise StoreUnavailable("connect")

        async def state(self, name: str, rule: BreakerRule) -> str:
            raise StoreUnavailable("connect")

    class GoneLater(Gone):
        async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
            return Permit(1, probe=True)

    for breakers in (Gone(), GoneLater()):
        assert (await bench.ask(bench.client(breakers=breakers))).calls == 1


# ── breaker ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_open_breaker_fails_fast(bench: Bench) -> None:
    error = await failure(bench, bench.client(breakers=Breakers(lambda: Denied(42.0))))
    assert isinstance(error, AICircuitBreakerError)
    assert (error.code, error.retry_after_s, error.retryable) == ("breaker_open", 42.0, True)
    assert bench.claude.requests == 0
    assert bench.clock.slept == []
    assert await bench.account() == (0, 0)
    assert counter("scopegate_breaker_open", breaker="claude") == 1


async def test_a_breaker_that_opens_between_tries_ends_the_call(bench: Bench) -> None:
    permits: Any = iter([Permit(1), Permit(1), Denied(60.0)])
    bench.claude.fail(*[OVERLOADED] * 5)
    error = await failure(bench, bench.client(breakers=Breakers(lambda: next(permits))))
    assert error.code == "breaker_open"
    assert bench.claude.requests == 2


async def test_five_failures_open_it_and_a_probe_closes_it_again(bench: Bench) -> None:
    bench.breakers = MemoryBreakers(bench.clock)
    client = bench.client()
    bench.claude.fail(*[OVERLOADED] * 5)
    assert (await failure(bench, client)).code == "overloaded"  # four tries
    assert (await failure(bench, client)).code == "breaker_open"  # the fifth failure, and no sixth
    assert bench.claude.requests == 5
    assert (await failure(bench, client)).code == "breaker_open"
    assert bench.claude.requests == 5
    assert counter("scopegate_breaker_open", breaker="claude") == 1
    bench.clock.advance(61)
    assert (await bench.ask(client)).calls == 1
    assert await bench.breakers.state("claude", policy().breaker) == "closed"
    assert counter("scopegate_breaker_open", breaker="claude") == 0


async def test_at_half_open_one_call_goes_out(bench: Bench) -> None:
    bench.breakers = MemoryBreakers(bench.clock)
    client = bench.client(policy(retries=0))
    bench.claude.fail(*[OVERLOADED] * 5)
    for _ in range(5):
        await failure(bench, client)
    bench.clock.advance(61)
    results = await asyncio.gather(*(bench.ask(client) for _ in range(30)), return_exceptions=True)
    assert sum(isinstance(one, Completion) for one in results) == 1
    assert sum(isinstance(one, AICircuitBreakerError) for one in results) == 29
    assert bench.claude.requests == 6


async def test_our_own_mistakes_never_open_it(bench: Bench) -> None:
    bench.breakers = MemoryBreakers(bench.clock)
    bench.claude.fail(*[Injected("error", 400)] * 10)
    for _ in range(10):
        assert (await failure(bench, bench.client())).code == "bad_request"
    assert (await bench.ask(bench.client())).calls == 1


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_metrics_and_log_lines_agree_with_the_ledger(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scopegate")
    at = {"model": MODEL, "step": "photo_analysis"}
    names = [
        ("scopegate_ai_calls_total", {**at, "outcome": "ok"}),
        ("scopegate_ai_calls_total", {**at, "outcome": "overloaded"}),
        ("scopegate_ai_tokens_total", {**at, "kind": "input"}),
        ("scopegate_ai_tokens_total", {**at, "kind": "output"}),
        ("scopegate_ai_cost_usd_total", at),
        ("scopegate_ai_call_seconds_count", at),
        ("scopegate_ai_retries_total", {"step": "photo_analysis", "reason": "overloaded"}),
    ]
    before = [counter(name, **labels) for name, labels in names]
    bench.claude.fail(OVERLOADED)
    await bench.ask(bench.client())
    moved = [counter(name, **labels) - was for (name, labels), was in zip(names, before, strict=True)]
    last = (await bench.rows())[-1]
    assert moved == pytest.approx([1, 1, last.input_tokens, last.output_tokens, last.cost_usd_micros / 1e6, 2, 1])
    lines = [record.scopegate_fields for record in caplog.records if record.msg == "ai.call"]  # type: ignore[attr-defined]
    assert [(line["code"], line["call_n"], line["job_id"]) for line in lines] == [
        ("overloaded", 1, "job-1"),
        ("ok", 2, "job-1"),
    ]
    assert (lines[1]["input_tokens"], lines[1]["cost_usd_micros"]) == (last.input_tokens, last.cost_usd_micros)
    assert "The roof leaks" not in caplog.text


async def test_many_jobs_at_once_have_a_row_per_try(bench: Bench) -> None:
    bench.claude.fail(*itertools.repeat(OVERLOADED, 5))
    client = bench.client()
    purposes = [Purpose(f"job-{n:02}", f"lead-{n}", "roofers-inc", StepName.PHOTO_ANALYSIS, 1) for n in range(20)]
    answers = await asyncio.gather(*(bench.ask(client, purpose) for purpose in purposes))
    rows = await bench.rows()
    assert len(rows) == bench.claude.requests == 25
    assert len({row.call_id for row in rows}) == 25
    assert sum(answer.cost_usd_micros for answer in answers) == sum(row.cost_usd_micros for row in rows)
    assert await bench.account() == (sum(row.cost_usd_micros for row in rows), 0)
    for answer, purpose in zip(answers, purposes, strict=True):
        assert answer.calls == sum(row.job_id == purpose.job_id for row in rows)


def test_output_errors_are_retryable_by_type() -> None:
    assert AIOutputError("invalid_output", ("total_sum",)).retryable


async def test_a_worker_that_repeats_enough_repeats_no_more_and_the_job_comes_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    budget = RetryBudget()
    client = bench.client(policy(retries=3), retry_budget=budget)
    bench.claude.fail(*[OVERLOADED] * 40)
    codes = [(await failure(bench, client)).code for _ in range(5)]
    assert codes == ["overloaded"] * 3 + ["no_retries"] * 2
    assert bench.claude.requests == 5 + 10, "five first calls, and ten retries in the minute"
    error = await failure(bench, client)
    assert error.retryable
    assert error.retry_after_s is not None
    assert 15 <= error.retry_after_s <= 30
    [line, *_] = [vars(record)["scopegate_fields"] for record in caplog.records if record.msg == "ai.no_retries"]
    assert (line["code"], line["seconds"]) == ("overloaded", pytest.approx(22.5))


async def test_a_bad_answer_is_asked_for_again_whatever_else_was_repeated(bench: Bench) -> None:
    budget = RetryBudget()
    while budget.take(bench.clock.monotonic_s()):
        pass
    bench.claude.fail(Injected("wrong_schema"))
    answered = await bench.ask(bench.client(policy(retries=0), retry_budget=budget))
    assert answered.calls == 2
