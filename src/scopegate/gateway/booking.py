"""What becomes of a request's admissions once its answer is known: given back, or booked at what it really cost.

Only for tiers that ask for it. Made by `spending`, told by the exchange.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from scopegate import logs
from scopegate.edge.headers import Noted
from scopegate.gateway.counting import RouteCount, tier_of
from scopegate.limits.barriers import Barrier, Seats
from scopegate.limits.window import Amendment, Spent, amended

Amend = Callable[[Sequence[Amendment]], None]
Leave = Callable[[Sequence[Seats]], None]

_COST = re.compile(rb"[0-9]{1,15}")
_log = logs.get("limiter")


class Booking:
    """One request: the barriers it was asked past, and what `admitted` it. `leave` gives its seats back, also while
    nobody knows whether it got them."""

    __slots__ = ("_admitted", "_count", "_end", "_leave", "_seats", "_told", "barriers")

    def __init__(self, count: RouteCount, barriers: Sequence[Barrier], leave: Leave) -> None:
        self.barriers = barriers
        self._count = count
        self._leave = leave
        self._seats: list[Seats] = []
        self._admitted: list[tuple[Spent, Amend]] = []
        self._told: dict[str, int] = {}
        self._end: tuple[int, int] | None = None
        self.asks_for(barriers)

    def asks_for(self, barriers: Sequence[Barrier]) -> None:
        """Also those that watch."""
        self._seats += [barrier for barrier in barriers if isinstance(barrier, Seats)]

    def admitted(self, spent: Spent, amend: Amend) -> None:
        """By the tiers that judge, or by one that watches, which may say so when the request is over. `amend` is that
        of the store which admitted it."""
        if self._end is None:
            self._admitted.append((spent, amend))
        else:
            self._settle(spent, amend, *self._end)

    def on_answer(self, notes: Noted) -> None:
        """The head of the app's answer."""
        for field in self._count.cost_fields:
            cost = cost_of(field.encode(), notes.passed)
            if cost is not None:
                self._told[field] = cost
            else:
                _log.warning("limits.no_cost", field=field)

    def settle(self, status: int, bytes_in: int) -> None:
        """It is over. `status`: of the answer that the client got, 0 where it got none: then nothing is given back,
        for nobody knows what became of it."""
        self._end = status, bytes_in
        if self._seats:
            self._leave(self._seats)
        for spent, amend in self._admitted:
            self._settle(spent, amend, status, bytes_in)

    def _settle(self, spent: Spent, amend: Amend, status: int, bytes_in: int) -> None:
        changes: list[Amendment] = []
        for standing in spent.standings:
            window = standing.window
            tier = self._count.by_name[tier_of(window)]
            more = tier.owed(window, status, bytes_in, self._told.get(tier.tier.cost.field)) - window.cost
            if more:
                changes.append(amended(standing, more, spent.at_us))
        if changes:
            amend(changes)


def cost_of(field: bytes, lines: Sequence[bytes]) -> int | None:
    """The whole number in the one line of this name; None where there is no such line, or another text, or two."""
    start = field + b":"
    values = [line[len(start) :].strip() for line in lines if line[: len(start)].lower() == start]
    if len(values) != 1 or _COST.fullmatch(values[0]) is None:
        return None
    return int(values[0])
