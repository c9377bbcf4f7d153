from __future__ import annotations

from scopegate.limits.breaker import BreakerRule
from scopegate.policy.policy import StepLimits, WhenSpent
from scopegate.policy.sections.ai import StepsShape
from tests.policies import MINIMAL, compiled


def test_what_a_step_does_not_say_is_its_default() -> None:
    found = compiled(MINIMAL + "ai: {steps: {scope: {retries: 0}}}\n")
    assert found.ai is not None
    assert dict(found.ai.steps) == {
        "photo_analysis": StepLimits(45, 3, 2048),
        "scope": StepLimits(60, 0, 4096),
        "estimate": StepLimits(60, 3, 4096),
    }
    assert found.ai.breaker == BreakerRule(5, 60)


def test_what_is_said_of_a_step_is_what_it_has() -> None:
    """The descriptions, which editors show, give the defaults."""
    for name, field in StepsShape.model_fields.items():
        (default,) = field.metadata
        said = f"{default.timeout_s:.0f}s, {default.retries} retries, {default.max_tokens} tokens."
        assert (field.description or "").endswith(said), name


def test_budgets_may_fail_instead_of_holding() -> None:
    found = compiled(MINIMAL + "ai: {budgets: [{name: a, limit: 0.5 USD per day, when_spent: fail}]}\n")
    assert found.ai is not None
    assert found.ai.budgets[0].when_spent is WhenSpent.FAIL
