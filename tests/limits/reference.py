"""The rule of the exact window once more, as slow and plain as can be: what every implementation is held to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scopegate.limits.window import Amendment, Spent, Window, WindowState, ms_up


class Reference:
    """Every admission of every window, for ever. A paced window is a leaky bucket: each admission pours an interval in,
    time drains it, and a further one must fit under the burst."""

    def __init__(self) -> None:
        self._admissions: dict[str, list[int]] = defaultdict(list)
        """One entry for each of a cost."""

    def spend(self, windows: Sequence[Window], now_us: int) -> Spent:
        wait_us = max([self._wait_us(window, now_us) for window in windows], default=0)
        if not wait_us:
            for window in windows:
                self._of(window).extend([now_us] * window.cost)
        standings = tuple([self._standing(window, now_us) for window in windows])
        return Spent(not wait_us, standings, ms_up(wait_us), now_us)

    def amend(self, changes: Sequence[Amendment], now_us: int) -> None:
        """Of exact windows."""
        for window, more, at_us, _ in changes:
            times = self._of(window)
            for _ in range(-more):
                if at_us in times:
                    times.remove(at_us)
            times.extend([now_us] * min(more, window.quota.limit - len(self._ends_us(window, now_us))))

    def _of(self, window: Window) -> list[int]:
        return self._admissions[window.key]

    def _ends_us(self, window: Window, now_us: int) -> list[int]:
        """When each admission that counts now stops to count."""
        ends = [each + window.quota.span_ms * 1000 for each in self._of(window)]
        return [end for end in ends if end > now_us]

    def _level_us(self, window: Window, now_us: int) -> int:
        """What is in a paced window's bucket."""
        level, before = 0, 0
        for each in self._of(window):
            level = max(0, level - (each - before)) + window.quota.interval_us
            before = each
        return max(0, level - (now_us - before))

    def _wait_us(self, window: Window, now_us: int) -> int:
        quota = window.quota
        if quota.burst:
            return max(0, self._level_us(window, now_us) + (window.cost - quota.burst) * quota.interval_us)
        ends = self._ends_us(window, now_us)
        room = quota.limit - window.cost
        return sorted(ends)[len(ends) - room - 1] - now_us if len(ends) > room else 0

    def _standing(self, window: Window, now_us: int) -> WindowState:
        quota = window.quota
        if quota.burst:
            level_us = self._level_us(window, now_us)
            room_us = quota.burst * quota.interval_us - level_us
            more_us = quota.interval_us - room_us % quota.interval_us if level_us else quota.span_ms * 1000
            return WindowState(window, room_us // quota.interval_us, ms_up(more_us), ms_up(level_us))
        ends = self._ends_us(window, now_us)
        if not ends:
            return WindowState(window, quota.limit, quota.span_ms, 0)
        next_us = ends[0] if len(ends) <= quota.limit else ends[-quota.limit]
        return WindowState(window, max(0, quota.limit - len(ends)), ms_up(next_us - now_us), ms_up(ends[-1] - now_us))
