"""Which route a logged target meets."""

from __future__ import annotations

import pytest

from scopegate.replay.routing import Routing
from tests.gateway.rig import policy_of

ROUTES = [
    {"name": "leads", "match": "POST /api/leads", "tier": "none"},
    {"name": "pages", "match": "GET /pages/**", "tier": "none"},
]


@pytest.mark.parametrize(
    ("method", "target", "route"),
    [
        ("POST", "/api/leads?a=b", "leads"),
        ("HEAD", "/pages/a", "pages"),
        ("GET", "/api/leads", None),
        ("GET", "/elsewhere", None),
        ("GET", "no target", None),
        ("\u00fcber", "/pages/\u00fc", None),
    ],
)
def test_a_target_meets_its_route_or_none(method: str, target: str, route: str | None) -> None:
    routing = Routing(policy_of(["http://127.0.0.1:1"], server={"hosts": ["a.example"]}, routes=ROUTES))
    found = routing.route_of(method, target)
    assert (found and found.name) == route
