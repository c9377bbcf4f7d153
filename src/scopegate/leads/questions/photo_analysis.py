"""What can be seen in the photos of a lead: the question, the shape of its answer, its rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import Field

from scopegate.leads import findings, prompts
from scopegate.leads.findings import (
    Broken,
    Confidence,
    Finding,
    Paragraph,
    PhotoNumber,
    Sentence,
    Trade,
    Urgency,
    Word,
)
from scopegate.leads.prompts import Prompt
from scopegate.types import Json

_WORDS: Final = (
    "You help a building contractor to understand a homeowner's request before a visit. Describe what the photos show: "
    "the damage, where it is, how severe, which trades it needs, how urgent it is. Say only what can be seen or is "
    "stated; when a photo shows no building or no damage, say so and lower the confidence. Give one entry in photos "
    "per photo, numbered as sent; the parts of a wide one are one photo. Without photos, judge by the text alone, with "
    "low confidence, and leave photos empty.\n\n"
)


class Severity(StrEnum):
    MINOR = "minor"
    MODERATE = "moderate"
    SEVERE = "severe"


class PhotoFinding(Finding):
    photo: PhotoNumber = Field(description="Number of the photo, from 1.")
    shows: Sentence = Field(description="What the photo shows.")


class Damage(Finding):
    kind: Word = Field(description="For example: water stain, cracked tile, hail damage.")
    place: Word = Field(description="Room or part of the building.")
    severity: Severity
    description: Sentence
    photos: list[PhotoNumber] = Field(max_length=50, description="Numbers of the photos that show it.")


class PhotoAnalysis(Finding):
    """What can be seen in the photos of a lead."""

    summary: Paragraph
    photos: list[PhotoFinding] = Field(max_length=50, description="One entry per photo.")
    damages: list[Damage] = Field(max_length=40)
    trades: list[Trade] = Field(min_length=1, max_length=18, description="Trades the work needs, each once.")
    urgency: Urgency
    confidence: Confidence


def prompt(lead_text: str, photos: int, nonce: str) -> Prompt:
    """For a request that carries this many photos, numbered from 1."""
    data: Json = {"photos": photos, "request": prompts.bounded(lead_text)}
    return prompts.asked(_WORDS, "Analyse this request.", data, nonce)


def parse(text: str, photos: int) -> PhotoAnalysis | Broken:
    """The analysis of a lead with this many photos."""
    return findings.parse(text, PhotoAnalysis, lambda analysis: _rules(analysis, photos))


def _rules(analysis: PhotoAnalysis, photos: int) -> Iterable[str]:
    numbers = [finding.photo for finding in analysis.photos]
    mentioned = [*numbers, *(number for damage in analysis.damages for number in damage.photos)]
    if any(number > photos for number in mentioned):
        yield "photo_unknown"
    if len(set(numbers)) != len(numbers):
        yield "photo_repeated"
    if any(len(set(damage.photos)) != len(damage.photos) for damage in analysis.damages):
        yield "damage_photo_repeated"
    if len(set(analysis.trades)) != len(analysis.trades):
        yield "trade_repeated"


RULES: Final = frozenset({"photo_unknown", "photo_repeated", "damage_photo_repeated", "trade_repeated"})
"""Rule ids of this question, besides those of all."""
