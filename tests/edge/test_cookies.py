from __future__ import annotations

import pytest

from scopegate.edge.cookies import values_of


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
