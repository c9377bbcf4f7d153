"""Reads the price table that ships with the package."""

from __future__ import annotations

from importlib.resources import files

from scopegate.limits.pricing import PriceTable, parse_table


def load() -> PriceTable:
    """The price table of this release."""
    return parse_table((files("scopegate.limits") / "prices.yaml").read_text("utf-8"))
