"""The price table that ships."""

from __future__ import annotations

import pytest

from scopegate.demo.claude import MODELS
from scopegate.limits.pricing import Usage, price
from scopegate.worker.prices import load

MILLION_EACH_WAY = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_the_simulation_has_a_price(model: str) -> None:
    assert price(MILLION_EACH_WAY, model, load())


def test_a_model_that_is_not_in_it_has_none() -> None:
    assert price(MILLION_EACH_WAY, "claude-unheard-of", load()) is None


def test_it_names_its_version() -> None:
    assert load().version == "2026-11-24.1"
