from __future__ import annotations

from scopegate.limits.breaker import BreakerRule
from scopegate.limits.steps import MODEL_STEPS, StepLimits
from scopegate.policy.policy import WhenSpent
from scopegate.policy.sections.ai import StepsShape
from tests.policies import MINIMAL, compiled, review


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
