"""How the rooms that every request passes through were built: compiled to native code, or as Python reads them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias

BuildKind: TypeAlias = Literal["compiled", "pure"]

_COMPILED_TOGETHER = "scopegate.edge.verdict"
"""One of the modules that are compiled, all or none (`hatch_build.py`)."""


def kind() -> BuildKind:
    """By what Python would load."""
    found = find_spec(_COMPILED_TOGETHER)
    return "pure" if found is None or found.origin is None or found.origin.endswith(".py") else "compiled"
