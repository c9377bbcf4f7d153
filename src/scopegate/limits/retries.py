"""How many of a worker's calls may be repetitions: while everything fails, repeating it all only adds to the load.

Pure; the metered client asks. Two kinds of failure do not count here: a paid answer that is asked for again (bounded by
itself), and a job's next attempt. A budget of retries as in Finagle (`RetryBudget`) and gRPC (`retryThrottling`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

SPAN_S: Final = 60.0
SHARE: Final = 0.1
LEAST: Final = 10


class RetryBudget:
    """In any minute at most a tenth as many retries as calls, and ten in any case. `now_s` never goes back."""

    def __init__(self) -> None:
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def called(self, now_s: float) -> None:
        """A first call was made."""
        self._forget(now_s)
        self._calls.append(now_s)

    def take(self, now_s: float) -> bool:
        """Whether one more retry may be made; it is counted then."""
        self._forget(now_s)
        if len(self._retries) >= max(LEAST, int(len(self._calls) * SHARE)):
            return False
        self._retries.append(now_s)
        return True

    def _forget(self, now_s: float) -> None:
        for times in (self._calls, self._retries):
            while times and times[0] <= now_s - SPAN_S:
                times.popleft()
