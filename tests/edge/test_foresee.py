"""What a request would meet, told without sending it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.edge.foresee import decider
from scopegate.policy.promises import Forecast, broken
from tests.policies import EXAMPLE, examine


@pytest.mark.parametrize(
    ("method", "target", "without", "forecast"),
    [
        ("POST", "/api/leads", (), Forecast("submit-lead", ("strict",), None)),
        ("POST", "/api/leads/", (), Forecast("submit-lead", ("strict",), None)),
        ("POST", "/API/leads", (), Forecast(None, (), 400)),
        ("GET", "/api/leads?x=1", (), Forecast("read-api", ("lenient",), None)),
        ("GET", "/_next/static/a.js", (), Forecast("assets", ("none",), None)),
        ("GET", "/api/contractor/jobs", (), Forecast("contractor-area", ("moderate",), None)),
        ("GET", "/api/contractor/jobs", ("authorization",), Forecast("contractor-area", ("moderate",), 401)),
        ("GET", "/api/x/../contractor/jobs", ("cookie",), Forecast(None, (), 400)),
        ("GET", "/api/contractor/a%2Fb;c", ("cookie",), Forecast("contractor-area", ("moderate",), 401)),
        ("GET", "/api/contractor", ("sg_session",), Forecast("contractor-area", ("moderate",), 401)),
        ("GET", "/api/contractor/jobs", ("accept",), Forecast("contractor-area", ("moderate",), None)),
        ("GET", "/api%2Fcontractor", (), Forecast(None, (), 400)),
        ("DELETE", "/anything", (), Forecast("everything-else", ("lenient",), None)),
    ],
)
def test_what_a_request_will_meet(method: str, target: str, without: tuple[str, ...], forecast: Forecast) -> None:
    found = examine(EXAMPLE, {}).policy
    assert found is not None
    assert decider(found)(method, target, without, None) == forecast


def test_no_route_and_a_watching_one(tmp_path: Path) -> None:
    text = (
        EXAMPLE.read_text()
        .replace("ANY /**", "POST /form")
        .replace("auth: contractor}", "auth: contractor, mode: watch}")
    )
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    found = examine(file, {}).policy
    assert found is not None
    decide = decider(found)
    assert decide("GET", "/form", (), None) == Forecast(None, (), 405)
    assert decide("GET", "/nothing", (), None) == Forecast(None, (), 404)
    assert decide("GET", "/api/contractor/x", ("authorization",), None).answers is None


def test_a_request_of_another_host(tmp_path: Path) -> None:
    text = """
version: 1
server: {hosts: [app.example.com, shop.example.com]}
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes:
  - {hosts: app.example.com, routes: [{name: app, match: ANY /**, tier: strict}]}
  - {name: shop, match: GET /**, tier: lenient, hosts: "*.example.com"}
promises:
  - {request: GET /, host: shop.example.com, route: shop}
  - {request: POST /, host: shop.example.com, answers: 405}
  - {request: GET /, host: other.example.com, answers: 421}
  - {request: GET /, route: app}
"""
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    found = examine(file, {}).policy
    assert found is not None
    assert broken(found.promises, decider(found), "F") == []
    file.write_text(text.replace("route: shop}", "route: app}"))
    found = examine(file, {}).policy
    assert found is not None
    (problem,) = broken(found.promises, decider(found), "F")
    assert problem.what == "GET / of shop.example.com meets route shop, not app"
