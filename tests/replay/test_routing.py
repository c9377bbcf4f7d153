"""Which route a logged target meets."""

from __future__ import annotations

import pytest

from scopegate.replay.entries import LogEntry
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
    found = routing.route_of(LogEntry(0, "192.0.2.1", method, target, 200))
    assert (found and found.name) == route


@pytest.mark.parametrize(
    ("host", "named", "route"),
    [("a.example", "", "a"), ("b.example", "", "rest"), ("", "a", "a"), ("", "gone", "rest")],
)
def test_routes_of_a_host_are_met_by_its_requests(host: str, named: str, route: str) -> None:
    routes = [
        {"name": "a", "match": "GET /**", "tier": "none", "hosts": ["a.example"]},
        {"name": "rest", "match": "GET /**", "tier": "none"},
    ]
    routing = Routing(policy_of(["http://127.0.0.1:1"], routes=routes))
    found = routing.route_of(LogEntry(0, "192.0.2.1", "GET", "/", 200, 0, named, host))
    assert found is not None
    assert found.name == route
