"""What is done with a request, given what is kept for it (RFC 9111 4): answered from it, or the app is asked.

Pure.
"""

from __future__ import annotations

from enum import Enum

from scopegate.caching.storable import CacheRequest
from scopegate.caching.stored import Stored
from scopegate.caching.wishes import Wishes


class Use(Enum):
    """`HIT` answers the request; `STALE` does, and the app is asked beside; `ASK` is a stored answer that the app has
    to confirm or replace; `MISS` is none."""

    HIT = "hit"
    STALE = "stale"
    ASK = "ask"
    MISS = "miss"


def use_of(stored: Stored, asked: CacheRequest, wishes: Wishes, now_s: float) -> Use:
    """What a stored answer that was chosen by its Vary is good for."""
    freshness = stored.freshness
    if asked.is_personal and not freshness.is_shared:
        return Use.MISS  # what such a request gets may be another answer, and nobody said that it is not
    if stored.is_implicit and not asked.is_covered:
        return Use.MISS
    left_s = stored.left_s(now_s)
    if freshness.must_ask or wishes.no_cache:
        return Use.ASK
    if wishes.max_age_s is not None and stored.age_s(now_s) > wishes.max_age_s:
        return Use.ASK
    if wishes.min_fresh_s is not None and left_s < wishes.min_fresh_s:
        return Use.ASK
    if left_s > 0:
        return Use.HIT
    if wishes.max_age_s is None and wishes.min_fresh_s is None:
        if -left_s < freshness.while_revalidate_s:
            return Use.STALE
        if -left_s < wishes.max_stale_s and not freshness.is_strict and not stored.is_outdated:
            return Use.HIT
    return Use.ASK


def may_stand_in(stored: Stored, now_s: float) -> bool:
    """Whether it is given while the app fails (RFC 5861 4)."""
    return stored.status < 500 and not stored.freshness.must_ask and -stored.left_s(now_s) < stored.freshness.if_error_s


def is_failure(status: int) -> bool:
    """Of the app, where an older answer is better (RFC 5861 4)."""
    return status in (500, 502, 503, 504)
