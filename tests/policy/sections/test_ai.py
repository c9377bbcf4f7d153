from __future__ import annotations

import pytest

from scopegate.limits.breaker import BreakerRule
from scopegate.limits.budget import Per, Rolling
from scopegate.limits.pricing import ModelPrice, Rates, Usage, price
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.policy.compile import compile_policy
from scopegate.policy.draft import draft_of
from scopegate.policy.policy import WhenSpent
from scopegate.policy.sections.ai import StepsShape
from scopegate.worker.prices import load
from tests.policies import MINIMAL, SECRET, compiled, review


def test_what_a_step_does_not_say_is_its_default() -> None:
    found = compiled(MINIMAL + "ai: {steps: {scope: {retries: 0}}}\n")
    assert found.ai is not None
    assert dict(found.ai.steps) == {
        "photo_analysis": StepLimits(45, 3, 2048),
        "scope": StepLimits(60, 0, 4096),
        "estimate": StepLimits(60, 3, 4096),
    }
    assert found.ai.breaker == BreakerRule(5, 60)


def test_every_step_that_asks_the_model_has_its_section_and_says_its_bounds() -> None:
    """Editors show the descriptions."""
    assert list(StepsShape.model_fields) == list(MODEL_STEPS)
    assert StepsShape.model_fields["scope"].description == "60s, 3 retries, 4096 tokens."


def test_a_step_that_asks_no_model_has_no_section() -> None:
    problems = review(MINIMAL + "ai: {steps: {save: {retries: 0}}}\n").problems
    assert [(problem.path, problem.what) for problem in problems] == [("ai.steps.save", "unknown key")]


def test_budgets_may_fail_instead_of_holding() -> None:
    found = compiled(MINIMAL + "ai: {budgets: [{name: a, limit: 0.5 USD per day, when_spent: fail}]}\n")
    assert found.ai is not None
    assert found.ai.budgets[0].when_spent is WhenSpent.FAIL


PRICED = """ai:
  model: our-own-1
  prices:
    our-own-1: {input: 2.5 USD per MTok, output: 10 USD per MTok}
    claude-haiku-5-5:
      {input: 1 USD per MTok, output: 5 USD per MTok, cache_read: 0.2 USD per MTok,
       long: [{prompt_above: 1000, input: 2 USD per MTok, output: 9 USD per MTok}]}
"""


def test_prices_are_added_and_changed() -> None:
    found = compiled(MINIMAL + PRICED).ai
    assert found is not None
    own = Rates(2_500_000, 10_000_000, 250_000, 3_125_000, 5_000_000)
    assert found.prices["our-own-1"] == ModelPrice(own)
    long = Rates(2_000_000, 9_000_000, 200_000, 2_500_000, 4_000_000)
    assert found.prices["claude-haiku-5-5"].long == ((1000, long),)
    table = load().with_models(found.prices)
    assert price(Usage(1_000_000, 100), "claude-haiku-5-5", table) == 2_000_000 + 900
    assert price(Usage(1_000, 100), "our-own-1", table) == 2_500 + 1_000
    assert table.version.startswith(f"{load().version}+")
    assert table.version != load().with_models({"our-own-1": ModelPrice(own)}).version, "the version says which prices"


def test_a_model_without_a_price_names_those_that_have_one_wherever_it_stands() -> None:
    unpriced = "model: our-own-2\n  cheaper_model: x\n  steps: {scope: {model: y}}"
    text = MINIMAL + PRICED.replace("model: our-own-1", unpriced)
    problems = compile_policy(draft_of(text.encode(), "F", {}), prices=load).problems
    assert [problem.path for problem in problems] == ["ai.model", "ai.cheaper_model", "ai.steps.scope.model"]
    assert "no price is known for 'our-own-2' (known: claude-" in problems[0].what
    assert "our-own-1): add it under `ai.prices`" in problems[0].what


def test_a_step_may_have_a_model_of_its_own() -> None:
    found = compiled(MINIMAL + "ai: {cheaper_model: c, model: a, steps: {scope: {model: b}}}\n").ai
    assert found is not None
    assert [found.model_of(step) for step in found.steps] == ["a", "b", "a"]
    assert found.models() == ("a", "b", "c")


def test_a_budget_that_falls_back_needs_something_to_fall_back_to() -> None:
    text = MINIMAL + "ai: {budgets: [{name: a, limit: 1 USD per day, when_spent: cheaper_model}]}\n"
    assert [(one.path, one.what) for one in review(text).problems] == [
        ("ai.budgets[0].when_spent", "needs `ai.cheaper_model`")
    ]


def test_a_budget_may_be_per_anything_that_a_call_is_for_and_of_any_span() -> None:
    budgets = "".join(f"{{name: {per}, limit: 1 USD per 24h, per: {per}}}, " for per in Per)
    found = compiled(MINIMAL + f"ai: {{budgets: [{budgets}{{name: all, limit: 9 USD in total}}]}}\n").ai
    assert found is not None
    assert [(one.per, one.period) for one in found.budgets] == [
        *((per, Rolling(86_400_000)) for per in Per),
        (None, "total"),
    ]


def test_days_and_months_are_those_of_the_time_zone() -> None:
    found = compiled(MINIMAL + "ai: {time_zone: Asia/Tokyo, budgets: [{name: a, limit: 1 USD per day}]}\n").ai
    assert found is not None
    assert (str(found.zone), str(found.budgets[0].zone)) == ("Asia/Tokyo", "Asia/Tokyo")
    utc = compiled(MINIMAL + "ai: {budgets: [{name: a, limit: 1 USD per day}]}\n").ai
    assert utc is not None
    assert str(utc.zone) == str(utc.budgets[0].zone) == "UTC"


@pytest.mark.parametrize("zone", ["/etc/passwd", "../../etc/passwd", "Europe", "", "Mars/Olympus", "UTC\\0"])
def test_what_is_no_time_zone_is_a_problem_and_opens_no_file(zone: str) -> None:
    [problem] = review(MINIMAL + f'ai: {{time_zone: "{zone}"}}\n').problems
    assert problem.path == "ai.time_zone"


def test_a_warning_goes_to_a_url_under_a_secret() -> None:
    warn = 'warn: {url: "https://ops.example.com/x", secret: "${S}"}'
    text = f"ai: {{{warn}, budgets: [{{name: a, limit: 1 USD per day, warn_at: [50%]}}]}}\n"
    found = compiled(MINIMAL + text, {"S": SECRET}).ai
    assert found is not None
    assert found.warn is not None
    assert (found.warn.url, [one.get_secret_value() for one in found.warn.secrets]) == (
        "https://ops.example.com/x",
        [SECRET],
    )
