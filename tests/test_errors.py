"""What an error says of itself: its code first, then the detail, and never more than it was given."""

from __future__ import annotations

import pytest

from scopegate.errors import (
    AIBudgetError,
    AIError,
    AIOutputError,
    ConfigError,
    DeliveryError,
    PhotoError,
    Problem,
    ScopegateError,
    StoreUnavailable,
    UpstreamError,
)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("g.yaml:3:5", "routes[2].tier", "unknown", "strict"), "g.yaml:3:5 routes[2].tier: unknown, "
         "did you mean strict?"),
        (Problem("g.yaml:3:5", "routes[2].tier", "unknown"), "g.yaml:3:5 routes[2].tier: unknown"),
        (Problem("REDIS_URL", "", "is no address"), "REDIS_URL: is no address"),
    ],
)  # fmt: skip
def test_a_problem_is_one_line(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_a_config_error_names_all_problems_and_at_least_one() -> None:
    problems = [Problem("A", "", "is missing"), Problem("B", "", "is empty")]
    assert str(ConfigError(problems)) == "A: is missing\nB: is empty"
    with pytest.raises(AssertionError):
        ConfigError([])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StoreUnavailable("timeout"), "timeout"),
        (StoreUnavailable("full", "no space"), "full: no space"),
        (UpstreamError("tls", "expired"), "tls: expired"),
        (PhotoError("bad_status", "404"), "bad_status: 404"),
        (DeliveryError("rejected", retryable=False), "rejected"),
        (AIError("overloaded", "529", retryable=True), "overloaded: 529"),
        (AIBudgetError("day", 5), "no_budget: day"),
        (AIOutputError("invalid_output", ("schema", "total_sum")), "invalid_output: schema, total_sum"),
        (AIOutputError("truncated", ("truncated",), "cut"), "truncated: cut"),
    ],
)
def test_the_code_stands_first(error: ScopegateError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (PhotoError("bad_status"), False),
        (AIBudgetError("day", None), False),
        (AIBudgetError("day", None, is_spent=False), True),
        (AIOutputError("invalid_output", ("schema",)), True),
    ],
)
def test_whether_another_try_may_help(error: PhotoError | AIError, retryable: bool) -> None:
    assert error.retryable is retryable


def test_an_upstream_error_may_have_sent_something_unless_it_says_otherwise() -> None:
    assert UpstreamError("reset").sent
    assert not UpstreamError("connect", sent=False).sent
