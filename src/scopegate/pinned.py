"""The HTTP parser and the server that the public port is built on, in the versions it was proven with.

uvicorn would fall back to another parser without a word, and every promise about strict reading would be void: so a
start without exactly these is refused. `pyproject.toml` names the same ranges (held together by a test).
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from scopegate.errors import ConfigError, Problem

RANGES = {"httptools": ((0, 9), (1, 0)), "uvicorn": ((0, 54), (1, 0))}
"""From this version on, and below that one."""


def check() -> None:
    """Raises ConfigError: trying again does not help."""
    faults = {name: fault(name, *allowed) for name, allowed in RANGES.items()}
    problems = [Problem(name, "", found) for name, found in faults.items() if found is not None]
    if problems:
        raise ConfigError(problems)


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


def _shown(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))
