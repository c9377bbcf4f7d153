"""The most frequent keys of a stream in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi, 2005).

Of n counted in a sketch of m counters, every key that came more than n / m times is in it; a key's count is never too
low, and at most its `over` too high, which is at most n / m. Sketches of several streams are merged with the same
guarantee (Agarwal et al., "Mergeable summaries", 2012): who is missing in a full sketch came there at most as often as
the least of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple


class Frequency(NamedTuple):
    """A key came at most `times`, and at least `times - over`."""

    times: int
    over: int


class SpaceSaving:
    """`capacity` counters, at least one."""

    __slots__ = ("_capacity", "_found", "_heap")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._found: dict[str, Frequency] = {}
        self._heap: list[tuple[int, str]] = []
        """Every key once, at a count that it had: the least is found by correcting those that come first."""

    def add(self, key: str, weight: int = 1) -> None:
        found = self._found.get(key)
        if found is not None:
            self._found[key] = Frequency(found.times + weight, found.over)
            return
        over = self._evict() if len(self._found) >= self._capacity else 0
        self._found[key] = Frequency(over + weight, over)
        heappush(self._heap, (over + weight, key))

    def _evict(self) -> int:
        heap, found = self._heap, self._found
        while True:
            told, key = heap[0]
            count = found[key].times
            if count == told:
                heappop(heap)
                del found[key]
                return count
            heapreplace(heap, (count, key))

    @property
    def least(self) -> int:
        """How often a key that is not here may have come."""
        return min(self._found.values()).times if len(self._found) >= self._capacity else 0

    @property
    def found(self) -> Mapping[str, Frequency]:
        return self._found


class Summary(NamedTuple):
    """What is told of a sketch."""

    found: Mapping[str, Frequency]
    least: int


def merged(summaries: Iterable[Summary]) -> dict[str, Frequency]:
    """Of all their streams together."""
    all_of = list(summaries)
    keys = {key for each in all_of for key in each.found}
    return {key: _sum([each.found.get(key, Frequency(each.least, each.least)) for each in all_of]) for key in keys}


def _sum(parts: list[Frequency]) -> Frequency:
    return Frequency(sum([each.times for each in parts]), sum([each.over for each in parts]))
