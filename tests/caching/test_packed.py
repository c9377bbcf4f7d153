from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.caching.packed import MAX_PACKED_BYTES, packed, unpacked
from tests.caching.kept import stored

ANSWER = 'cache-control: max-age=60, stale-if-error=5\netag: "ü"\ncache-tag: a, b\nvary: x\nage: 7'


def test_an_answer_comes_back_as_it_was() -> None:
    before = stored(ANSWER, "x: 1")
    before.seen = 9
    found = unpacked(packed(before))
    assert found is not None
    after, size = found
    assert (size, after.body) == (2, b"")
    assert packed_without_body(after) == packed_without_body(before)


def packed_without_body(one: object) -> object:
    text = json.loads(packed(one))  # type: ignore[arg-type]
    return {name: value for name, value in text.items() if name != "bytes"}


@pytest.mark.parametrize("name", [*json.loads(packed(stored(ANSWER)))])
def test_what_lacks_something_is_no_answer(name: str) -> None:
    text = json.loads(packed(stored(ANSWER)))
    if name != "is_implicit":  # whatever is not false counts as true: that is for fewer
        for value in ([1], {"a": 1}):
            assert unpacked(json.dumps(text | {name: value}).encode()) is None
    del text[name]
    assert unpacked(json.dumps(text).encode()) is None


@given(st.binary(max_size=200))
def test_anything_may_stand_there(text: bytes) -> None:
    assert unpacked(text) is None


def test_what_is_too_long_is_not_read() -> None:
    assert unpacked(packed(stored(ANSWER)) + b" " * MAX_PACKED_BYTES) is None
