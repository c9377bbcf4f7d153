"""`mode`: of the server, a route or a tier.

Pure. Called by `server`, `routes` and `tiers`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class Mode(StrEnum):
    """`watch` decides and counts but never refuses."""

    ENFORCE = "enforce"
    WATCH = "watch"

    @property
    def refuses(self) -> bool:
        match self:
            case Mode.ENFORCE:
                return True
            case Mode.WATCH:
                return False
            case never:
                assert_never(never)
