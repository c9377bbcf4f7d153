"""Ejection, answers to health questions and slow return, as tables."""

from __future__ import annotations

import pytest

from scopegate.limits.health import (
    FRESH,
    EjectionTerms,
    Pulse,
    Record,
    answered,
    failed,
    is_out,
    share,
    succeeded,
)

TERMS = EjectionTerms(failures=3, for_s=10.0)


def out_at(now_s: float, record: Record = FRESH) -> Record:
    for _ in range(TERMS.failures - record.failures if record.failures < TERMS.failures else 1):
        assert not is_out(record, now_s)
        record = failed(record, TERMS, now_s)
    assert is_out(record, now_s)
    return record


def test_failures_in_a_row_take_a_server_out_for_a_while() -> None:
    record = out_at(100.0)
    assert record == Record(3, 110.0, 10.0)
    assert is_out(record, 109.99)
    assert not is_out(record, 110.0)


def test_a_success_in_between_begins_the_row_anew() -> None:
    record = failed(failed(FRESH, TERMS, 100.0), TERMS, 100.0)
    record = succeeded(record)
    assert not is_out(failed(failed(record, TERMS, 100.0), TERMS, 100.0), 100.0)


def test_while_it_is_out_nothing_changes_its_end() -> None:
    record = out_at(100.0)
    assert failed(record, TERMS, 105.0) == Record(4, 110.0, 10.0)
    late = succeeded(record)
    assert (late.failures, is_out(late, 105.0)) == (0, True)


def test_one_failure_after_the_return_is_enough_and_doubles_the_time() -> None:
    record, now_s, lengths = out_at(0.0), 0.0, [10.0]
    for _ in range(6):
        now_s = record.until_s
        record = failed(record, TERMS, now_s)
        lengths.append(record.until_s - now_s)
    assert lengths == [10.0, 20.0, 40.0, 80.0, 160.0, 160.0, 160.0]


def test_a_success_after_the_return_asks_for_a_whole_row_again() -> None:
    record = succeeded(out_at(0.0))
    record = failed(failed(record, TERMS, 10.0), TERMS, 10.0)
    assert not is_out(record, 10.0)
    assert failed(record, TERMS, 10.0).out_s == 20.0


@pytest.mark.parametrize(("well_for_s", "out_s"), [(0.0, 40.0), (19.9, 40.0), (20.0, 10.0), (500.0, 10.0)])
def test_who_was_well_for_as_long_as_it_was_out_begins_at_the_shortest_time(well_for_s: float, out_s: float) -> None:
    second = out_at(10.0, out_at(0.0))
    assert second.out_s == 20.0
    back_s = second.until_s + well_for_s
    assert out_at(back_s, succeeded(second)).out_s == out_s


def test_one_failure_is_enough_where_the_policy_says_so() -> None:
    assert failed(FRESH, EjectionTerms(1, 2.0), 5.0) == Record(1, 7.0, 2.0)


@pytest.mark.parametrize(
    ("answers", "states"),
    [
        ("bbb", "wwo"),
        ("bbgbbb", "wwwwwo"),
        ("bbbgg", "wwoow"),
        ("bbbgbgg", "wwoooow"),
        ("bbbggbbb", "wwoowwwo"),
        ("gggg", "wwww"),
    ],
)
def test_answers_in_a_row_change_what_is_thought_of_a_server(answers: str, states: str) -> None:
    pulse, seen = Pulse(), ""
    for answer in answers:
        pulse = answered(pulse, answer == "g", unhealthy_after=3, healthy_after=2)
        seen += "w" if pulse.well else "o"
    assert seen == states


@pytest.mark.parametrize(
    ("since_s", "slow_s", "part"),
    [(0.0, 10.0, 0.1), (0.5, 10.0, 0.1), (5.0, 10.0, 0.5), (10.0, 10.0, 1.0), (99.0, 10.0, 1.0), (0.0, 0.0, 1.0)],
)
def test_the_share_of_a_server_that_came_back_grows(since_s: float, slow_s: float, part: float) -> None:
    assert share(since_s, slow_s) == part
