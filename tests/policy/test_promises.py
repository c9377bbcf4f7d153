from __future__ import annotations

from pathlib import Path

import pytest

from scopegate.edge.foresee import decider
from scopegate.policy.policy import Promise
from scopegate.policy.promises import Forecast, broken
from tests.policies import examine

EXAMPLE = Path(__file__).parent / "example.yaml"


def promise(route: str | None = None, tier: str | None = None, answers: int | None = None) -> Promise:
    return Promise("GET", "/x", (), route, tier, answers, line=7, column=5)


@pytest.mark.parametrize(
    ("promised", "forecast", "said"),
    [
        (promise(route="a", tier="t"), Forecast("a", "t", None), []),
        (promise(answers=401), Forecast("a", "t", 401), []),
        (promise(route="a"), Forecast("b", "t", None), ["promises[0].route: GET /x meets route b, not a"]),
        (promise(tier="none"), Forecast("b", "t", None), ["promises[0].tier: GET /x meets tier t, not none"]),
        (promise(route="a"), Forecast(None, None, 404), ["promises[0].route: GET /x meets no route, not a"]),
        (
            promise(answers=401),
            Forecast("a", "t", None),
            ["promises[0].answers: GET /x meets what the app answers, not 401"],
        ),
        (
            promise("a", "t", 401),
            Forecast("b", "u", 403),
            [
                "promises[0].route: GET /x meets route b, not a",
                "promises[0].tier: GET /x meets tier u, not t",
                "promises[0].answers: GET /x meets 403, not 401",
            ],
        ),
    ],
)
def test_broken(promised: Promise, forecast: Forecast, said: list[str]) -> None:
    assert [str(one) for one in broken([promised], lambda *_: forecast, "F")] == [f"F:7:5 {line}" for line in said]


def test_the_request_is_asked_as_it_is_written() -> None:
    asked: list[tuple[str, str, tuple[str, ...]]] = []

    def decide(method: str, target: str, without: tuple[str, ...]) -> Forecast:
        asked.append((method, target, without))
        return Forecast(None, None, None)

    broken([Promise("POST", "/a?b", ("cookie",), None, None, 400, 1)], decide, "F")
    assert asked == [("POST", "/a?b", ("cookie",))]


@pytest.mark.parametrize(
    ("method", "target", "without", "forecast"),
    [
        ("POST", "/api/leads", (), Forecast("submit-lead", "strict", None)),
        ("POST", "/api/leads/", (), Forecast("submit-lead", "strict", None)),
        ("POST", "/API/leads", (), Forecast(None, None, 400)),
        ("GET", "/api/leads?x=1", (), Forecast("read-api", "lenient", None)),
        ("GET", "/_next/static/a.js", (), Forecast("assets", "none", None)),
        ("GET", "/api/contractor/jobs", (), Forecast("contractor-area", "moderate", None)),
        ("GET", "/api/contractor/jobs", ("authorization",), Forecast("contractor-area", "moderate", 401)),
        ("GET", "/api/x/../contractor/jobs", ("cookie",), Forecast(None, None, 400)),
        ("GET", "/api/contractor/a%2Fb;c", ("cookie",), Forecast("contractor-area", "moderate", 401)),
        ("GET", "/api/contractor", ("sg_session",), Forecast("contractor-area", "moderate", 401)),
        ("GET", "/api/contractor/jobs", ("accept",), Forecast("contractor-area", "moderate", None)),
        ("GET", "/api%2Fcontractor", (), Forecast(None, None, 400)),
        ("DELETE", "/anything", (), Forecast("everything-else", "lenient", None)),
    ],
)
def test_what_a_request_will_meet(method: str, target: str, without: tuple[str, ...], forecast: Forecast) -> None:
    found = examine(EXAMPLE, {}).policy
    assert found is not None
    assert decider(found)(method, target, without) == forecast


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
    assert decide("GET", "/form", ()) == Forecast(None, None, 405)
    assert decide("GET", "/nothing", ()) == Forecast(None, None, 404)
    assert decide("GET", "/api/contractor/x", ("authorization",)).answers is None
