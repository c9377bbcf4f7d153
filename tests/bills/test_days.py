"""A ledger held against exports of whole days: even, put right, or not explained."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from scopegate.bills.export import read
from scopegate.bills.matching import match
from scopegate.bills.statement import Reckoning
from scopegate.leads.job import CallRecord
from scopegate.limits.pricing import Usage, price
from tests.bills.exports import (
    MODEL,
    NOON_MS,
    PRICES,
    bucket,
    cost_csv,
    cost_line,
    cost_result,
    lost,
    report,
    row,
    usage_csv,
    usage_line,
    usage_result,
)


def reckon(content: bytes, *rows: CallRecord) -> list[Reckoning]:
    return list(match(read([("F", content)]), rows, PRICES))


def of_tokens(input_tokens: int, output_tokens: int) -> bytes:
    return usage_csv(usage_line(counts=(input_tokens, output_tokens)))


def test_the_same_tokens_are_the_same_money() -> None:
    [found] = reckon(of_tokens(3_000, 300), *(row(f"c{n}") for n in range(3)))
    assert (found.days, found.model, found.calls, found.corrections) == ("2026-11-24", MODEL, 3, ())
    assert (found.ledger_usd_micros, found.provider_usd_micros) == (450, 450)
    assert (found.unexplained_usd_micros, found.reasons) == (0, ())


def test_rounding_each_call_up_is_explained() -> None:
    calls = [row(f"c{n}", (1, 1)) for n in range(50)]
    [found] = reckon(of_tokens(50, 50), *calls)
    assert (found.ledger_usd_micros, found.provider_usd_micros, found.reasons) == (50, 30, ())


def test_the_rest_is_a_lost_calls() -> None:
    [found] = reckon(of_tokens(1_700, 130), row("c1"), lost("c2"))
    [correction] = found.corrections
    assert (correction.after.input_tokens, correction.after.output_tokens) == (700, 30)
    assert correction.after.cost_usd_micros == price(Usage(700, 30), MODEL, PRICES) == 85
    assert (found.ledger_usd_micros, found.provider_usd_micros, found.reasons) == (235, 235, ())


def test_a_lost_call_that_was_never_billed_cost_nothing() -> None:
    [found] = reckon(of_tokens(1_000, 100), row("c1"), lost("c2", outcome="timeout"), lost("c3"))
    assert [one.after.cost_usd_micros for one in found.corrections] == [0, 0]
    assert found.ledger_usd_micros == 150


def test_several_lost_calls_share_the_rest_and_it_adds_up() -> None:
    rng = random.Random(3)
    for _ in range(100):
        gone = [lost(f"c{n}", rng.randrange(1_000, 9_000)) for n in range(rng.randrange(1, 7))]
        tokens = (rng.randrange(2_000), rng.randrange(200))
        [found] = reckon(of_tokens(1_000 + tokens[0], 100 + tokens[1]), row("known"), *gone)
        assert found.reasons == ()
        after = [one.after for one in found.corrections]
        assert (sum(one.input_tokens for one in after), sum(one.output_tokens for one in after)) == tokens
        assert all(one.after.cost_usd_micros <= one.before.cost_usd_micros for one in found.corrections)
        assert 0 <= found.ledger_usd_micros - found.provider_usd_micros <= len(gone) + 1


@pytest.mark.parametrize(
    ("content", "rows", "unexplained", "reason"),
    [
        (of_tokens(1_001, 100), [row("c1")], 1, "the provider billed 1 input tokens that the ledger has not"),
        (of_tokens(999, 100), [row("c1")], 1, "the ledger has 1 input tokens that the provider has not"),
        (of_tokens(1_000, 99), [row("c1"), lost("c2")], 1, "the ledger has 1 output tokens"),
        (of_tokens(5_000, 500), [], 750, "the provider billed 5,000 input, 500 output tokens that the ledger has not"),
        (of_tokens(91_000, 100), [row("c1"), lost("c2", 8_999)], 9_000, "are more than 1 lost calls can be"),
        (of_tokens(1_500, 100), [row("c1"), lost("c2"), lost("c3", outcome="sent")], 50, "1 calls are in flight"),
    ],
)
def test_what_nobody_can_explain_is_told_and_nothing_is_put_right(
    content: bytes, rows: list[CallRecord], unexplained: int, reason: str
) -> None:
    [found] = reckon(content, *rows)
    assert found.corrections == ()
    assert found.unexplained_usd_micros == unexplained
    assert reason in found.reasons[0]


def test_a_call_of_a_model_or_a_day_that_the_provider_does_not_name_is_not_explained() -> None:
    other = row("c2", model="claude-sonnet-5-5")
    later = row("c3", day="2026-11-25", started_ms=NOON_MS + 86_400_000)
    content = report(bucket(usage_result()), bucket(day="2026-11-25"))
    found = {(one.days, one.model): bool(one.reasons) for one in reckon(content, row("c1"), other, later)}
    assert found == {
        ("2026-11-24", MODEL): False,
        ("2026-11-25", MODEL): True,
        ("2026-11-24", "claude-sonnet-5-5"): True,
    }


def test_other_days_are_no_matter() -> None:
    [found] = reckon(of_tokens(1_000, 100), row("c1"), row("c2", day="2026-11-23"), row("c3", day="2026-11-25"))
    assert (found.calls, found.reasons) == (1, ())


@pytest.mark.parametrize(("before_midnight_ms", "days"), [(59_000, 1), (61_100, 2)])
def test_a_call_near_midnight_may_stand_on_either_day(before_midnight_ms: int, days: int) -> None:
    midnight_ms = NOON_MS + 43_200_000
    late = row("c2", started_ms=midnight_ms - before_midnight_ms, duration_ms=0)
    next_day = row("c3", day="2026-11-25", started_ms=midnight_ms + 43_200_000)
    content = usage_csv(usage_line(), usage_line("2026-11-25", counts=(2_000, 200)))
    found = reckon(content, row("c1"), late, next_day)
    assert len(found) == days
    assert found[0].days == ("2026-11-24..2026-11-25" if days == 1 else "2026-11-24")
    assert any(one.reasons for one in found) == (days == 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"service_tier": "batch"}, "the dollars do not: other terms or prices"),
        ({"inference_geo": "us"}, "the dollars do not: other terms or prices"),
        ({"service_tier": "priority"}, "no price is known for service_tier=priority"),
        ({"server_tool_use": {"web_search_requests": 2}}, "counts what the ledger does not: web_search_requests"),
    ],
)
def test_the_same_tokens_under_other_terms_are_not_the_same_money(changes: dict[str, object], reason: str) -> None:
    [found] = reckon(report(bucket(usage_result(**changes))), row("c1"))
    assert reason in found.reasons[0]
    assert found.unexplained_usd_micros > 0


def test_a_ledger_that_booked_another_price_is_found() -> None:
    [found] = reckon(of_tokens(1_000, 100), row("c1", cost_usd_micros=148))
    assert found.unexplained_usd_micros == 2
    [found] = reckon(of_tokens(1_000, 100), row("c1", cost_usd_micros=148, price_version="an older one"))
    assert found.reasons == (), "what it cost then, nobody knows now"


def test_long_prompts_have_rates_of_their_own() -> None:
    long = row("c1", (150_000, 100))
    [found] = reckon(of_tokens(150_000, 100), long)
    assert long.cost_usd_micros == 75_250
    assert found.reasons == ()


# ── by dollars ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cost_report_proves_the_dollars() -> None:
    cents = [cost_result(amount="0.010", token_type="uncached_input_tokens"), cost_result(amount="0.005")]
    [found] = reckon(report(bucket(*cents)), row("c1"))
    assert (found.ledger_usd_micros, found.provider_usd_micros, found.reasons) == (150, 150, ())
    [found] = reckon(cost_csv(cost_line("0.000100", token_type="input_no_cache"), cost_line("0.000050")), row("c1"))
    assert found.reasons == ()


@pytest.mark.parametrize("cost", ["0.000148", "0.000152"])
def test_dollars_that_do_not_agree_are_told(cost: str) -> None:
    [found] = reckon(cost_csv(cost_line(cost)), row("c1"))
    assert (found.unexplained_usd_micros, found.reasons) == (2, ("the dollars do not agree",))


def test_what_a_lost_call_cost_the_tokens_tell() -> None:
    [found] = reckon(cost_csv(cost_line("0.000150")), row("c1"), lost("c2"))
    assert found.corrections == ()
    assert found.unexplained_usd_micros == 5_000
    assert "1 calls have no known cost: the usage export tells" in found.reasons[0]


def test_what_is_no_models_is_not_the_ledgers() -> None:
    web = cost_result(amount="1.0", model=None, cost_type="web_search", token_type=None)
    found = reckon(report(bucket(cost_result(), web)), row("c1"))
    assert {(one.model, one.unexplained_usd_micros) for one in found} == {(MODEL, 0), ("", 10_000)}


def test_a_dated_model_is_the_plain_one() -> None:
    dated = replace(row("c1"), model="claude-haiku-5-5-20260901")
    [found] = reckon(of_tokens(1_000, 100), dated)
    assert (found.model, found.reasons) == (MODEL, ())
