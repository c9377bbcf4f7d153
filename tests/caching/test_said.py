from __future__ import annotations

from scopegate.caching.said import lines_without, members_of, said_of, values_of

LINES = [b"Vary: a\r\n", b"vary:  b , ,c \r\n", b"X: 1\r\n"]


def test_names_in_lower_case_and_values_without_space() -> None:
    found = said_of(LINES)
    assert found == {b"vary": [b"a", b"b , ,c"], b"x": [b"1"]}
    assert list(values_of(found, b"y")) == []
    assert members_of(found, b"vary") == [b"a", b"b", b"c"]


def test_lines_without_some_names() -> None:
    assert lines_without(LINES, frozenset([b"vary"])) == [b"X: 1\r\n"]
