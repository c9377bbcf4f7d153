"""A loop of which a test sets the time."""

from __future__ import annotations

import asyncio
from typing import Any


class Clocked:
    """A loop whose time can be set forward; all else is the loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ahead_s = 0.0

    def time(self) -> float:
        return self._loop.time() + self.ahead_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
