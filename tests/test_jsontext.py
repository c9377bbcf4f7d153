"""JSON texts: what has one meaning is read, what has two is refused, and neither costs more than its length."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.jsontext import (
    MAX_NUMBER_CHARS,
    MAX_VALUES,
    BadJson,
    RepeatedKey,
    TooDeep,
    TooMany,
    is_deeper,
    parse,
)
from scopegate.types import Json
from tests.growth import LINEAR, growth

MIB = 1024 * 1024

GOOD: list[tuple[bytes, Json]] = [
    (b"null", None),
    (b"true", True),
    (b"0", 0),
    (b"-0", 0),
    (b"-0.0", -0.0),
    (b"1e2", 100.0),
    (b"1E+2", 100.0),
    (b"1.5e-3", 0.0015),
    (b"1e-999", 0.0),
    (b"9007199254740993", 9007199254740993),
    (b"9" * MAX_NUMBER_CHARS, int("9" * MAX_NUMBER_CHARS)),
    (b'""', ""),
    (b' \t\r\n{"a" :\t[1 , 2.5, "\xc3\xbc"]}\n ', {"a": [1, 2.5, "ü"]}),
    (b'"\\u0000\\b\\/\\u00e9"', "\0\b/é"),
    (b'"\\ud83d\\ude00"', "😀"),
    (b'"cut \\ud83d"', "cut \ufffd"),
    (b'{"\\uDFFF": ["\\ud800"]}', {"\ufffd": ["\ufffd"]}),
    (b'"\\\\ud800"', "\\ud800"),
    (b'"\x7f\xe2\x80\xa8"', "\x7f\u2028"),
    (b'{"": {"": 1}}', {"": {"": 1}}),
    (b'{"a": 1, "A": 2}', {"a": 1, "A": 2}),
    (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    (b'["[[[[[[[[[[[[[[", "\\"[[[[[[[[[[[[[[", "\\\\"]', ["[[[[[[[[[[[[[[", '"[[[[[[[[[[[[[[', "\\"]),
    (b'["\\\\", "[[[[[[[[[[[[[["]', ["\\", "[[[[[[[[[[[[[["]),
    (b"[" * 8 + b"]" * 8, [[[[[[[[]]]]]]]]),
    (b'{"a":' * 8 + b"1" + b"}" * 8, {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}),
]

BAD: list[bytes] = [
    b"",
    b" ",
    b"\x00",
    b"\x00{}",
    b"{}\x00",
    b"\x0c{}",
    b"\xc2\xa0{}",
    b"\xef\xbb\xbf{}",
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-16-le"),
    '{"a": 1}'.encode("utf-32"),
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xe2\x80',
    b"{",
    b"}",
    b"[",
    b"]",
    b"[}",
    b'"',
    b"{'a': 1}",
    b"{a: 1}",
    b'{"a" 1}',
    b'{"a": }',
    b'{"a"}',
    b'{"a": 1,}',
    b"{,}",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1] x",
    b"[1][2]",
    b"{}{}",
    b"{} // comment",
    b"/* comment */ {}",
    b"# comment\n{}",
    b"undefined",
    b"None",
    b"True",
    b"nul",
    b"NaN",
    b"-NaN",
    b"Infinity",
    b"[Infinity]",
    b'{"a": -Infinity}',
    b"1e999",
    b"-1e999",
    b"[1e400]",
    b"1" * (MAX_NUMBER_CHARS + 1),
    b"-" + b"1" * MAX_NUMBER_CHARS,
    b"0." + b"0" * MAX_NUMBER_CHARS,
    b"01",
    b"-01",
    b"+1",
    b".5",
    b"1.",
    b"1.e3",
    b"1e",
    b"1e+",
    b"0x10",
    b"1_000",
    b"--1",
    "٣".encode(),
    "１".encode(),
    b'"line\nbreak"',
    b'"tab\tin it"',
    b'"nul\x00"',
    b'"\\x41"',
    b'"\\u12"',
    b'"\\u 123"',
    b'"\\"',
    b"\\u0022a\\u0022",
    b'{"a": 1, "a": 2}',
    b'{"a": 1, "a": 1}',
    b'{"a": 1, "\\u0061": 2}',
    b'{"": 1, "": 2}',
    b'{"\\ud800": 1, "\\ud801": 2}',
    b'{"\\ud800": 1, "\xef\xbf\xbd": 2}',
    b'[{"a": {"x\\udfff": 1, "x\\ud83d": 1}}]',
    b'[{"x": {"__proto__": 1, "__proto__": 2}}]',
    b"[" * 9 + b"]" * 9,
    b'{"a":' * 9 + b"1" + b"}" * 9,
    b'[{"a":' * 5 + b"1" + b"}]" * 5,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
]


@pytest.mark.parametrize(("text", "value"), GOOD)
def test_what_has_one_meaning_is_read(text: bytes, value: Json) -> None:
    assert parse(text, max_depth=8) == value


@pytest.mark.parametrize("text", BAD)
def test_what_readers_disagree_about_is_refused_without_being_quoted(text: bytes) -> None:
    with pytest.raises(BadJson) as refused:
        parse(text, max_depth=8)
    assert len(str(refused.value)) < 100


def test_the_last_of_equal_keys_counts_where_that_is_wanted() -> None:
    assert parse(b'{"a": 1, "b": 0, "a": 2}', max_depth=8, repeated_keys=True) == {"a": 2, "b": 0}
    assert parse(b'{"\\ud800": 1, "\\ud801": 2}', max_depth=8, repeated_keys=True) == {"\ufffd": 2}
    with pytest.raises(RepeatedKey):
        parse(b'{"a": 1, "b": 0, "a": 2}', max_depth=8)


@pytest.mark.parametrize(("depth", "deeper"), [(0, False), (3, False), (4, True)])
def test_depth_is_counted_in_levels(depth: int, deeper: bool) -> None:
    assert is_deeper(b'[1, "]", ' * depth + b"[]" + b"]" * depth, 4) is deeper
    assert is_deeper(b'{"{": ' * depth + b"{}" + b"}" * depth, 4) is deeper
    if deeper:
        with pytest.raises(TooDeep):
            parse(b"[" * depth + b"[]" + b"]" * depth, max_depth=4)


VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _depth(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans(), st.integers(0, 6))
def test_every_value_is_read_back_unless_it_is_deeper(value: Json, plain: bool, max_depth: int) -> None:
    text = json.dumps(value, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    assert is_deeper(text, max_depth) == (_depth(value) > max_depth)
    if _depth(value) > max_depth:
        with pytest.raises(TooDeep):
            parse(text, max_depth=max_depth)
    else:
        assert parse(text, max_depth=max_depth) == value


def test_values_are_counted_outside_strings() -> None:
    assert len(parse(b"[" + b",".join([b"0"] * (MAX_VALUES - 1)) + b"]", max_depth=1)) == MAX_VALUES - 1  # type: ignore[arg-type]
    assert parse(b'["' + b"," * MAX_VALUES + b'[[{{"]', max_depth=1) == ["," * MAX_VALUES + "[[{{"]
    with pytest.raises(TooMany):
        parse(b"[" + b",".join([b"0"] * MAX_VALUES) + b"]", max_depth=1)


BOMBS: dict[str, Callable[[int], bytes]] = {
    "brackets": lambda size: b"[" * size,
    "empty lists": lambda size: b"[" + b"[]," * (size // 3) + b"[]]",
    "empty objects": lambda size: b"[" + b"{}," * (size // 3) + b"{}]",
    "objects": lambda size: b'{"a":' * (size // 5),
    "closed": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    "a forest": lambda size: b"[" + b",".join([b"[" * 33 + b"]" * 33] * (size // 67)) + b"]",
    "quotes": lambda size: b"[" * 33 + b'"' * size,
    "escaped quotes": lambda size: b"[" * 32 + b'"' + b'\\"' * (size // 2),
    "backslashes": lambda size: b"[" * 32 + b'"' + b"\\" * size,
    "one number": lambda size: b"1" * size,
    "one fraction": lambda size: b"0." + b"1" * size,
    "one exponent": lambda size: b"1e" + b"9" * size,
    "one key": lambda size: b"{" + b'"a":1,' * (size // 6) + b'"a":1}',
    "bad UTF-8": lambda size: b'"' + b"\xff" * size,
}
"""Texts of about that many bytes."""


def judge(text: bytes) -> None:
    with suppress(BadJson):
        parse(text, max_depth=32)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_linear_time_and_bounded_memory(name: str) -> None:
    assert growth(BOMBS[name], judge, MIB) < LINEAR
    bomb = BOMBS[name](MIB)
    tracemalloc.start()
    try:
        with pytest.raises(BadJson):
            parse(bomb, max_depth=32)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
