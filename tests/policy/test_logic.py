"""JsonLogic: what may be written of it."""

from __future__ import annotations

import pytest

from scopegate.policy.logic import MAX_DEPTH, MAX_NODES, problems, results, variables
from scopegate.types import Json

ROLLOUT: Json = {
    "if": [
        {"and": [{"in": [{"var": "claim.plan"}, ["pro"]]}, {"!": [{"ends_with": [{"var": "host"}, ".test"]}]}]},
        "on",
        {"fractional": [{"var": "cookie.sid"}, ["on", 10], ["off", 90]]},
    ]
}


def nested(depth: int) -> Json:
    node: Json = True
    for _ in range(depth):
        node = {"!": [node]}
    return node


@pytest.mark.parametrize(
    "node",
    [
        ROLLOUT,
        "on",
        None,
        True,
        {"var": "user"},
        {"fractional": [["a", 1], ["b"]]},
        {"==": [{"var": "method"}, "GET"]},
        nested(MAX_DEPTH),
    ],
)
def test_what_flagd_writes_is_taken(node: Json) -> None:
    assert list(problems(node)) == []


@pytest.mark.parametrize(
    ("node", "what"),
    [
        ({"is": [1, 2]}, "the operator 'is', which is not known"),
        ({"starts_wth": [1, 2]}, "did you mean starts_with?"),
        ({"==": [1]}, "gives == 1 operands"),
        ({"if": ["on"]}, "gives if 1 operands"),
        ({"var": "name"}, "asks for 'name'"),
        ({"var": "claim."}, "asks for 'claim.'"),
        ({"var": 3}, "a var without a name"),
        ({"a": 1, "b": 2}, "an object that is no operation"),
        ({}, "an object that is no operation"),
        ({"fractional": [{"var": "user"}]}, "a fractional without shares"),
        ({"fractional": [["a", 0], ["b", 0]]}, "weights are all 0"),
        ({"fractional": [["a", 1], ["b", -1]]}, "a share that is not"),
        ({"fractional": [["a", 1], ["b", 1.5]]}, "a share that is not"),
        ({"fractional": [["a", 1], ["b", True]]}, "a share that is not"),
        ({"fractional": [["a", 1], "b"]}, "a share that is not"),
        ({"and": [{"or": [{"nor": []}]}]}, "'nor'"),
        ([{"nor": []}], "'nor'"),
        (nested(MAX_DEPTH + 1), "levels deep"),
        ({"in": [1, list(range(MAX_NODES))]}, f"more than {MAX_NODES} parts"),
    ],
)
def test_anything_else_is_named(node: Json, what: str) -> None:
    [found] = problems(node)
    assert what in found


def test_what_it_looks_at_and_what_it_may_answer() -> None:
    assert set(variables(ROLLOUT)) == {"claim.plan", "host", "cookie.sid"}
    assert list(results(ROLLOUT)) == ["on", "on", "off"]
    assert list(results({"if": [{"var": "user"}, "a", {"var": "path"}, "b", "c"]})) == ["a", "b", "c"]
