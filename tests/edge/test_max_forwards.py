"""Max-Forwards: one number, however it is written, or none at all."""

from __future__ import annotations

import pytest

from scopegate.edge.max_forwards import MOST, forwards_left
from scopegate.edge.verdict import Refusal


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ([], None),
        ([b"0"], 0),
        ([b"000000000000000"], 0),
        ([b" 7\t"], 7),
        ([b"0010"], 10),
        ([b"999999999"], MOST),
        ([b"1000000000"], MOST),
        ([b"9" * 30_000], MOST),
    ],
)
def test_how_many_proxies_are_left(values: list[bytes], left: int | None) -> None:
    assert forwards_left(values) == left


@pytest.mark.parametrize("values", [[b""], [b"-1"], [b"1.5"], [b"x"], [b"1, 2"], [b"1", b"1"], [b"\xb2"], [b"0x1"]])
def test_what_is_no_one_number_is_refused(values: list[bytes]) -> None:
    refusal = forwards_left(values)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.close) == (400, "bad_syntax", True)
