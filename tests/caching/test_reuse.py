from __future__ import annotations

import pytest

from scopegate.caching.reuse import Use, is_failure, may_stand_in, use_of
from scopegate.caching.wishes import wishes_of
from tests.caching.kept import NOW_S, asked, said, stored


@pytest.mark.parametrize(
    ("answer", "wish", "after_s", "use"),
    [
        ("max-age=60", "", 0, Use.HIT),
        ("max-age=60", "", 59, Use.HIT),
        ("max-age=60", "", 60, Use.ASK),
        ("max-age=60", "nothing-known", 0, Use.HIT),
        ("max-age=60", "no-cache", 0, Use.ASK),
        ("max-age=60", "max-age=0", 1, Use.ASK),
        ("max-age=60", "max-age=30", 20, Use.HIT),
        ("max-age=60", "max-age=30", 31, Use.ASK),
        ("max-age=60", "min-fresh=30", 40, Use.ASK),
        ("max-age=60", "min-fresh=30", 20, Use.HIT),
        ("max-age=60", "max-stale=30", 80, Use.HIT),
        ("max-age=60", "max-stale=30", 100, Use.ASK),
        ("max-age=60", "max-stale", 10_000, Use.HIT),
        ("max-age=60, must-revalidate", "max-stale", 61, Use.ASK),
        ("s-maxage=60", "max-stale", 61, Use.ASK),
        ("max-age=60, stale-while-revalidate=10", "", 65, Use.STALE),
        ("max-age=60, stale-while-revalidate=10", "", 70, Use.ASK),
        ("max-age=60, stale-while-revalidate=10", "no-cache", 65, Use.ASK),
        ("max-age=60, stale-while-revalidate=10", "max-age=100", 65, Use.ASK),
    ],
)
def test_what_a_stored_answer_is_good_for(answer: str, wish: str, after_s: float, use: Use) -> None:
    found = stored(f'cache-control: {answer}\netag: "x"')
    wishes = wishes_of(said(f"cache-control: {wish}"), ignored=False)
    assert use_of(found, asked(), wishes, NOW_S + after_s) is use


@pytest.mark.parametrize(
    ("answer", "request_fields", "use"),
    [
        ("cache-control: max-age=60", "authorization: x", Use.MISS),
        ("cache-control: public, max-age=60", "authorization: x", Use.HIT),
        ("cache-control: max-age=60", "cookie: a=1", Use.HIT),
        ("", "cookie: a=1", Use.MISS),
        ("", "", Use.HIT),
    ],
)
def test_who_shows_who_they_are_gets_what_is_for_all(answer: str, request_fields: str, use: Use) -> None:
    found = stored(answer, ttl_s=60.0)
    assert use_of(found, asked(request_fields), wishes_of(said(""), ignored=False), NOW_S) is use


def test_no_cache_is_asked_after_every_time() -> None:
    found = stored('cache-control: no-cache\netag: "x"')
    assert use_of(found, asked(), wishes_of(said(""), ignored=False), NOW_S) is Use.ASK


@pytest.mark.parametrize(
    ("answer", "after_s", "may"),
    [
        ("max-age=1", 5, False),
        ("max-age=1, stale-if-error=10", 5, True),
        ("max-age=1, stale-if-error=10", 11, False),
        ("max-age=1, stale-if-error=10, must-revalidate", 5, False),
    ],
)
def test_what_stands_in_for_an_app_that_fails(answer: str, after_s: float, may: bool) -> None:
    assert may_stand_in(stored(f"cache-control: {answer}"), NOW_S + after_s) is may


def test_a_failure_stands_in_for_none() -> None:
    kept = stored("cache-control: max-age=1, stale-if-error=10", status=503)
    assert not may_stand_in(kept, NOW_S + 5)


def test_failures() -> None:
    assert [status for status in (200, 404, 429, 500, 501, 502, 503, 504, 599) if is_failure(status)] == [
        500,
        502,
        503,
        504,
    ]
