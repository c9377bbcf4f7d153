from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.caching.directives import MAX_SECONDS
from scopegate.caching.freshness import directives_of, freshness_of, initial_age_s
from tests.caching.kept import DATE, NOW_S, RULE, said

LATER = "Tue, 24 Nov 2026 09:00:00 GMT"
EARLIER = "Tue, 24 Nov 2026 07:00:00 GMT"
DATED = f"date: {DATE.decode()}\n"


@pytest.mark.parametrize(
    ("text", "lifetime_s"),
    [
        ("cache-control: max-age=60", 60),
        ("cache-control: max-age=60, s-maxage=5", 5),
        ("cache-control: s-maxage=500, max-age=0", 500),
        (f"cache-control: max-age=60\nexpires: {EARLIER}\n{DATED}", 60),
        ("cache-control: max-age=60\nexpires: 0", 60),
        (f"expires: {LATER}\n{DATED}", 3600),
        (f"expires: {LATER}", 3600),
        (f"expires: {LATER}\ndate: foo", 3600),
        (f"expires: {EARLIER}\n{DATED}", 0),
        (f"expires: {LATER}\nexpires: {LATER}\n{DATED}", 0),
        ("expires: 0", 0),
        ("cache-control: no-cache, max-age=60", 0),
        ('cache-control: no-cache="a", max-age=60', 60),
        ("cache-control: max-age=60\ncdn-cache-control: max-age=5", 5),
        ("cache-control: max-age=1\ncdn-cache-control: max-age=500", 500),
        (f"cdn-cache-control: max-age=0\nexpires: {LATER}\n{DATED}", 0),
        ("cache-control: max-age=60\ncdn-cache-control: ,,", 60),
        ("cache-control: max-age=60; no-store", 0),
        (f"last-modified: {EARLIER}", 0),
        ("", 0),
    ],
)
def test_the_lifetime_is_what_the_app_says(text: str, lifetime_s: float) -> None:
    found = said(text)
    assert freshness_of(200, found, directives_of(found), RULE, NOW_S).lifetime_s == lifetime_s


@pytest.mark.parametrize(
    ("status", "text", "ttl_s", "share", "lifetime_s"),
    [
        (200, "", 30.0, 0.0, 30),
        (404, "", 30.0, 0.0, 30),
        (302, "", 30.0, 0.0, 0),
        (503, "", 30.0, 0.0, 0),
        (599, "cache-control: public", 30.0, 0.0, 30),
        (200, "cache-control: max-age=0", 30.0, 0.0, 0),
        (200, "cache-control: no-cache", 30.0, 0.0, 0),
        (200, f"last-modified: {EARLIER}\n{DATED}", 0.0, 0.1, 360),
        (200, f"last-modified: {LATER}\n{DATED}", 0.0, 0.1, 0),
        (200, "last-modified: Tue, 24 Nov 1970 07:00:00 GMT", 0.0, 0.5, 86_400),
        (201, f"last-modified: {EARLIER}", 0.0, 0.1, 0),
    ],
)
def test_where_the_app_says_nothing_the_policy_does(
    status: int, text: str, ttl_s: float, share: float, lifetime_s: float
) -> None:
    found = said(text)
    rule = replace(RULE, ttl_s=ttl_s, heuristic=share)
    assert freshness_of(status, found, directives_of(found), rule, NOW_S).lifetime_s == lifetime_s


@pytest.mark.parametrize(
    ("text", "while_s", "error_s"),
    [
        ("max-age=1", 10, 20),
        ("max-age=1, stale-while-revalidate=3", 3, 20),
        ("max-age=1, stale-if-error=4", 10, 4),
        ("max-age=1, stale-while-revalidate", 0, 20),
        ("s-maxage=1", 0, 0),
        ("s-maxage=1, stale-while-revalidate=3, stale-if-error=4", 3, 4),
        ("max-age=1, must-revalidate, stale-while-revalidate=3", 0, 0),
        ("max-age=1, proxy-revalidate, stale-if-error=3", 0, 0),
        ("no-cache, stale-if-error=3", 0, 0),
    ],
)
def test_how_long_a_stale_answer_serves(text: str, while_s: float, error_s: float) -> None:
    rule = replace(RULE, stale_while_revalidate_s=10.0, stale_if_error_s=20.0)
    found = said(f"cache-control: {text}")
    freshness = freshness_of(200, found, directives_of(found), rule, NOW_S)
    assert (freshness.while_revalidate_s, freshness.if_error_s) == (while_s, error_s)


@pytest.mark.parametrize(
    ("ages", "age_s"),
    [
        ([], 0),
        ([b"30"], 30),
        ([b"0, 7200"], 0),
        ([b"7200, 0"], 7200),
        ([b"7200", b"0"], 7200),
        ([b"7200.0"], 0),
        ([b"-7200"], 0),
        ([b"7200;foo=bar"], 0),
        ([b"abc"], 0),
        ([b""], 0),
        ([b"2147483649"], MAX_SECONDS),
        ([b"9" * 400], MAX_SECONDS),
    ],
)
def test_an_age_counts_by_its_first_member(ages: list[bytes], age_s: float) -> None:
    assert initial_age_s(ages, NOW_S, NOW_S, NOW_S) == age_s


@pytest.mark.parametrize(
    ("date_s", "asked_s", "age_s"),
    [
        (NOW_S - 10, NOW_S, 10),
        (NOW_S - 86_400, NOW_S, 86_400),  # its clock is a day behind: stale, not wrong
        (NOW_S + 86_400, NOW_S, 0),
        (NOW_S, NOW_S - 4, 4),
        (NOW_S - 3, NOW_S - 4, 4),
        (None, NOW_S + 5, 0),
    ],
)
def test_an_answer_has_an_age_when_it_comes(date_s: float | None, asked_s: float, age_s: float) -> None:
    assert initial_age_s([], date_s, asked_s, NOW_S) == age_s
