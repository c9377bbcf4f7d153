"""The HTTP parser and the server that the public port is built on, in the versions it was proven with.

uvicorn would fall back to another parser without a word, and every promise about strict reading would be void: so a
start without exactly these, or with one that does not load, is refused before any process starts. `pyproject.toml`
names the same ranges (held together by a test).
"""

from __future__ import annotations

import importlib
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGES = {"httptools": ((0, 9), (1, 0)), "uvicorn": ((0, 54), (1, 0))}
"""From this version on, and below that one."""
NEEDED = {
    "httptools": ("httptools", ("HttpRequestParser", "HttpResponseParser")),
    "uvicorn": ("uvicorn.protocols.http.httptools_impl", ("HttpToolsProtocol",)),
}
"""The module that is loaded of each, and what it must have."""


def check() -> None:
    """Raises ConfigError: trying again does not help."""
    faults = {name: fault(name, *allowed) for name, allowed in RANGES.items()}
    problems = [Problem(name, "", found) for name, found in faults.items() if found is not None]
    if problems:
        raise ConfigError(problems)
    for name, needed in NEEDED.items():  # the parser first: uvicorn's part does not load without it
        found = broken(*needed)
        if found is not None:
            raise ConfigError([Problem(name, "", found)])


def fault(name: str, first: tuple[int, int], beyond: tuple[int, int]) -> str | None:
    """Why the installed library cannot be used, or None when it can."""
    try:
        found = version(name) if find_spec(name) is not None else None
    except (PackageNotFoundError, ImportError, ValueError):
        found = None
    if found is None:
        return "not installed: the gateway serves with this library and with no other in its place"
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if first <= numbers < beyond:
        return None
    return f"version {found} is installed, and the gateway is proven from {_shown(first)} to below {_shown(beyond)}"


def broken(module: str, names: Sequence[str]) -> str | None:
    """Why an installed module cannot be used, or None when it can. Loads it."""
    try:
        loaded = importlib.import_module(module)
    except Exception as error:  # whatever a half-installed or foreign build raises
        return " ".join(f"cannot be loaded: {type(error).__name__}: {error}".split())
    missing = [name for name in names if not hasattr(loaded, name)]
    return f"installed without {', '.join(missing)}" if missing else None


def _shown(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
