from __future__ import annotations

import pytest

from scopegate.edge.cookies import meant, values_of


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        ([], set()),
        ([b"a=1; sid=x"], {b"x"}),
        ([b" sid = x ;a=1"], {b"x"}),
        ([b"sid=x; sid=x", b"sid=x"], {b"x"}),
        ([b"sid=x", b"a=1; sid=y"], {b"x", b"y"}),
        ([b"SID=x; asid=y; sid"], {b""}),
        ([b"sid=a=b"], {b"a=b"}),
    ],
)
def test_what_a_cookie_is(lines: list[bytes], values: set[bytes]) -> None:
    assert values_of(b"sid", lines) == values


@pytest.mark.parametrize(
    "value",
    [b"ab c", b'"ab c"', b"%61b%20c", b"ab+c", b"%61b+%63", b'"\\141b c"', b'"a\\b c"', b'"a%62 c"', b"ab%20c"],
)
def test_one_session_is_one_value_however_it_is_written(value: bytes) -> None:
    assert meant(value) == b"ab c"


@pytest.mark.parametrize("value", [b"", b'"', b"%", b"%zz", b"\\", b"a=b", b"\xff", b'a"b"'])
def test_what_nobody_decodes_stays(value: bytes) -> None:
    assert meant(value) == value


@pytest.mark.parametrize(("value", "read"), [(b'"\\9\\1"', b"91"), (b'"\\777"', b"777"), (b'"a\\"', b"a\\")])
def test_an_escape_is_three_octal_digits_or_one_byte(value: bytes, read: bytes) -> None:
    assert meant(value) == read
