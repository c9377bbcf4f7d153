"""Delays before retries: 1, 2, 4 s ± 20 %, Retry-After honoured with jitter on top, never for an hour."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.backoff import CAP_S, delay_s


@pytest.mark.parametrize(
    ("retry", "jitter", "retry_after_s", "expected"),
    [
        (1, 0.5, None, 1.0),
        (2, 0.5, None, 2.0),
        (3, 0.5, None, 4.0),
        (1, 0.0, None, 0.8),
        (1, 1.0, None, 1.2),
        (3, 0.0, None, 3.2),
        (3, 1.0, None, 4.8),
        (7, 0.5, None, CAP_S),
        (10_000, 0.5, None, CAP_S),
        (1, 0.0, 5.0, 5.0),
        (1, 1.0, 5.0, 6.25),
        (1, 0.5, 0.0, 1.0),
        (1, 0.5, -3.0, 1.0),
        (3, 0.5, 2.0, 4.0),
        (1, 0.0, CAP_S, CAP_S),
        (1, 0.5, CAP_S + 0.001, None),
        (1, 0.5, 3600.0, None),
        (1, 0.5, 4_000_000.0, None),
        (1, 0.5, math.inf, None),
        (1, 0.5, math.nan, None),
    ],
)
def test_delay(retry: int, jitter: float, retry_after_s: float | None, expected: float | None) -> None:
    assert delay_s(retry, jitter, retry_after_s) == (None if expected is None else pytest.approx(expected))


@given(st.integers(1, 30), st.floats(0, 1), st.floats(0, CAP_S))
def test_never_earlier_than_asked(retry: int, jitter: float, retry_after_s: float) -> None:
    delay = delay_s(retry, jitter, retry_after_s)
    assert delay is not None
    assert delay >= retry_after_s


def test_callers_told_the_same_second_spread_out() -> None:
    delays = [delay_s(1, share / 99, 5.0) or 0.0 for share in range(100)]
    assert min(delays) == 5.0
    assert max(delays) / min(delays) >= 1.2
    assert len(set(delays)) == 100
