from __future__ import annotations

from scopegate.limits.steps import MODEL_STEPS, SENT_STEPS, StepName


def test_a_step_asks_the_model_or_sends_to_the_app() -> None:
    assert sorted([*MODEL_STEPS, *SENT_STEPS]) == sorted(StepName)


def test_whoever_asks_comes_before_whoever_sends() -> None:
    """A replay of a finished job sends again, from results that are there."""
    order = list(StepName)
    assert max(map(order.index, MODEL_STEPS)) < min(map(order.index, SENT_STEPS))
