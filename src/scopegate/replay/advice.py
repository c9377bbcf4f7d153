"""Limits that fit what clients did: for each route, so many a minute that all but a few stay below it.

The busiest minute of a client on a route is the most requests that it made there in any 60 seconds. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from scopegate.edge.caller import limit_group
from scopegate.replay.entries import LogEntry

MINUTE_US = 60_000_000
FEW_CLIENTS = 100
"""Of fewer, a percentile of the busiest is one client's habit."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """`limit` per minute; `touched` of `clients` made more in some minute. `median`, `high` and `most`: of the busiest
    minutes of all clients, `high` being the percentile asked for."""

    route: str
    limit: int
    clients: int
    touched: int
    median: int
    high: int
    most: int


class Survey:
    """Entries must come in the order of their begins, nearly."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, str], deque[int]] = {}
        self._busiest: dict[str, dict[str, int]] = {}

    def note(self, route: str, entry: LogEntry) -> None:
        client = limit_group(entry.client)
        times = self._minutes.setdefault((route, client), deque())
        times.append(entry.at_us)
        while times[0] <= entry.at_us - MINUTE_US:
            times.popleft()
        busiest = self._busiest.setdefault(route, {})
        busiest[client] = max(len(times), busiest.get(client, 0))

    def proposals(self, percentile: float) -> Iterator[Proposal]:
        """By route, in the order of their names. `percentile`: from 50 to 100, of the clients that stay below."""
        for route, busiest in sorted(self._busiest.items()):
            counts = sorted(busiest.values())
            high = nearest_rank(counts, percentile)
            limit = rounded_up(high)
            touched = sum(count > limit for count in counts)
            yield Proposal(route, limit, len(counts), touched, nearest_rank(counts, 50), high, counts[-1])


def nearest_rank(counts: Sequence[int], percentile: float) -> int:
    """The smallest of sorted counts that so many percent of all do not exceed."""
    return counts[max(0, ceil(len(counts) * percentile / 100) - 1)]


def rounded_up(count: int) -> int:
    """To a number that a person would write: up to 20 as it is, up to 100 to the next five, then two digits."""
    if count <= 20:
        return count
    step = 10 ** (len(str(count)) - 2) if count > 100 else 5
    return -(-count // step) * step
