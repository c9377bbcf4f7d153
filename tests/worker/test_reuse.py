"""The same question is paid once, and never answered by what another contractor was told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected
from scopegate.leads.findings import Broken
from scopegate.stores.paid import SqlPaidAnswers
from scopegate.worker.metered import MeteredClaude
from scopegate.worker.reuse import CLAIM_S, question
from tests.simulated import _running_claude, picture, simulated_claude
from tests.worker.metering import PURPOSE, Bench, bench, failure, policy
from tests.worker.metering import parse as accept
from tests.worker.metering import question as request_of

__all__ = ["_running_claude", "bench", "simulated_claude"]

CONTENT = "the words"
DAY_MS = 86_400_000
OTHER = replace(PURPOSE, job_id="job-2", lead_id="lead-2")


def client(bench: Bench, reuse_ms: int | None = DAY_MS) -> MeteredClaude:
    kept = SqlPaidAnswers(bench.ledger._db)
    return bench.client(replace(policy(), reuse_ms=reuse_ms), kept=kept)


async def ask(bench: Bench, model: MeteredClaude, purpose: Any = PURPOSE, content: str = CONTENT) -> Any:
    return await bench.ask(model, purpose, content=content)


async def test_another_lead_with_the_same_photos_and_words_costs_nothing(bench: Bench) -> None:
    first = await ask(bench, client(bench))
    again = await ask(bench, client(bench), OTHER)
    assert again.value == first.value
    assert (again.calls, again.cost_usd_micros) == (0, 0)
    assert bench.claude.requests == 1
    paid, saved = await bench.rows()
    assert (saved.outcome, saved.lead_id, saved.cost_usd_micros) == ("reused", "lead-2", 0)
    assert saved.saved_usd_micros == paid.cost_usd_micros == first.cost_usd_micros
    [row] = await bench.ledger.spend_by("step", "2000-01-01")
    assert (row["calls"], row["failed"], row["saved_usd_micros"]) == (2, 0, first.cost_usd_micros)
    assert await bench.account() == (first.cost_usd_micros, 0)


@pytest.mark.parametrize("reuse_ms", [None, 60_000])
async def test_without_the_setting_and_after_its_time_every_question_is_asked(
    bench: Bench, reuse_ms: int | None
) -> None:
    for _ in range(2):
        await ask(bench, client(bench, reuse_ms))
        bench.clock.advance(60)
    assert bench.claude.requests == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(OTHER, contractor="another"),
        replace(OTHER, contractor=None),
        replace(OTHER, offload="another"),
    ],
)
async def test_never_across_contractors_or_offloads(bench: Bench, other: Any) -> None:
    await ask(bench, client(bench))
    await ask(bench, client(bench), other)
    assert bench.claude.requests == 2


async def test_any_other_word_is_another_question(bench: Bench) -> None:
    await ask(bench, client(bench))
    await ask(bench, client(bench), content="other words")
    assert bench.claude.requests == 2


def test_a_question_is_all_that_the_model_is_asked(bench: Bench) -> None:
    request = request_of(bench.client())
    keys = [
        question(PURPOSE, request, CONTENT),
        question(PURPOSE, replace(request, model="another"), CONTENT),
        question(PURPOSE, replace(request, system="another"), CONTENT),
        question(PURPOSE, replace(request, schema={}), CONTENT),
        question(PURPOSE, replace(request, images=request.images[:1]), CONTENT),
        question(PURPOSE, replace(request, images=request.images[::-1]), CONTENT),
        question(PURPOSE, replace(request, images=(request.images[0], picture("red"))), CONTENT),
        question(PURPOSE, request, ""),
    ]
    assert len(set(keys)) == len(keys)
    assert question(OTHER, replace(request, text="the same in another fence"), CONTENT) == keys[0]


async def test_two_workers_at_once_pay_once(bench: Bench) -> None:
    bench.clock = SystemClock()
    bench.claude.simulation.latency_s = 0.3
    try:
        found = await asyncio.gather(*(ask(bench, client(bench), OTHER) for _ in range(6)))
    finally:
        bench.claude.simulation.latency_s = 0.0
    assert bench.claude.requests == 1
    assert sorted(one.calls for one in found) == [0] * 5 + [1]
    assert sorted(row.outcome for row in await bench.rows()) == ["ok"] + ["reused"] * 5


async def test_who_fails_lets_the_next_one_ask_and_nothing_of_it_is_kept(bench: Bench) -> None:
    bench.claude.fail(Injected("error", 400))
    assert (await failure(bench, client(bench), content=CONTENT)).code == "bad_request"
    await ask(bench, client(bench))
    assert bench.claude.requests == 2


async def test_a_bad_answer_is_not_kept_but_its_repair(bench: Bench) -> None:
    bench.claude.fail(Injected("wrong_schema"))
    first = await ask(bench, client(bench))
    again = await ask(bench, client(bench), OTHER)
    assert bench.claude.requests == 2
    assert again.value == first.value
    assert [row.saved_usd_micros for row in await bench.rows()][-1] == first.cost_usd_micros, "both calls are saved"


async def test_a_kept_answer_is_held_to_the_rules_of_today(bench: Bench) -> None:
    await ask(bench, client(bench))
    seen = 0

    def stricter(text: str) -> Any:
        nonlocal seen
        seen += 1
        return Broken(("newer_rule",)) if seen == 1 else accept(text)

    model = client(bench)
    await model.run(OTHER, request_of(model), stricter, content=CONTENT)
    assert (bench.claude.requests, seen) == (2, 2)


async def test_a_killed_worker_is_waited_for_no_longer_than_its_claim(bench: Bench) -> None:
    model = client(bench)
    key = question(PURPOSE, request_of(model), CONTENT)
    now_ms = bench.clock.now_ms()
    assert await SqlPaidAnswers(bench.ledger._db).take(key, "dead", now_ms, now_ms + round(CLAIM_S * 1000)) is True
    await ask(bench, model)
    [row] = await bench.rows()
    assert row.started_ms - now_ms == pytest.approx(CLAIM_S * 1000, abs=500)
