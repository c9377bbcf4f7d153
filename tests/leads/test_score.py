"""The score: exact points, and bounds that hold for whatever findings there are."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.leads.findings import Trade, Unit, Urgency
from scopegate.leads.questions.estimate import Estimate, EstimateLineItem
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeItem, ScopeOfWork
from scopegate.leads.score import Score, score


def findings(
    total_cents: int = 100_00,
    urgency: Urgency = Urgency.NORMAL,
    confidence: str = "0.5",
    scope_confidence: str = "0.5",
    estimate_confidence: str = "0.5",
) -> tuple[PhotoAnalysis, ScopeOfWork, Estimate]:
    analysis = PhotoAnalysis(
        summary="x", photos=[], damages=[], trades=[Trade.ROOFING], urgency=urgency, confidence=Decimal(confidence)
    )
    item = ScopeItem(id="S1", place="roof", trade=Trade.ROOFING, task="x", quantity=Decimal(1), unit=Unit.LOT)
    scope = ScopeOfWork(
        title="x", summary="x", items=[item], assumptions=[], exclusions=[], confidence=Decimal(scope_confidence)
    )
    line = EstimateLineItem(
        scope_item="S1",
        trade=Trade.ROOFING,
        description="x",
        quantity=Decimal(1),
        unit=Unit.LOT,
        unit_price_cents=1,
        amount_cents=1,
    )
    estimate = Estimate(
        currency="USD", line_items=[line], total_cents=total_cents, notes=[], confidence=Decimal(estimate_confidence)
    )
    return analysis, scope, estimate


@pytest.mark.parametrize(
    ("dollars", "points"),
    [
        (1, 5),
        (249, 5),
        (250, 10),
        (999, 10),
        (1_000, 18),
        (2_500, 25),
        (5_000, 30),
        (10_000, 35),
        (24_999, 35),
        (25_000, 40),
        (90_000_000, 40),
    ],
)
def test_the_value_of_the_work(dollars: int, points: int) -> None:
    assert score("", 0, *findings(total_cents=dollars * 100 + 99)).value == points


@pytest.mark.parametrize(
    ("urgency", "points"), [(Urgency.LOW, 4), (Urgency.NORMAL, 10), (Urgency.HIGH, 16), (Urgency.EMERGENCY, 20)]
)
def test_urgency(urgency: Urgency, points: int) -> None:
    assert score("", 0, *findings(urgency=urgency)).urgency == points


@pytest.mark.parametrize(
    ("photos", "confidence", "points"),
    [(0, "1", 0), (1, "0", 3), (1, "1", 11), (3, "0.5", 13), (4, "0.9", 19), (4, "1", 20), (50, "1", 20)],
)
def test_evidence_needs_photos(photos: int, confidence: str, points: int) -> None:
    assert score("", photos, *findings(confidence=confidence)).evidence == points


@pytest.mark.parametrize(
    ("words", "scope", "estimate", "points"),
    [(0, "0", "0", 0), (4, "0", "1", 0), (5, "0", "1", 1), (40, "1", "1", 20), (4000, "1", "0.5", 14)],
)
def test_clarity_is_the_texts_and_the_least_sure_answers(words: int, scope: str, estimate: str, points: int) -> None:
    found = findings(scope_confidence=scope, estimate_confidence=estimate)
    assert score("word " * words, 0, *found).clarity == points


def test_the_parts_add_up() -> None:
    whole = score("word " * 40, 4, *findings(2_500_000, Urgency.EMERGENCY, "1", "1", "1"))
    assert whole == Score(40, 20, 20, 20)
    assert whole.total == sum(whole.parts().values()) == 100


@given(
    st.text(max_size=300),
    st.integers(0, 50),
    st.integers(1, 10**10),
    st.sampled_from(Urgency),
    *[st.decimals(0, 1, places=3).map(str)] * 3,
)
def test_a_score_is_from_0_to_100(text: str, photos: int, cents: int, urgency: Urgency, a: str, b: str, c: str) -> None:
    assert 0 <= score(text, photos, *findings(cents, urgency, a, b, c)).total <= 100
