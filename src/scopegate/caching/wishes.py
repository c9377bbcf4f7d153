"""What a visitor's Cache-Control asks for (RFC 9111 5.2.1). A cache need not do so; the policy may turn it off.

Pure.
"""

from __future__ import annotations

from scopegate.caching.directives import read_directives
from scopegate.caching.said import Said, values_of


class Wishes:
    """`max_age_s` and `min_fresh_s` are None where nothing was said; `max_stale_s` is 0 then."""

    __slots__ = ("max_age_s", "max_stale_s", "min_fresh_s", "no_cache", "no_store", "only_if_cached")

    def __init__(self) -> None:
        self.no_store = False
        self.no_cache = False
        self.only_if_cached = False
        self.max_age_s: float | None = None
        self.min_fresh_s: float | None = None
        self.max_stale_s = 0.0


NO_WISHES = Wishes()
ANY_AGE_S = float(2**31)


def wishes_of(request: Said, *, ignored: bool) -> Wishes:
    """`ignored`: those by which a visitor would have the app asked. That nothing but the cache shall answer holds."""
    values = values_of(request, b"cache-control")
    if not values:
        return NO_WISHES
    directives = read_directives(values)
    if not directives:
        return NO_WISHES
    wishes = Wishes()
    wishes.only_if_cached = directives.has(b"only-if-cached")
    if ignored:
        return wishes
    wishes.no_store = directives.has(b"no-store")
    wishes.no_cache = directives.has(b"no-cache")
    max_age, min_fresh = directives.seconds(b"max-age"), directives.seconds(b"min-fresh")
    wishes.max_age_s = None if max_age is None else float(max_age)
    wishes.min_fresh_s = None if min_fresh is None else float(min_fresh)
    if directives.has(b"max-stale"):
        said = directives.seconds(b"max-stale")
        wishes.max_stale_s = ANY_AGE_S if directives.is_bare(b"max-stale") or said is None else float(said)
    return wishes
