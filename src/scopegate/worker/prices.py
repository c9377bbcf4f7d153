"""Reads the price table that ships with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.limits.pricing import PriceTable


def load() -> PriceTable:
    """The price table of this release."""
    from scopegate.limits.price_table import parse_table  # half a megabyte, and most gateways name no model

    return parse_table((files("scopegate.limits") / "prices.yaml").read_text("utf-8"))
