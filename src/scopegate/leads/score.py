"""The lead score: 0 to 100, how worth a contractor's visit a lead looks. Arithmetic over findings; no model is asked.

Pure. Four parts that add up, so that a person can see why: what the work is worth (40), how soon it is needed (20),
what the photos prove (20), how clear the request is (20). Called by the worker's last step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from scopegate.leads.findings import Urgency
from scopegate.leads.questions.estimate import Estimate
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeOfWork

_VALUE_FROM_USD: Final = (250, 1_000, 2_500, 5_000, 10_000, 25_000)
_VALUE_POINTS: Final = (5, 10, 18, 25, 30, 35, 40)
_URGENCY_POINTS: Final[Mapping[Urgency, int]] = {
    Urgency.LOW: 4,
    Urgency.NORMAL: 10,
    Urgency.HIGH: 16,
    Urgency.EMERGENCY: 20,
}
_PHOTOS_THAT_COUNT: Final = 4
_WORDS_THAT_COUNT: Final = 40


@dataclass(frozen=True, slots=True)
class Score:
    """Points by part; `total` is their sum, 0..100."""

    value: int
    urgency: int
    evidence: int
    clarity: int

    @property
    def total(self) -> int:
        return self.value + self.urgency + self.evidence + self.clarity

    def parts(self) -> dict[str, int]:
        return {"value": self.value, "urgency": self.urgency, "evidence": self.evidence, "clarity": self.clarity}


def score(text: str, photos: int, analysis: PhotoAnalysis, scope: ScopeOfWork, estimate: Estimate) -> Score:
    """`text` is the visitor's, `photos` is how many were usable. Without usable photos there is no evidence, whatever
    the analysis says of itself."""
    return Score(
        value=_VALUE_POINTS[bisect_right(_VALUE_FROM_USD, estimate.total_cents // 100)],
        urgency=_URGENCY_POINTS[analysis.urgency],
        evidence=3 * min(photos, _PHOTOS_THAT_COUNT) + _share(8, analysis.confidence) if photos else 0,
        clarity=min(len(text.split()), _WORDS_THAT_COUNT) // 5 + _share(12, min(scope.confidence, estimate.confidence)),
    )


def _share(points: int, confidence: Decimal) -> int:
    return int((points * confidence).quantize(Decimal(1), ROUND_HALF_UP))
