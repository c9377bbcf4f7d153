"""What it is likely to cost: the question, the shape of its answer, its rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Final, Literal

from pydantic import Field

from scopegate.leads import findings, prompts
from scopegate.leads.findings import (
    Amount,
    Broken,
    Confidence,
    Finding,
    ItemId,
    Price,
    Quantity,
    Sentence,
    Trade,
    Unit,
)
from scopegate.leads.prompts import Prompt
from scopegate.leads.questions.scope import ScopeOfWork
from scopegate.types import Json

_WORDS: Final = (
    "You draft an estimate in US dollars for a building contractor from a scope of work. Price every scope item in at "
    "least one line, with the scope item's id, trade, unit and quantity. All money is in whole cents. amount_cents is "
    "quantity times unit_price_cents, rounded half up; total_cents is the exact sum of all amount_cents. Use common "
    "prices of the trade; say in the notes what could change them.\n\n"
)


class EstimateLineItem(Finding):
    scope_item: ItemId = Field(description="The id of the scope item that this line prices.")
    trade: Trade = Field(description="The trade of that scope item.")
    description: Sentence
    quantity: Quantity
    unit: Unit
    unit_price_cents: Price
    amount_cents: Amount = Field(description="quantity times unit_price_cents, rounded half up to a cent.")


class Estimate(Finding):
    """What it is likely to cost: whole cents, every line priced, every scope item covered."""

    currency: Literal["USD"]
    line_items: list[EstimateLineItem] = Field(min_length=1, max_length=120)
    total_cents: Annotated[int, Field(strict=True, gt=0, le=10_000_000_000)] = Field(
        description="The exact sum of all amount_cents."
    )
    notes: list[Sentence] = Field(max_length=20)
    confidence: Confidence


def prompt(work: ScopeOfWork, nonce: str) -> Prompt:
    """The lead's own words are not needed here, so they are not sent."""
    data: Json = {"scope": work.to_json()}
    return prompts.asked(_WORDS, "Draft the estimate.", data, nonce)


def parse(text: str, scope: ScopeOfWork) -> Estimate | Broken:
    """An estimate for this scope and no other."""
    return findings.parse(text, Estimate, lambda estimate: _rules(estimate, scope))


def _rules(estimate: Estimate, scope: ScopeOfWork) -> Iterable[str]:
    wanted = {item.id: item for item in scope.items}
    priced = {line.scope_item for line in estimate.line_items}
    pairs = [(line, wanted[line.scope_item]) for line in estimate.line_items if line.scope_item in wanted]
    if priced - wanted.keys():
        yield "scope_item_unknown"
    if wanted.keys() - priced:
        yield "scope_item_unpriced"
    if any(line.trade is not item.trade for line, item in pairs):
        yield "trade_mismatch"
    if any(line.unit is not item.unit for line, item in pairs):
        yield "unit_mismatch"
    if any(line.quantity != item.quantity for line, item in pairs):
        yield "quantity_mismatch"
    if any(line.amount_cents != _amount_cents(line) for line in estimate.line_items):
        yield "line_amount"
    if estimate.total_cents != sum(line.amount_cents for line in estimate.line_items):
        yield "total_sum"


def _amount_cents(line: EstimateLineItem) -> int:
    return int((line.quantity * line.unit_price_cents).quantize(Decimal(1), ROUND_HALF_UP))


RULES: Final = frozenset({
    *("scope_item_unknown", "scope_item_unpriced", "trade_mismatch", "unit_mismatch", "quantity_mismatch"),
    *("line_amount", "total_sum"),
})  # fmt: skip
"""Rule ids of this question, besides those of all."""
