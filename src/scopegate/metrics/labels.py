"""The closed sets that labels of metrics take their words from, where no room below has them.

Who counts types its word as one of these, so that the checker holds code and catalogue together. Names no library of
metrics, and may be imported before the catalogue.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias, get_args

Role: TypeAlias = Literal["gateway", "worker", "admin"]

ConnectionState: TypeAlias = Literal["in_use", "idle"]

OrderOutcome: TypeAlias = Literal["accepted", "refused", "unreadable", "unknown"]
"""`unreadable` was accepted and holds no lead that could be read; `unknown` had no answer of the app."""

LookupOutcome: TypeAlias = Literal["found", "unreadable", "absent", "open", "given_up"]
"""What came of asking the app about an order: `open` is asked again, `given_up` is not any more."""

SpoolState: TypeAlias = Literal["waiting", "bad"]

TokenKind: TypeAlias = Literal["input", "output", "cache_read", "cache_write"]

AdminRefusal: TypeAlias = Literal[
    "no_token", "wrong_token", "too_many_tries", "not_loopback", "host", "cross_site", "results_only", "viewer", "form"
]

ScrapeSource: TypeAlias = Literal["jobs", "orders", "retention", "budgets", "forecasts"]

ForecastPeriod: TypeAlias = Literal["day", "month"]


class StreamKind(StrEnum):
    WEBSOCKET = "websocket"
    EVENTS = "events"


class CacheOutcome(StrEnum):
    """How a request to a route with `cache` was answered: `hit` and `stale` from what was kept, `collapsed` with what
    another's request brought, `revalidated` after the app confirmed it, `miss` by the app, `bypass` by the app without
    looking. `would_hit`: by the app, in watch mode."""

    HIT = "hit"
    STALE = "stale"
    COLLAPSED = "collapsed"
    REVALIDATED = "revalidated"
    MISS = "miss"
    BYPASS = "bypass"
    WOULD_HIT = "would_hit"


class ReloadOutcome(StrEnum):
    """What came of a look at a policy file that was changed or asked for."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNCHANGED = "unchanged"


def words(*sets: object) -> tuple[str, ...]:
    """The members of closed sets in their order: of an enum of strings, of a Literal, or a word as it is."""
    return tuple(word for one in sets for word in _members(one))


def _members(one: object) -> tuple[str, ...]:
    if isinstance(one, str):
        return (str(one),)
    if isinstance(one, type) and issubclass(one, StrEnum):
        return tuple(member.value for member in one)
    found = get_args(one)
    assert found, f"{one} is no closed set"
    return found
