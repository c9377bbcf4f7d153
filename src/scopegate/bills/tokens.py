"""What both sides count in, and a call of the ledger with other counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from scopegate.leads.job import RECONCILED, UNKNOWN, CallRecord
from scopegate.limits.pricing import PriceTable, Usage, price

Tokens: TypeAlias = tuple[int, int, int, int]
"""Input, output, cache reads, cache writes."""

NONE: Tokens = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a call costs by the provider's word."""

    before: CallRecord
    after: CallRecord

    @property
    def usd_micros(self) -> int:
        return self.after.cost_usd_micros - self.before.cost_usd_micros


def corrected(
    row: CallRecord, tokens: Tokens, terms: tuple[tuple[str, str], ...], table: PriceTable
) -> Correction | None:
    """None where that has no price, or costs more than it can have."""
    usage = Usage(tokens[0], tokens[1], tokens[2], tokens[3], terms=terms)
    cost = price(usage, row.model, table) if any(tokens) else 0
    if cost is None or cost > row.cost_usd_micros:
        return None
    return Correction(
        row,
        replace(
            row,
            outcome=RECONCILED if row.outcome == UNKNOWN else row.outcome,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cache_read_tokens=tokens[2],
            cache_write_tokens=tokens[3],
            cost_usd_micros=cost,
            price_version=table.version,
        ),
    )


def worth(model: str, tokens: Tokens, table: PriceTable) -> int:
    """What so many tokens cost; never nothing, for it is not explained."""
    return max(1, price(Usage(tokens[0], tokens[1], tokens[2], tokens[3]), model, table) or 1) if any(tokens) else 0


def billed(usage: Usage) -> Tokens:
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens


def booked(row: CallRecord) -> Tokens:
    return row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens


def total(all_of: Iterable[Tokens]) -> Tokens:
    a = b = c = d = 0
    for one in all_of:
        a, b, c, d = a + one[0], b + one[1], c + one[2], d + one[3]
    return a, b, c, d


def less(one: Tokens, other: Tokens) -> Tokens:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3]


def positive(tokens: Tokens) -> Tokens:
    return max(0, tokens[0]), max(0, tokens[1]), max(0, tokens[2]), max(0, tokens[3])


def said(tokens: Tokens) -> str:
    names = ("input", "output", "cache read", "cache write")
    return ", ".join(f"{count:,} {name}" for count, name in zip(tokens, names, strict=True) if count > 0) + " tokens"
