"""Counting alone while the store is away: each admission counts once for every gateway that may admit as many.

So what all of them admit together stays within the limit, as far as each knows what was admitted before. Pure. Used by
`stores/mirror`.
"""

from __future__ import annotations

from dataclasses import replace

from scopegate.limits.barriers import Ban, Barrier
from scopegate.limits.window import Spent, Window

UNCOUNTED = Spent(True, (), alone=True)
"""Let pass."""


def weighted(window: Window, gateways: int) -> Window:
    """The same window at the cost that a request has while gateways do not hear of one another; never more than fits
    at once, or none would be admitted."""
    return replace(window, cost=min(window.cost * gateways, window.quota.most))


def shared(barrier: Barrier, gateways: int) -> Barrier:
    """The same barrier for one of so many: its part of the seats, one at least. Each bans by its own refusals."""
    return barrier if isinstance(barrier, Ban) else replace(barrier, most=max(1, barrier.most // gateways))
