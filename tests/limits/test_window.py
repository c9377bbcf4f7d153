"""The exact sliding window: the rule itself, time as a column."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.window import Log, Quota, Spent, Window, WindowState, amended, spend, spend_one
from tests.limits.reference import Reference

MS = 1000


def window(limit: int, span_ms: int, name: str = "strict", key: str = "k") -> Window:
    return Window(name, key, Quota(limit, span_ms))


class Counted:
    """Some windows with their logs."""

    def __init__(self, *windows: Window) -> None:
        self.windows = windows
        self.logs = [Log(one.quota.span_ms) for one in windows]

    def at(self, now_us: int) -> Spent:
        return spend(self.windows, self.logs, now_us)


# 3 per 10 s: (now, admitted, remaining, more, reset, retry after), all in ms
TRACE = [
    (0, True, 2, 10_000, 10_000, 0),
    (1_000, True, 1, 9_000, 10_000, 0),
    (1_000, True, 0, 9_000, 10_000, 0),
    (1_000, False, 0, 9_000, 10_000, 9_000),
    (5_500, False, 0, 4_500, 5_500, 4_500),
    (9_999, False, 0, 1, 1_001, 1),
    (10_000, True, 0, 1_000, 10_000, 0),  # the admission at 0 leaves at exactly 10 s
    (10_000, False, 0, 1_000, 10_000, 1_000),
    (11_000, True, 1, 9_000, 10_000, 0),  # two left at once
    (11_000, True, 0, 9_000, 10_000, 0),
    (40_000, True, 2, 10_000, 10_000, 0),  # all left long ago
]


def test_three_per_ten_seconds() -> None:
    counted = Counted(window(3, 10_000))
    for now_ms, admitted, remaining, more_ms, reset_ms, retry_after_ms in TRACE:
        got = counted.at(now_ms * MS)
        expected = Spent(
            admitted, (WindowState(counted.windows[0], remaining, more_ms, reset_ms),), retry_after_ms, now_ms * MS
        )
        assert got == expected, now_ms


def test_the_single_window_path_says_the_same() -> None:
    one = window(3, 10_000)
    log = Log(one.quota.span_ms)
    for now_ms, admitted, remaining, more_ms, reset_ms, retry_after_ms in TRACE:
        expected = Spent(admitted, (WindowState(one, remaining, more_ms, reset_ms),), retry_after_ms, now_ms * MS)
        assert spend_one(one, log, now_ms * MS) == expected, now_ms


def test_an_empty_window_has_more_after_a_span() -> None:
    assert Log(10_000).standing(window(3, 10_000), 0) == WindowState(window(3, 10_000), 3, 10_000, 0)
    assert Log(10_000).standing(paced := Window("p", "k", Quota(9, 10_000, 3)), 0) == WindowState(paced, 3, 10_000, 0)


def test_fractions_of_a_millisecond_round_up() -> None:
    counted = Counted(window(1, 10))
    counted.at(0)
    refused = counted.at(1)
    assert (refused.retry_after_ms, refused.standings[0].reset_ms) == (10, 10)
    assert counted.at(9_999).retry_after_ms == 1
    assert counted.at(10_000).admitted


def test_refused_by_one_window_is_counted_in_none() -> None:
    counted = Counted(window(2, 1_000), window(3, 60_000))
    assert [counted.at(t * MS).admitted for t in (0, 0, 0, 999)] == [True, True, False, False]
    third = counted.at(1_000 * MS)
    assert [s.remaining for s in third.standings] == [1, 0]
    refused = counted.at(1_000 * MS)
    assert not refused.admitted
    assert refused.retry_after_ms == 59_000
    assert [s.remaining for s in refused.standings] == [1, 0]  # the short window was not charged
    assert not counted.at(59_999 * MS).admitted
    assert counted.at(60_000 * MS).admitted


def test_the_longest_wait_decides() -> None:
    counted = Counted(window(1, 5_000), window(1, 2_000))
    counted.at(0)
    assert counted.at(0).retry_after_ms == 5_000
    assert counted.at(2_000 * MS).retry_after_ms == 3_000


def test_no_windows_admit() -> None:
    assert spend([], [], 0) == Spent(True, (), 0, 0)


def test_a_long_log_forgets_what_left() -> None:
    log = Log(1)
    one = window(1_000, 1)
    for now_us in range(100_000):
        assert spend_one(one, log, now_us).admitted is True
    assert log.live(100_000) == 999
    assert len(log.times) <= 2 * 999 + 64


steps = st.lists(st.integers(0, 4_000), min_size=1, max_size=200)


@given(steps, st.integers(1, 8), st.integers(1, 9))
def test_never_more_than_the_limit_in_any_span(gaps_us: Sequence[int], limit: int, span_ms: int) -> None:
    one = window(limit, span_ms)
    log = Log(one.quota.span_ms)
    now_us = 0
    admitted: list[int] = []
    for gap_us in gaps_us:
        now_us += gap_us
        inside = [t for t in admitted if t > now_us - span_ms * MS]
        got = spend_one(one, log, now_us)
        # Admitted exactly when the limit allows it: neither one more nor one fewer.
        assert got.admitted == (len(inside) < limit)
        if got.admitted:
            admitted.append(now_us)
            inside.append(now_us)
        assert got.standings[0].remaining == limit - len(inside)
        assert got.standings[0].reset_ms == -(-(admitted[-1] + span_ms * MS - now_us) // MS)
    for start in admitted:
        assert sum(start <= t < start + span_ms * MS for t in admitted) <= limit


@given(steps, st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=3, unique=True))
def test_waiting_as_told_admits_and_a_millisecond_less_does_not(
    gaps_us: Sequence[int], quotas: Sequence[tuple[int, int]]
) -> None:
    windows = [window(limit, span_ms) for limit, span_ms in quotas]
    counted, history, now_us = Counted(*windows), list[int](), 0
    for gap_us in gaps_us:
        now_us += gap_us
        got = counted.at(now_us)
        if got.admitted:
            history.append(now_us)
            continue
        assert got.retry_after_ms >= 1
        assert any(s.remaining == 0 for s in got.standings)
        for wait_ms, fits in ((got.retry_after_ms, True), (got.retry_after_ms - 1, False)):
            again = Counted(*windows)
            for t in history:
                again.at(t)
            assert again.at(now_us + wait_ms * MS).admitted is fits


limits = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 8)), min_size=1, max_size=200)


@given(limits)
def test_a_changed_limit_judges_by_what_was_admitted(steps: Sequence[tuple[int, int]]) -> None:
    log, reference, now_us = Log(9), Reference(), 0
    for gap_us, limit in steps:
        now_us += gap_us
        one = window(limit, 9)
        assert spend_one(one, log, now_us) == reference.spend([one], now_us)


@pytest.mark.parametrize("value", [Spent(True, ()), WindowState(window(1, 1), 0, 0, 0)])
def test_verdicts_cannot_be_edited(value: object) -> None:
    with pytest.raises(AttributeError):
        value.remaining = 5  # type: ignore[attr-defined]


def test_a_request_may_cost_more_than_one() -> None:
    log = Log(10_000)
    table = [
        # now ms, cost, admitted, remaining, retry after ms
        (0, 3, True, 7, 0),
        (1_000, 8, False, 7, 9_000),
        (1_000, 7, True, 0, 0),
        (1_000, 1, False, 0, 9_000),
        (1_000, 3, False, 0, 9_000),  # the three at 0 leave together
        (1_000, 4, False, 0, 10_000),  # more only with those at 1 s
        (10_000, 3, True, 0, 0),
        (11_000, 7, True, 0, 0),
    ]
    for now_ms, cost, *expected in table:
        spent = spend_one(Window("w", "k", Quota(10, 10_000), cost=cost), log, now_ms * MS)
        assert [spent.admitted, spent.standings[0].remaining, spent.retry_after_ms] == expected, (now_ms, cost)


def test_what_is_given_back_is_that_admission_and_no_other() -> None:
    one, log = window(2, 10_000), Log(10_000)
    first = spend_one(one, log, 0)
    second = spend_one(one, log, 4_000 * MS)
    log.amend(amended(second.standings[0], -1, second.at_us), 9, 5_000 * MS)
    assert spend_one(one, log, 5_000 * MS).admitted
    assert spend_one(one, log, 9_999 * MS).retry_after_ms == 1, "the first still counts"
    log.amend(amended(second.standings[0], -1, second.at_us), 9, 9_999 * MS)
    assert not spend_one(one, log, 9_999 * MS).admitted, "it was given back before"
    log.amend(amended(first.standings[0], -1, first.at_us), 9, 9_999 * MS)
    assert spend_one(one, log, 9_999 * MS).admitted


def test_a_log_that_is_given_back_whole_is_as_new() -> None:
    one, log = window(2, 1), Log(1)
    times = [spend_one(one, log, now_us) for now_us in (0, 900, 1_000)]
    for spent in times:
        log.amend(amended(spent.standings[0], -1, spent.at_us), 9, 1_000)
    assert [spend_one(one, log, 1_000).admitted for _ in range(3)] == [True, True, False]


def test_what_is_booked_fills_a_window_at_most() -> None:
    one, log = window(5, 10_000), Log(10_000)
    spent = spend_one(one, log, 0)
    log.amend(amended(spent.standings[0], 2, spent.at_us), 9, 1_000 * MS)
    assert log.standing(one, 1_000 * MS).remaining == 2
    log.amend(amended(spent.standings[0], 1_000_000, spent.at_us), 9_999_999, 1_000 * MS)
    assert (len(log.times), log.standing(one, 1_000 * MS).remaining) == (5, 0)


@pytest.mark.parametrize(
    ("now_ms", "more", "left_ms"),
    [
        (0, -1, 1_000),  # of two with a second each one is given back
        (0, -2, 0.999),  # less the millisecond by which figures are rounded
        (500, -2, 0.999),
        (1_500, -2, 0.999),
        (1_500, -1, 0.999),
        (2_500, -2, 0),
        (0, 1, 3_000),
        (0, 1_000, 5_000),  # the whole burst is used
    ],
)
def test_of_a_pace_is_given_back_what_has_not_drained(now_ms: int, more: int, left_ms: float) -> None:
    one, log = Window("p", "k", Quota(14, 10_000, 5), cost=2), Log(10_000)
    spent = spend((one,), (log,), 0)
    log.amend(amended(spent.standings[0], more, spent.at_us), 9, now_ms * MS)
    assert log.left_us(now_ms * MS) == left_ms * MS
