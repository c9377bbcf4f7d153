from __future__ import annotations

import pytest

from scopegate.policy.policy import Promise
from scopegate.policy.promises import Forecast, broken


def promise(route: str | None = None, tier: tuple[str, ...] = (), answers: int | None = None) -> Promise:
    return Promise("GET", "/x", (), route, tier, answers, line=7, column=5)


@pytest.mark.parametrize(
    ("promised", "forecast", "said"),
    [
        (promise(route="a", tier=("t",)), Forecast("a", ("t",), None), []),
        (promise(answers=401), Forecast("a", ("t",), 401), []),
        (promise(route="a"), Forecast("b", ("t",), None), ["promises[0].route: GET /x meets route b, not a"]),
        (promise(tier=("none",)), Forecast("b", ("t",), None), ["promises[0].tier: GET /x meets tier t, not none"]),
        (promise(tier=("t", "u")), Forecast("b", ("v", "u", "t"), None), []),
        (
            promise(tier=("t", "u")),
            Forecast("b", ("v", "t"), None),
            ["promises[0].tier: GET /x meets tier v and t, not u"],
        ),
        (promise(tier=("t",)), Forecast(None, (), 404), ["promises[0].tier: GET /x meets no route, not t"]),
        (promise(route="a"), Forecast(None, (), 404), ["promises[0].route: GET /x meets no route, not a"]),
        (
            promise(answers=401),
            Forecast("a", ("t",), None),
            ["promises[0].answers: GET /x meets what the app answers, not 401"],
        ),
        (
            promise("a", ("t",), 401),
            Forecast("b", ("u",), 403),
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
    asked: list[tuple[str, str, tuple[str, ...], str | None]] = []

    def decide(method: str, target: str, without: tuple[str, ...], host: str | None) -> Forecast:
        asked.append((method, target, without, host))
        return Forecast(None, (), None)

    broken([Promise("POST", "/a?b", ("cookie",), None, (), 400, 1)], decide, "F")
    broken([Promise("GET", "/", (), None, (), 400, 1, host="a.example")], decide, "F")
    assert asked == [("POST", "/a?b", ("cookie",), None), ("GET", "/", (), "a.example")]
    promised = Promise("GET", "/", (), "r", (), None, 1, host="a.example")
    (problem,) = broken([promised], lambda *_: Forecast("s", (), None), "F")
    assert "GET / of a.example meets route s, not r" in problem.what
