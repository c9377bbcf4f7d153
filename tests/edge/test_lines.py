from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.lines import field_of, fields_of, lines_of


class Told:
    """What a parser tells of a head, field by field."""

    def __init__(self, lines: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        httptools.HttpRequestParser(self).feed_data(b"GET / HTTP/1.1\r\n%b\r\n" % lines)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"A: b\r\n", (b"A", b"b")),
        (b"A:b\r\n", (b"A", b"b")),
        (b"A: \t b c \t\r\n", (b"A", b"b c \t")),
        (b"A:\r\n", (b"A", b"")),
        (b"A: \t \r\n", (b"A", b"")),
        (b"A: b: c\r\n", (b"A", b"b: c")),
    ],
)
def test_a_line_is_a_name_and_a_value(line: bytes, field: tuple[bytes, bytes]) -> None:
    assert field_of(line) == field


def test_fields_are_written_as_lines_and_read_again() -> None:
    fields = [(b"A", b"b"), (b"c", b""), (b"A", b"d e")]
    assert lines_of(fields) == [b"A: b\r\n", b"c: \r\n", b"A: d e\r\n"]
    assert fields_of(lines_of(fields)) == fields


@given(st.text("ab:;,= \t\r\n\v\f\x00\x1c\x85\xa0\xff-", max_size=24))
def test_what_the_parser_took_is_cut_as_the_parser_tells_it(text: str) -> None:
    lines = text.encode("latin-1") + b"\r\n"
    try:
        told = Told(lines).fields
    except httptools.HttpParserError:
        return
    if b"\r\n\r\n" not in b"\r\n" + lines:  # else the head ended before
        assert fields_of(lines.splitlines(keepends=True)) == told
