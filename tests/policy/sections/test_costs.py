from __future__ import annotations

import pytest

from scopegate.policy.policy import Cost
from scopegate.policy.sections.costs import given_back, parse_cost, parse_status


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("1", Cost()),
        ("25", Cost(25)),
        ("1 per 64KiB", Cost(per_bytes=65_536)),
        ("answer:X-Cost", Cost(field="x-cost")),
    ],
)
def test_costs(text: str, cost: Cost) -> None:
    assert parse_cost(text) == cost


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "is no cost") for text in ("0", "-1", "1.5", "100001", "9" * 30, "", "many", "2 per 1KiB")),
        ("1 per 64K", "has a size that is not a size"),
        ("1 per", "is no cost"),
        ("answer:", "names no field"),
        ("answer:a b", "names no field"),
    ],
)
def test_what_is_no_cost(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cost(text)


@pytest.mark.parametrize(("text", "some", "count"), [("401", 401, 1), ("5xx", 599, 100), ("1xx", 100, 100)])
def test_statuses(text: str, some: int, count: int) -> None:
    found = parse_status(text)
    assert some in found
    assert len(found) == count


@pytest.mark.parametrize("text", ["600", "99", "6xx", "5x", "xx", "4XX", "", "4011"])
def test_what_is_no_status(text: str) -> None:
    with pytest.raises(ValueError, match="is no status"):
        parse_status(text)


def test_what_is_given_back() -> None:
    assert given_back([], []) == frozenset()
    assert given_back([frozenset({401}), frozenset({500})], []) == {401, 500}
    only = given_back([], [frozenset({401})])
    assert 401 not in only
    assert len(only) == 499
