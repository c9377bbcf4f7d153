"""One visitor's requests against a limit, and what was admitted of them. Pure.

When a request was decided nobody outside knows, only that it was between its sending and its answer. So an admission
counts as within a span when both are, and what is said of a span is a lower bound that a slow machine only lowers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

PHASES = (0.05, 0.3, 0.55, 0.8, 0.95)
"""Where in a slot of the clock each episode begins: what counts by slots is weak at their ends."""
SILENCE, HAMMERED = 2.0, 2.2
"""Spans before an episode without a request, and of requests without a pause."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was sent and answered, in seconds of one clock, and whether it was admitted."""

    sent_s: float
    answered_s: float
    is_admitted: bool


def trace(limit: int, span_s: float) -> list[float]:
    """When to ask, in seconds from the beginning of a slot of the clock: episodes of more at once than the limit, and
    of four times as many as it lets through for a while after that."""
    gap_s = span_s / limit / 4
    moments: list[float] = []
    for phase in PHASES:
        earliest = moments[-1] / span_s + SILENCE if moments else 0.0
        begin_s = (ceil(earliest - phase) + phase) * span_s
        moments += [begin_s] * (limit + 2)
        moments += [begin_s + n * gap_s for n in range(1, round(HAMMERED * span_s / gap_s))]
    return moments


def worst(asked: Sequence[Asked], span_s: float) -> int:
    """The most admissions that lie within one span for certain."""
    admitted = [each for each in asked if each.is_admitted]
    return max(
        (
            sum(first.sent_s <= each.sent_s and each.answered_s < first.sent_s + span_s for each in admitted)
            for first in admitted
        ),
        default=0,
    )


def best(asked: Sequence[Asked], limit: int, span_s: float) -> int:
    """How many a log of admissions would let through, asked at the same moments: never more in any span, and nobody
    refused who could be admitted."""
    kept: list[float] = []
    for each in sorted(asked, key=lambda one: one.sent_s):
        if len(kept) < limit or kept[-limit] <= each.sent_s - span_s:
            kept.append(each.sent_s)
    return len(kept)
