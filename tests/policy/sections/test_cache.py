from __future__ import annotations

import pytest

from scopegate.policy.policy import CachedMethod, CacheKey, CacheRule, CacheStore
from scopegate.policy.sections.cache import NEXT_FIELDS, parse_language_path
from tests.policies import compiled_with, route


def test_a_route_keeps_nothing_unless_it_says_so() -> None:
    found = compiled_with()
    assert found.routes[0].cache is None
    assert found.cache == CacheStore(64 * 1024**2, 0, 5.0)


def test_what_is_left_out_is_the_apps_to_say() -> None:
    found = compiled_with(routes=[route(cache={})]).routes[0].cache
    assert found == CacheRule(CacheKey(None, NEXT_FIELDS, ()), 0, 0, frozenset(CachedMethod), 1024**2, 0, 0, False)


def test_everything_said() -> None:
    rule = {
        "ttl": "30s",
        "key": {"query": ["page"], "headers": ["X-Lang", "x-lang"], "cookies": ["plan"], "languages": ["/", "/a/**"]},
        "methods": ["GET"],
        "max_object": "5MiB",
        "stale_while_revalidate": "1m",
        "stale_if_error": "1h",
        "ignore_client_no_cache": True,
    }
    found = compiled_with(routes=[route(cache=rule)], cache={"memory": "1GiB", "redis": "2GiB", "wait": "1s"})
    key = CacheKey(frozenset({"page"}), ("x-lang",), ("plan",), ("/", "/a/**"))
    assert found.routes[0].cache == CacheRule(key, 30, 0, frozenset({CachedMethod.GET}), 5 * 1024**2, 60, 3600, True)
    assert found.cache == CacheStore(1024**3, 2 * 1024**3, 1.0)
    none = compiled_with(routes=[route(cache={"key": {"query": "none"}, "heuristic": "10%"})]).routes[0].cache
    assert none is not None
    assert (none.key.query, none.heuristic) == (frozenset(), 0.1)


@pytest.mark.parametrize("text", ["", "shop", "/*", "/a*/**", "/**/x", "https://a.example/"])
def test_a_path_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        parse_language_path(text)
