"""What a model call costs, in integer micro-dollars, from a versioned price table.

Pure. Called by the metered client before a call (worst case) and after it (the real usage). The table's text is read by
`price_table`. A model without a price is None everywhere, never zero; so is a usage under a term (where and how a call
ran) that the table has no factor for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

_DATED = re.compile(r"-\d{8}\Z")
_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What the API says it billed, in tokens. `input_tokens` excludes cache reads and writes, as the API reports it.

    `terms` are words of the bill beside the counts, as (kind, word): `("inference_geo", "us")`. `unread` names what
    else was counted there, under names that nobody here knows."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    terms: tuple[tuple[str, str], ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        """Everything the model read: what a long-prompt price looks at."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-dollars per million tokens, so that every published price is a whole number."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int

    def dearest_input(self) -> int:
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """`long` holds (N, rates) pairs, N descending: a prompt of more than N tokens is billed whole at those rates."""

    base: Rates
    long: tuple[tuple[int, Rates], ...] = ()

    def rates(self, prompt_tokens: int) -> Rates:
        return next((rates for above, rates in self.long if prompt_tokens > above), self.base)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """`version` is stored with every booked call. `factors` multiply the whole call: kind of term, word, factor."""

    version: str
    models: Mapping[str, ModelPrice]
    factors: Mapping[str, Mapping[str, Fraction]] = field(default_factory=dict)

    def price_of(self, model: str) -> ModelPrice | None:
        """The model's price; a dated name (`...-20251001`) falls back to its plain name. None when unknown."""
        return self.models.get(model) or self.models.get(_DATED.sub("", model))

    def with_models(self, models: Mapping[str, ModelPrice]) -> PriceTable:
        """The table with these besides or instead of its own; its version then says so, and which."""
        if not models:
            return self
        digest = hashlib.sha256(repr(sorted(models.items(), key=lambda entry: entry[0])).encode()).hexdigest()[:8]
        return replace(self, version=f"{self.version}+{digest}", models={**self.models, **models})

    def unpriced(self, usage: Usage) -> tuple[str, ...]:
        """What of a bill has no price here: terms without a factor (`service_tier=priority`), counts nobody knows."""
        terms = tuple(f"{kind}={word}" for kind, word in usage.terms if word not in self.factors.get(kind, {}))
        return terms + usage.unread

    def dearest_factor(self, tier: str | None = None) -> Fraction:
        """Of any call: who asks for nothing special may still be given it, by a default of the account. Of one that can
        be served in this tier alone, where it is given."""
        given = {} if tier is None else {"service_tier": self.factors.get("service_tier", {}).get(tier, Fraction(1))}
        return prod((given.get(kind, max(words.values())) for kind, words in self.factors.items()), start=Fraction(1))


def price(usage: Usage, model: str, table: PriceTable) -> int | None:
    """Micro-dollars for this usage, rounded up once over the whole call; None when the model or a part of the bill has
    no price."""
    entry = table.price_of(model)
    if entry is None or table.unpriced(usage):
        return None
    rates = entry.rates(usage.prompt_tokens)
    factor = prod((table.factors[kind][word] for kind, word in usage.terms), start=Fraction(1))
    return _round_up(
        factor,
        usage.input_tokens * rates.input
        + usage.output_tokens * rates.output
        + usage.cache_read_tokens * rates.cache_read
        + usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_1h_tokens * rates.cache_write_1h,
    )


def worst_case(
    model: str, input_tokens_upper: int, max_tokens: int, table: PriceTable, tier: str | None = None
) -> int | None:
    """The most a call can cost: every input token in the dearest class, every output token used, at whichever rates a
    prompt of up to that length can meet, under the dearest terms (in `tier`, where that is given). None when the model
    has no price."""
    entry = table.price_of(model)
    if entry is None:
        return None
    factor = table.dearest_factor(tier)
    reachable = [entry.base, *(rates for above, rates in entry.long if input_tokens_upper > above)]
    return max(
        _round_up(factor, input_tokens_upper * rates.dearest_input() + max_tokens * rates.output) for rates in reachable
    )


def _round_up(factor: Fraction, usd_micros_times_mtok: int) -> int:
    return -(-usd_micros_times_mtok * factor.numerator // (_MTOK * factor.denominator))
