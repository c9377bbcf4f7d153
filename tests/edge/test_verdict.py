from __future__ import annotations

from scopegate.edge.verdict import RequestHead


def test_fields_are_cut_out_of_their_lines_once() -> None:
    head = RequestHead(b"GET", b"/", "1.1", [b"Host: a\r\n", b"X:y \r\n"])
    assert head.fields == [(b"Host", b"a"), (b"X", b"y ")]
    assert head.fields is head.fields
