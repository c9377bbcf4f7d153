from __future__ import annotations

from scopegate.caching.wishes import ANY_AGE_S, Wishes, wishes_of
from tests.caching.kept import said


def wishes(text: str, *, ignored: bool = False) -> Wishes:
    return wishes_of(said(f"cache-control: {text}"), ignored=ignored)


def test_what_is_asked_for() -> None:
    found = wishes("no-cache, max-age=5, min-fresh=6, max-stale=7")
    assert (found.no_cache, found.max_age_s, found.min_fresh_s, found.max_stale_s) == (True, 5, 6, 7)
    assert wishes("max-stale").max_stale_s == ANY_AGE_S
    assert wishes("no-store").no_store
    assert wishes("max-age=x").max_age_s == 0
    assert wishes_of(said("pragma: no-cache"), ignored=False).no_cache is False


def test_the_policy_may_turn_it_off() -> None:
    found = wishes("no-cache, no-store, max-age=0, only-if-cached", ignored=True)
    assert (found.no_cache, found.no_store, found.max_age_s, found.only_if_cached) == (False, False, None, True)
