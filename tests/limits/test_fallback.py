"""Each admission counts once for every gateway: what they admit together, when none hears of the others."""

from __future__ import annotations

import pytest

from scopegate.limits.fallback import UNCOUNTED, weighted
from scopegate.limits.window import Quota, Window


@pytest.mark.parametrize(
    ("quota", "cost", "gateways", "counts"),
    [
        (Quota(10, 1000), 1, 1, 1),
        (Quota(10, 1000), 1, 4, 4),
        (Quota(10, 1000), 2, 4, 8),
        (Quota(10, 1000), 3, 4, 10),
        (Quota(3, 1000), 1, 4, 3),  # one each, or none would be admitted at all
        (Quota(10, 1000, 2), 1, 4, 2),
    ],
)
def test_how_often_an_admission_counts(quota: Quota, cost: int, gateways: int, counts: int) -> None:
    window = Window("a", "k", quota, "192.0.2.1", cost)
    assert weighted(window, gateways) == Window("a", "k", quota, "192.0.2.1", counts)


def test_what_passes_uncounted_says_so() -> None:
    assert (UNCOUNTED.admitted, UNCOUNTED.standings, UNCOUNTED.alone) == (True, (), True)
