from __future__ import annotations

from typing import Any

import pytest

from scopegate.gateway.cacheplan import cache_plan
from tests.policies import compiled_with, route


@pytest.mark.parametrize(
    ("match", "cache", "has_rule"),
    [
        ("GET /x", {}, True),
        ("GET /x", None, None),
        ("GET|HEAD /x", None, None),
        ("POST /x", None, False),
        ("ANY /x", None, False),
        ("ANY /x", {}, True),
    ],
)
def test_a_route_has_to_do_with_it_where_it_keeps_or_changes(match: str, cache: Any, has_rule: bool | None) -> None:
    kept = route(name="kept", match="GET /kept", cache={})
    policy = compiled_with(
        routes=[kept, route(name="other", match=match, **({} if cache is None else {"cache": cache}))]
    )
    plan = cache_plan(policy.routes[1], policy)
    assert (None if plan is None else plan.rule is not None) is has_rule


def test_without_any_cache_nothing_has() -> None:
    policy = compiled_with(routes=[route(match="ANY /x")])
    assert cache_plan(policy.routes[0], policy) is None
