"""What may be spent is set aside first, a cap is used to its end, and nothing is refused before it is spent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pydantic import SecretStr

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected
from scopegate.errors import (
    AIBudgetError,
    AIError,
)
from scopegate.limits.breaker import CallOutcome
from scopegate.limits.budget import Reservation, accounts
from scopegate.limits.pricing import worst_case
from scopegate.policy.policy import AI, BudgetRule, WhenSpent
from scopegate.worker.call import ModelReply, ModelRequest, input_tokens_bound
from scopegate.worker.claude import ClaudeCaller
from scopegate.worker.metered import Completion
from scopegate.worker.purse import ROOM_WAIT_S
from tests.simulated import KEY, _running_claude, simulated_claude
from tests.stores.orders import call, intent
from tests.worker.metering import (
    DAY,
    MODEL,
    OVERLOADED,
    PRICES,
    PURPOSE,
    Bench,
    bench,
    counter,
    failure,
    policy,
    worst,
)

__all__ = ["_running_claude", "bench", "simulated_claude"]


async def test_no_room_sends_nothing(bench: Bench) -> None:
    client = bench.client(policy(DAY, BudgetRule("tiny", 10, "month", None, (), WhenSpent.HOLD)))
    before = counter("scopegate_budget_refusals_total", budget="tiny")
    error = await failure(bench, client)
    assert isinstance(error, AIBudgetError)
    assert (error.budget, error.code, error.retryable) == ("tiny", "no_budget", False)
    assert error.reset_ms == 1_801_440_000_000  # 2027-02-01
    assert bench.claude.requests == 0
    assert await bench.rows() == []
    assert await bench.account() == (0, 0)
    assert bench.breakers.outcomes == [CallOutcome.IGNORED]
    assert counter("scopegate_budget_refusals_total", budget="tiny") == before + 1


async def test_the_cap_holds_under_concurrency(bench: Bench) -> None:
    """Room for ten worst cases: however forty callers interleave, spending stays below the cap, and nobody is refused
    while the money is only set aside for others."""
    bench.clock = SystemClock()  # the API answers in real time
    room = BudgetRule("ten", worst(bench.client()) * 10, "day", None, (), WhenSpent.HOLD)
    client = bench.client(policy(room))
    results = await asyncio.gather(*(bench.ask(client) for _ in range(40)), return_exceptions=True)
    refused = [one for one in results if isinstance(one, AIBudgetError)]
    spent, reserved = await bench.account(room)
    assert len(refused) + bench.claude.requests == 40
    assert all(isinstance(one, AIBudgetError | Completion) for one in results)
    assert all(error.is_spent for error in refused)
    assert not refused or spent + worst(client) > room.limit_usd_micros
    assert spent == sum(row.cost_usd_micros for row in await bench.rows()) <= room.limit_usd_micros
    assert reserved == 0


async def test_money_that_is_set_aside_is_waited_for_and_not_for_ever(bench: Bench) -> None:
    one = BudgetRule("one", worst(bench.client()), "day", None, (), WhenSpent.FAIL)
    client = bench.client(policy(one))
    now_ms = bench.clock.now_ms()
    held = await bench.ledger.reserve(
        accounts([one], now_ms, {}), intent(one.limit_usd_micros, now_ms), now_ms + 3_600_000
    )
    assert isinstance(held, Reservation)
    error = await failure(bench, client)
    assert isinstance(error, AIBudgetError)
    assert (error.code, error.is_spent, error.retryable) == ("no_budget", False, True)
    assert sum(bench.clock.slept) == pytest.approx(ROOM_WAIT_S, abs=1)
    assert bench.claude.requests == 0
    await bench.ledger.withdraw(held)
    await bench.ask(client)
    assert bench.claude.requests == 1


# ── the narrower worst case ─────────────────────────────────────────────────────────────────────────────────────────


def counted(bench: Bench, max_tokens: int = 2048) -> int:
    """The worst case of one call whose input the API has counted, in micro-dollars."""
    (seen,) = bench.claude.calls
    cost = worst_case(MODEL, input_tokens_bound(seen.input_tokens), max_tokens, PRICES)
    assert cost is not None
    return cost


async def test_where_the_worst_case_does_not_fit_the_input_is_counted(bench: Bench) -> None:
    await bench.ask(bench.client())
    room = BudgetRule("room", counted(bench), "day", None, (), WhenSpent.FAIL)
    assert room.limit_usd_micros < worst(bench.client()) * 3 / 4
    answer = await bench.ask(bench.client(policy(room)))
    assert answer.cost_usd_micros <= room.limit_usd_micros
    tight = BudgetRule("tight", room.limit_usd_micros - 1, "day", None, (), WhenSpent.FAIL)
    assert (await failure(bench, bench.client(policy(tight)))).code == "no_budget"


async def test_an_api_that_does_not_count_leaves_the_bound(bench: Bench) -> None:
    class Countless(ClaudeCaller):
        async def count_input(self, request: ModelRequest) -> int:
            raise AIError("bad_request", "404", retryable=False, status=404)

    await bench.ask(bench.client())
    room = BudgetRule("room", counted(bench), "day", None, (), WhenSpent.FAIL)
    caller = Countless(SecretStr(KEY), bench.claude.url)
    try:
        assert (await failure(bench, bench.client(policy(room), caller=caller))).code == "no_budget"
    finally:
        await caller.close()


async def answers(bench: Bench, number: int, output_tokens: int) -> None:
    for n in range(number):
        row = call(f"old-{n}", 1, step=PURPOSE.step, output_tokens=output_tokens)
        await bench.ledger.settle(Reservation(row.call_id, (), 0), row)


@pytest.mark.parametrize(("known", "limit"), [(8, 2048), (9, 600)])
async def test_near_the_cap_an_answer_may_be_twice_the_longest(bench: Bench, known: int, limit: int) -> None:
    await bench.ask(bench.client())
    await answers(bench, known, 300)
    asked: list[int] = []

    class Watching(ClaudeCaller):
        async def call(self, request: ModelRequest) -> ModelReply:
            asked.append(request.max_tokens)
            return await super().call(request)

    room = BudgetRule("room", counted(bench, limit), "day", None, (), WhenSpent.FAIL)
    caller = Watching(SecretStr(KEY), bench.claude.url)
    await bench.ask(bench.client(policy(room), caller=caller))
    await bench.ask(bench.client(caller=caller))
    await caller.close()
    assert asked == [limit, 2048]


async def test_an_answer_that_was_cut_for_room_is_asked_for_whole(bench: Bench) -> None:
    await bench.ask(bench.client())
    await answers(bench, 10, 1)  # so that the limit is the shortest, and too short
    room = BudgetRule("room", counted(bench, 256) * 2, "day", None, (), WhenSpent.FAIL)
    bench.claude.fail(Injected("truncated"))
    error = await failure(bench, bench.client(policy(room)))
    assert isinstance(error, AIBudgetError)
    assert [row.outcome for row in await bench.rows()].count("truncated") == 1
    assert bench.claude.requests == 2


# ── a cheaper model ─────────────────────────────────────────────────────────────────────────────────────────────────


def dear(*budgets: BudgetRule) -> AI:
    return replace(policy(*budgets, model="claude-opus-5-5"), cheaper_model=MODEL)


@pytest.mark.parametrize(("when_spent", "asked"), [(WhenSpent.CHEAPER_MODEL, [MODEL]), (WhenSpent.HOLD, [])])
async def test_a_spent_budget_may_ask_the_cheaper_model(bench: Bench, when_spent: WhenSpent, asked: list[str]) -> None:
    room = BudgetRule("room", worst(bench.client()), "day", None, (), when_spent)
    client = bench.client(dear(room))
    if asked:
        assert (await bench.ask(client)).cost_usd_micros <= room.limit_usd_micros
    else:
        await failure(bench, client)
    assert [call.model for call in bench.claude.calls] == asked
    small = replace(room, name="small", limit_usd_micros=10)
    assert (await failure(bench, bench.client(dear(small)))).code == "no_budget"


async def test_an_overloaded_model_gives_way_to_the_cheaper_one(bench: Bench) -> None:
    bench.claude.fail(OVERLOADED)
    answer = await bench.ask(bench.client(dear()))
    assert [row.model for row in await bench.rows()] == ["claude-opus-5-5", MODEL]
    assert answer.calls == 2
    bench.claude.fail(Injected("error", 500))
    await bench.ask(bench.client(dear()))
    assert [call.model for call in bench.claude.calls][-2:] == ["claude-opus-5-5"] * 2
