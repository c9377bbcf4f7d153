"""The trace of limits, and what is said of what was admitted."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bench.trace import PHASES, SILENCE, Asked, best, trace, worst


def test_episodes_begin_where_they_shall_in_a_slot_after_a_silence() -> None:
    moments = trace(10, 2.0)
    assert moments == sorted(moments)
    begins = [moments[0], *[later for before, later in pairwise(moments) if later - before >= SILENCE * 2.0]]
    assert [round(begin / 2.0 % 1, 6) for begin in begins] == list(PHASES)
    for begin in begins:
        assert moments.count(begin) == 12
        assert sum(begin < each < begin + 2.0 for each in moments) >= 39, "four times the limit in the span after it"


def at(*moments: tuple[float, float]) -> list[Asked]:
    return [Asked(sent_s, answered_s, True) for sent_s, answered_s in moments]


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ([], 0),
        ([Asked(0.0, 0.1, False)], 0),
        (at((0.0, 0.1), (0.5, 0.6), (0.98, 0.99)), 3),
        (at((0.0, 0.1), (0.98, 1.01)), 1),
        (at((0.0, 0.1), (1.0, 1.01)), 1),
        (at((0.0, 0.5), (0.9, 0.95), (1.2, 1.3), (1.4, 1.5)), 3),
    ],
)
def test_only_what_was_admitted_within_a_span_for_certain_counts(asked: list[Asked], most: int) -> None:
    assert worst(asked, 1.0) == most


def test_a_log_admits_whom_it_can() -> None:
    asked = [Asked(n / 10, n / 10, False) for n in range(30)]
    assert best(asked, 4, 1.0) == 12
    assert best(asked, 40, 1.0) == 30
