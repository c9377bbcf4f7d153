from __future__ import annotations

from tests.caching.kept import NOW_S, stored


def test_an_answer_ages() -> None:
    found = stored("cache-control: max-age=60\nage: 10")
    assert (found.age_s(NOW_S + 5), found.left_s(NOW_S + 5)) == (15, 45)
    assert found.left_s(NOW_S + 60) == -10
    assert found.age_s(NOW_S - 1000) == 0  # a clock that was set back makes nobody younger than nothing


def test_a_soft_purge_makes_it_stale() -> None:
    found = stored("cache-control: max-age=60")
    found.is_outdated = True
    assert found.left_s(NOW_S) == 0
    assert found.left_s(NOW_S + 70) == -10


def test_it_is_kept_as_long_as_it_can_serve() -> None:
    assert stored("cache-control: max-age=60").ends_s(500) == NOW_S + 60
    assert stored('cache-control: max-age=60\netag: "x"').ends_s(500) == NOW_S + 560
    assert stored("cache-control: max-age=60, stale-if-error=700").ends_s(500) == NOW_S + 760


def test_its_size_is_more_than_its_bytes() -> None:
    small, large = (stored("cache-control: max-age=60", body=b"x" * size) for size in (1, 901))
    assert large.size_bytes - small.size_bytes == 900
    assert small.size_bytes > 1000
