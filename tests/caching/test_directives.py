from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.caching.directives import MAX_SECONDS, read_directives, read_targeted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"max-age=60", 60),
        (b"MaX-aGe=60", 60),
        (b'max-age="60"', 60),
        (b"max-age=0060", 60),
        (b"foobar, max-age=60", 60),
        (b"max-age=99999999999", MAX_SECONDS),
        (b"max-age=" + b"9" * 5000, MAX_SECONDS),
        (b"max-age=60, max-age=1", 1),
        (b"max-age=1, max-age=60", 1),
        (b'max-age=1, extension="max-age=3600"', 1),
        (b'extension="a\\"b, max-age=3600", max-age=1', 1),
        (b"max-age=-1", 0),
        (b"max-age=1.5", 0),
        (b"max-age='60'", 0),
        (b"max-age=60a", 0),
        (b"max-age= 60", 0),
        (b"max-age=", 0),
        (b"max-age", 0),
        (b"max-age =60", None),
        (b'"max-age=60"', None),
        (b"", None),
    ],
)
def test_seconds(text: bytes, seconds: int | None) -> None:
    assert read_directives([text]).seconds(b"max-age") == seconds


def test_fields_are_read_as_one() -> None:
    found = read_directives([b"public", b"max-age=5", b"s-maxage=7"])
    assert found.has(b"public")
    assert (found.seconds(b"max-age"), found.seconds(b"s-maxage")) == (5, 7)


@pytest.mark.parametrize(
    ("text", "whole", "names"),
    [
        (b"private", True, []),
        (b'private="a, B"', False, [b"a", b"b"]),
        (b"private=a", False, [b"a"]),
        (b'private=""', True, []),
        (b'private="a b"', True, [b"a b"]),
        (b'private="a", private', True, [b"a"]),
    ],
)
def test_a_directive_may_speak_of_some_fields_alone(text: bytes, whole: bool, names: list[bytes]) -> None:
    found = read_directives([text])
    assert found.forbids_whole(b"private") is whole
    assert sorted(found.names(b"private")) == names


@pytest.mark.parametrize(
    "text",
    [b"max-age=60; no-store", b"no-store;", b"x=1 private", b'a="b", x="no-store', b"[no-cache]", b"\xffno-store"],
)
def test_what_may_forbid_and_cannot_be_read_is_told(text: bytes) -> None:
    found = read_directives([text])
    assert found.is_doubtful or found.has(b"no-store")


def test_a_string_that_never_ends_hides_nothing() -> None:
    assert read_directives([b'a="b, no-store, max-age=7']).has(b"no-store")


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_anything_can_be_read(texts: list[bytes]) -> None:
    found = read_directives(texts)
    assert found.seconds(b"max-age") is None or 0 <= (found.seconds(b"max-age") or 0) <= MAX_SECONDS


@pytest.mark.parametrize("text", [b'"\\' * 16_000, b'a="' * 10_000, b"," * 32_000, b'"' * 32_001])
def test_long_texts_take_no_longer_than_their_length(text: bytes) -> None:
    read_directives([text])
    read_targeted([text])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"max-age=60", 60),
        (b"foobar, max-age=60", 60),
        (b'max-age=60;q=1, a="x, y", b=(1 2), c=?0, d=:YQ==:', 60),
        (b"max-age=1, max-age=60", 60),
        (b"max-age=-5, public", 0),
        (b"public", None),
        (b'public, max-age="60"', None),
        (b"public, max-age=6.5", None),
    ],
)
def test_a_targeted_field_is_a_dictionary(text: bytes, seconds: int | None) -> None:
    found = read_targeted([text])
    assert found is not None
    assert found.seconds(b"max-age") == seconds


@pytest.mark.parametrize(
    "text",
    [b"", b"max-age=60, &&&", b"max-age=60,", b"MaX-age=60", b"max-age =60", b'max-age="60"', b"a=(1", b"max-age=60 x"],
)
def test_a_targeted_field_that_is_none_is_passed_over(text: bytes) -> None:
    assert read_targeted([text]) is None


def test_a_targeted_word_may_be_turned_off() -> None:
    found = read_targeted([b"no-store=?0, max-age=1"])
    assert found is not None
    assert not found.has(b"no-store")
