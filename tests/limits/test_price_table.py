"""The text of a price table: read whole, or refused by the name of its first fault."""

from __future__ import annotations

import pytest

from scopegate.limits.price_table import parse_table
from scopegate.limits.pricing import PriceTable, Usage, price

MODEL = 'input: "1"\n    output: "5"\n    cache_read: "0.1"\n    cache_write_5m: "1.25"\n    cache_write_1h: "2"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "TableText"),
        ("version: [", "price table"),
        ("version: yesterday\nmodels:\n  m:\n    " + MODEL, "version"),
        ('version: "2026-11-24"\nmodels: {}', "models"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL.replace('"5"', "5.0"), "output"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL.replace('"5"', '"0"'), "above zero"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL.replace('"5"', '"-5"'), "above zero"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL.replace('"5"', '"NaN"'), "above zero"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL.replace("output", "outptu"), "outptu"),
        ('version: "2026-11-24"\nmodels:\n  m:\n    ' + MODEL + "    long: [{prompt_above: 0}]", "prompt_above"),
    ],
)
def test_a_wrong_table_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_table(text)


def test_a_table_is_a_value() -> None:
    table = parse_table('version: "2026-11-24.2"\nmodels:\n  m:\n    ' + MODEL)
    assert isinstance(table, PriceTable)
    assert table.version == "2026-11-24.2"
    assert price(Usage(3, 1), "m", table) == 8
