"""What may refuse a request besides its windows: a ban after many refusals, and a number of seats for those in flight.

Pure values; stores judge them in one step with the windows (`stores/memory`, `stores/limits.lua`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from scopegate.limits.window import Quota, Window

SEAT_WAIT_MS = 1_000
"""When to try again where all seats are taken: nobody knows when one is free."""
LEASE_MS = 5_000
"""How long a seat is held for who stopped renewing it: a gateway that was killed."""


@dataclass(frozen=True, slots=True)
class BanRule:
    """Nothing is admitted for `for_ms` after `strikes` refusals in any `within_ms`."""

    strikes: int
    within_ms: int
    for_ms: int

    @property
    def quotas(self) -> tuple[Quota, Quota]:
        """That of its strikes, and that of its one sentence."""
        return Quota(self.strikes, self.within_ms), Quota(1, self.for_ms)


@dataclass(frozen=True, slots=True)
class Ban:
    """A rule for one key. A refusal by one of the windows `first` to `first + count` of the request is a strike, which
    counts in the window `strikes`; the last one begins the only admission of the window `sentence`. While that lasts
    there are no strikes."""

    strikes: Window
    sentence: Window
    first: int
    count: int

    @property
    def name(self) -> str:
        """Of the tier."""
        return self.strikes.name


@dataclass(frozen=True, slots=True)
class Seats:
    """At most so many requests of a key in flight. `holder` is this request, unlike any other of any gateway."""

    name: str
    key: str
    most: int
    holder: str


Barrier: TypeAlias = Ban | Seats


def ban_key(tier: str, rule: BanRule, counted: str) -> str:
    """Of a tier's ban for who is counted (see `window.counted_as`): unlike any window's."""
    return f"{tier}:{rule.within_ms}.{rule.for_ms}:{counted}"


def ban_of(name: str, key: str, rule: BanRule, origin: str, first: int, count: int) -> Ban:
    """`name`: of the tier; `key`: unlike any window's."""
    strikes, sentence = rule.quotas
    return Ban(Window(name, f"{key}:s", strikes, origin), Window(name, f"{key}:b", sentence, origin), first, count)
