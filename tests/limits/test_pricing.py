"""Prices: exact, rounded up once, tiered by prompt length, the same as genai-prices for every model listed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.limits.price_table import parse_table
from scopegate.limits.pricing import Usage, price, worst_case

TEXT = (files("scopegate.limits") / "prices.yaml").read_text("utf-8")
TABLE = parse_table(TEXT)
HAIKU = "claude-haiku-5-5"

USAGES = [
    Usage(1, 0),
    Usage(1_000, 10),
    Usage(99_999, 4_096),
    Usage(100_000, 4_096),
    Usage(100_001, 4_096),
    Usage(150_000, 1, 60_000),
    Usage(7, 3, cache_read_tokens=50_001, cache_write_5m_tokens=33_333, cache_write_1h_tokens=17_777),
    Usage(0, 0, cache_write_1h_tokens=1),
    Usage(199_999, 12_345, cache_read_tokens=1),
    Usage(199_999, 12_345, cache_read_tokens=2),
]


def peer_price(usage: Usage, model: str) -> Decimal:
    """USD by genai-prices, whose input count includes every cache class."""
    peer = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
    at = datetime(2026, 11, 24, tzinfo=UTC)
    return genai_prices.calc_price(peer, model, provider_id="anthropic", genai_request_timestamp=at).total_price


@pytest.mark.parametrize("model", sorted(TABLE.models))
def test_prices_agree_with_genai_prices(model: str) -> None:
    for usage in USAGES:
        assert price(usage, model, TABLE) == math.ceil(peer_price(usage, model) * 1_000_000), usage


def test_no_model_is_listed_twice() -> None:
    names = re.findall(r"^  (\S+):$", TEXT, re.M)
    assert len(names) == len(set(names)) == len(TABLE.models) >= 16


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), 0),
        (Usage(1), 1),
        (Usage(10), 1),
        (Usage(11), 2),
        (Usage(1_000, 10), 105),
        (Usage(100_000, 0), 10_000),
        (Usage(100_001, 0), 50_001),
        (Usage(1_000, 10, 2_000, 4_000, 8_000), 100 + 5 + 20 + 500 + 1_600),
        (Usage(60_000, 10, cache_read_tokens=40_001), 30_000 + 25 + 2_001),
    ],
)
def test_haiku(usage: Usage, expected: int) -> None:
    assert price(usage, HAIKU, TABLE) == expected


@pytest.mark.parametrize("model", ["", "claude-haiku", "claude-haiku-5-5-2", "gpt-4", "claude-haiku-5-5-20260901x"])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert price(Usage(1, 1), model, TABLE) is None
    assert worst_case(model, 1, 1, TABLE) is None


def test_a_dated_name_costs_what_its_plain_name_costs() -> None:
    assert price(Usage(1_000, 10), "claude-haiku-4-5-20251001", TABLE) == price(
        Usage(1_000, 10), "claude-haiku-4-5", TABLE
    )


TOKENS = st.integers(0, 120_000)
GEOGRAPHIES = st.sampled_from(["global", "us"])


@given(GEOGRAPHIES, st.sampled_from(sorted(TABLE.models)), TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 8_192))
def test_the_worst_case_is_never_passed(
    geo: str, model: str, fresh: int, read: int, w5: int, w1: int, output: int
) -> None:
    usage = Usage(fresh, output, read, w5, w1, (("inference_geo", geo),))
    actual, worst = price(usage, model, TABLE), worst_case(model, usage.prompt_tokens, 8_192, TABLE)
    assert actual is not None
    assert worst is not None
    assert actual <= worst


def test_the_worst_case_meets_the_long_prompt_price() -> None:
    assert worst_case(HAIKU, 100_000, 1_000, TABLE) == 22_550
    assert worst_case(HAIKU, 100_001, 1_000, TABLE) == 112_752


def test_terms_of_a_bill_multiply_the_whole_call() -> None:
    plain = Usage(1_000, 100, 50, 20, 10)
    cost = price(plain, HAIKU, TABLE)
    assert cost is not None
    for terms, factor in [
        ((("inference_geo", "global"), ("service_tier", "standard"), ("speed", "standard")), Fraction(1)),
        ((("inference_geo", "not_available"),), Fraction(1)),
        ((("inference_geo", "us"),), Fraction(11, 10)),
        ((("service_tier", "batch"),), Fraction(1, 2)),
        ((("inference_geo", "us"), ("service_tier", "batch")), Fraction(11, 20)),
    ]:
        micros = Fraction(1_000 * 100_000 + 100 * 500_000 + 50 * 10_000 + 20 * 125_000 + 10 * 200_000, 1_000_000)
        assert price(replace(plain, terms=terms), HAIKU, TABLE) == math.ceil(micros * factor)


@pytest.mark.parametrize(
    ("usage", "names"),
    [
        (Usage(1, 1, terms=(("service_tier", "priority"),)), ("service_tier=priority",)),
        (Usage(1, 1, terms=(("inference_geo", "us"), ("speed", "fast"))), ("speed=fast",)),
        (Usage(1, 1, terms=(("moon_phase", "full"),)), ("moon_phase=full",)),
        (Usage(1, 1, unread=("audio_tokens",)), ("audio_tokens",)),
    ],
)
def test_what_has_no_price_is_never_taken_for_nothing(usage: Usage, names: tuple[str, ...]) -> None:
    assert TABLE.unpriced(usage) == names
    assert price(usage, HAIKU, TABLE) is None
