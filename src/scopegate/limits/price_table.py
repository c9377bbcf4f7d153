"""The text of a price table -> `PriceTable`. Apart from what prices are for: a process that only names them does not
load what reads them. Pure. Called by `worker/prices`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scopegate.limits.pricing import ModelPrice, PriceTable, Rates

_MTOK = 1_000_000


def _is_price(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or Decimal(text) == 0:
        raise ValueError("a price is decimal text above zero with at most six decimals")
    return text


_PriceText = Annotated[str, AfterValidator(_is_price)]


class _RatesText(BaseModel):
    """USD per million tokens, as quoted decimal text: a YAML float would already have lost digits."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: _PriceText
    output: _PriceText
    cache_read: _PriceText
    cache_write_5m: _PriceText
    cache_write_1h: _PriceText

    def rates(self) -> Rates:
        names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
        return Rates(*(int(Decimal(getattr(self, name)) * _MTOK) for name in names))


class _LongText(_RatesText):
    prompt_above: int = Field(gt=0, strict=True)


class _ModelText(_RatesText):
    long: list[_LongText] = []


class _TableText(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    version: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}(\.\d+)?$")
    models: dict[str, _ModelText] = Field(min_length=1)
    factors: dict[str, dict[str, _PriceText]] = {}


def parse_table(text: str) -> PriceTable:
    """Read a price table. Raises ValueError naming the first fault: a wrong price file is a broken build, not a bad
    request."""
    try:
        parsed = _TableText.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as fault:
        raise ValueError(f"price table: {fault}") from fault
    return PriceTable(
        parsed.version,
        {name: _model_price(entry) for name, entry in parsed.models.items()},
        {kind: {word: Fraction(text) for word, text in words.items()} for kind, words in parsed.factors.items()},
    )


def _model_price(entry: _ModelText) -> ModelPrice:
    long = sorted(((tier.prompt_above, tier.rates()) for tier in entry.long), key=lambda pair: -pair[0])
    return ModelPrice(entry.rates(), tuple(long))
