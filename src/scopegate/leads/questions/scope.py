"""What has to be done, without prices: the question, the shape of its answer, its rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import Field

from scopegate.leads import findings, prompts
from scopegate.leads.findings import (
    Broken,
    Confidence,
    Finding,
    ItemId,
    Paragraph,
    Quantity,
    Sentence,
    Trade,
    Unit,
    Word,
)
from scopegate.leads.prompts import Prompt
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.types import Json

_WORDS: Final = (
    "You write the scope of work for a building contractor from a homeowner's request and the analysis of its photos: "
    "what has to be done, in the order of the work, each item with its place, trade, quantity and unit. Number the "
    "items S1, S2, S3 and so on without gaps. Quantities are careful estimates with at most two decimals. Name what "
    "you assume, and what is not included. No prices.\n\n"
)


class ScopeItem(Finding):
    id: ItemId = Field(description="S1, S2, S3 ... in order.")
    place: Word = Field(description="Room or part of the building.")
    trade: Trade
    task: Sentence
    quantity: Quantity
    unit: Unit


class ScopeOfWork(Finding):
    """What is to be done, without prices."""

    title: Word
    summary: Paragraph
    items: list[ScopeItem] = Field(min_length=1, max_length=60)
    assumptions: list[Sentence] = Field(max_length=20)
    exclusions: list[Sentence] = Field(max_length=20)
    confidence: Confidence


def prompt(lead_text: str, analysis: PhotoAnalysis, nonce: str) -> Prompt:
    data: Json = {"request": prompts.bounded(lead_text), "photo_analysis": analysis.to_json()}
    return prompts.asked(_WORDS, "Write the scope of work.", data, nonce)


def parse(text: str) -> ScopeOfWork | Broken:
    return findings.parse(text, ScopeOfWork, _rules)


def _rules(scope: ScopeOfWork) -> Iterable[str]:
    if [item.id for item in scope.items] != [f"S{n}" for n in range(1, len(scope.items) + 1)]:
        yield "item_order"


RULES: Final = frozenset({"item_order"})
"""Rule ids of this question, besides those of all."""
