from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.caching.ranges import (
    MAX_RANGES,
    UNSATISFIABLE,
    asks_for_parts,
    content_range,
    lines_of_parts,
    multipart,
    parts_of,
)
from tests.caching.kept import NOW_S, said, stored

THEN = "Tue, 24 Nov 2026 07:00:00 GMT"
KEPT = f'cache-control: max-age=60\netag: "a"\nlast-modified: {THEN}\ncontent-type: text/plain'
BODY = b"0123456789"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("bytes=0-1", [(0, 1)]),
        ("Bytes= 0-1", [(0, 1)]),
        ("bytes=5-", [(5, 9)]),
        ("bytes=-3", [(7, 9)]),
        ("bytes=-99", [(0, 9)]),
        ("bytes=8-99", [(8, 9)]),
        ("bytes=0-0,-1", [(0, 0), (9, 9)]),
        ("bytes=0-1, 20-30", [(0, 1)]),
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=5-4", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,x", None),
        ("lines=0-1", None),
        ("bytes=0-1\nrange: bytes=2-3", None),
        ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), None),
        ("bytes=0-9,0-9", None),
        ("bytes=" + "9" * 400 + "-", None),
    ],
)
def test_which_bytes_are_meant(text: str, parts: object) -> None:
    assert parts_of(stored(KEPT, body=BODY), said(f"range: {text}"), NOW_S) == parts


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('"a"', True),
        ('W/"a"', False),
        ('"b"', False),
        (THEN, True),
        ("Tue, 24 Nov 2026 07:00:01 GMT", False),
        ("x", False),
    ],
)
def test_parts_of_what_a_visitor_has_the_rest_of(condition: str, holds: bool) -> None:
    found = parts_of(stored(KEPT, body=BODY), said(f"range: bytes=0-1\nif-range: {condition}"), NOW_S)
    assert (found is not None) is holds


def test_what_is_no_page_has_no_parts() -> None:
    assert parts_of(stored(KEPT, status=404, body=BODY), said("range: bytes=0-1"), NOW_S) is None
    assert asks_for_parts(said("range: x"))
    assert not asks_for_parts(said("accept-ranges: x"))


def test_several_parts_are_one_body() -> None:
    found = stored(KEPT, body=BODY)
    assert multipart(found, [(0, 1), (9, 9)], b"B") == (
        b"--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\r\n"
        b"--B\r\ncontent-type: text/plain\r\ncontent-range: bytes 9-9/10\r\n\r\n9\r\n--B--\r\n"
    )
    assert b"content-type: text/plain\r\n" in lines_of_parts(found, several=False)
    assert b"content-type: text/plain\r\n" not in lines_of_parts(found, several=True)
    assert content_range((0, 4), 10) == b"bytes 0-4/10"


@given(st.text(alphabet="bytes=0123456789-, ", max_size=40))
def test_no_part_is_beyond_the_body(text: str) -> None:
    found = parts_of(stored(KEPT, body=BODY), said(f"range: {text}"), NOW_S)
    assert found is None or all(0 <= first <= last < len(BODY) for first, last in found)
