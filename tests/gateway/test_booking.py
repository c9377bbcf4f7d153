"""What an answer says that its request cost."""

from __future__ import annotations

import pytest

from scopegate.gateway.booking import cost_of


@pytest.mark.parametrize(
    ("lines", "cost"),
    [
        ([b"X-Cost: 12\r\n"], 12),
        ([b"a: 1\r\n", b"x-COST:0\r\n"], 0),
        ([], None),
        ([b"x-cost: \r\n"], None),
        ([b"x-cost: -3\r\n"], None),
        ([b"x-cost: 1.5\r\n"], None),
        ([b"x-cost: +1\r\n"], None),
        ([b"x-cost: 0x1\r\n"], None),
        ([b"x-cost: many\r\n"], None),
        ([b"x-cost: " + b"9" * 15 + b"\r\n"], 10**15 - 1),
        ([b"x-cost: " + b"9" * 16 + b"\r\n"], None),
        ([b"x-cost: 1\r\n", b"X-Cost: 1\r\n"], None),
        ([b"x-costs: 1\r\n"], None),
    ],
)
def test_a_cost_is_one_whole_number(lines: list[bytes], cost: int | None) -> None:
    assert cost_of(b"x-cost", lines) == cost
