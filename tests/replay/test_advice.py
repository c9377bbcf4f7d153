"""Limits from what clients did: the busiest minute, the percentile, the number that is written."""

from __future__ import annotations

import pytest

from scopegate.replay.advice import Proposal, Survey, nearest_rank, rounded_up
from scopegate.replay.entries import LogEntry


def entry(at_s: float, client: str) -> LogEntry:
    return LogEntry(round(at_s * 1e6), client, "GET", "/", 200)


@pytest.mark.parametrize(
    ("count", "written"),
    [(1, 1), (20, 20), (21, 25), (99, 100), (100, 100), (101, 110), (999, 1000), (1001, 1100), (12345, 13000)],
)
def test_a_limit_is_a_number_that_a_person_would_write(count: int, written: int) -> None:
    assert rounded_up(count) == written


@pytest.mark.parametrize(("percentile", "rank"), [(50, 5), (90, 9), (91, 10), (99, 10), (100, 10)])
def test_the_nearest_rank(percentile: float, rank: int) -> None:
    assert nearest_rank(range(1, 11), percentile) == rank


def test_the_busiest_minute_is_any_sixty_seconds() -> None:
    survey = Survey()
    for at_s in (0, 30, 59.999, 60, 61, 119.9, 400):
        survey.note("all", entry(at_s, "192.0.2.1"))
    assert next(survey.proposals(99)).most == 4


def test_routes_have_limits_of_their_own_and_say_whom_they_touch() -> None:
    survey = Survey()
    for n in range(200):
        for _ in range(1 + n % 4):
            survey.note("pages", entry(n, f"192.0.2.{n}"))
    for _ in range(90):
        survey.note("pages", entry(500, "198.51.100.1"))
    survey.note("api", entry(0, "2001:db8::1"))
    survey.note("api", entry(0, "2001:db8::2"))
    api, pages = survey.proposals(99)
    assert api == Proposal("api", 2, clients=1, touched=0, median=2, high=2, most=2)
    assert pages == Proposal("pages", 4, clients=201, touched=1, median=3, high=4, most=90)
