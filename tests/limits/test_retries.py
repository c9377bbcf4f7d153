"""A share of the calls may be repetitions, and a few in any case."""

from __future__ import annotations

from scopegate.limits.retries import LEAST, SPAN_S, RetryBudget


def test_a_few_are_always_allowed_in_a_minute() -> None:
    budget = RetryBudget()
    assert [budget.take(n / 10) for n in range(LEAST + 2)] == [True] * LEAST + [False] * 2
    assert not budget.take(SPAN_S - 0.01)
    assert budget.take(SPAN_S), "the first is forgotten"
    assert not budget.take(SPAN_S)


def test_more_calls_allow_more_of_them() -> None:
    budget = RetryBudget()
    for _ in range(500):
        budget.called(0.0)
    assert sum(budget.take(1.0) for _ in range(200)) == 50
    assert sum(budget.take(SPAN_S + 1.0) for _ in range(200)) == LEAST, "calls are forgotten, too"


def test_in_no_minute_there_are_more_than_a_tenth() -> None:
    budget, retries = RetryBudget(), list[float]()
    for n in range(4_000):
        now_s = n * 0.05
        budget.called(now_s)
        if budget.take(now_s):
            retries.append(now_s)
    for at_s in retries:
        within = sum(at_s <= other < at_s + SPAN_S for other in retries)
        assert within <= 121, "1,200 calls a minute, and the one at its end"
