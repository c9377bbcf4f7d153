"""The circuit breaker as a table: closed, open, half-open, with generations.

Pure: every function takes the state and `now` and gives the next state. The stores hold the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a permitted call ended, as the breaker sees it. `ignored` (a cancelled caller, our own mistake) counts as
    neither."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. A result with an older `generation` than the breaker's is dropped. `probe` is the one
    call let through half-open."""

    generation: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """The breaker is open: nothing may be sent for `retry_after_s`."""

    retry_after_s: float
