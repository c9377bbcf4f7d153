from __future__ import annotations

import yaml

from scopegate.policy.policy import Promise
from tests.policies import MINIMAL, compiled, document, review


def test_a_promise_knows_where_it_stands() -> None:
    promise = "{request: GET /x?y, without: [Cookie, X-A], tier: lenient, route: all}"
    found = compiled(MINIMAL + f"promises:\n  - {promise}\n")
    assert found.promises == (Promise("GET", "/x?y", ("cookie", "x-a"), "all", ("lenient",), None, line=5, column=5),)


def test_names_that_are_promised_must_be_there() -> None:
    promises = [{"request": "GET /", "tier": "strict"}, {"request": "GET /", "route": "al", "tier": ["lenient", "no"]}]
    problems = review(yaml.safe_dump(document(promises=promises))).problems
    assert sorted(problem.path for problem in problems) == ["promises[1].route", "promises[1].tier[1]"]


def test_a_promise_says_something() -> None:
    (problem,) = review(yaml.safe_dump(document(promises=[{"request": "GET /"}]))).problems
    assert (problem.path, problem.what) == ("promises[0]", "promises nothing: add `route`, `tier` or `answers`")
