"""Types that every layer speaks. No behaviour lives here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A value that `json.loads` can give."""

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""HTTP fields in the order received: (name, value), both as sent on the wire; names in any case."""
