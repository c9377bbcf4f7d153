"""What a request counts as on its route: the windows of all its tiers, judged in one step.

Made once per policy, asked by `spending`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count as counted_from

from scopegate.edge.caller import is_trusted
from scopegate.edge.verdict import Refusal
from scopegate.gateway.keys import Countable, Counted, key_of
from scopegate.gateway.lists import holder
from scopegate.limits.barriers import Ban, Barrier, Seats, ban_key, ban_of
from scopegate.limits.window import Window, counted_as, window_key
from scopegate.policy.policy import KeyKind, Network, OnStoreError, Policy, Route, Tier

DENIED = Refusal(403, "denied", "Requests of this client are not served.")

Windows = tuple[Window, ...]
_PROCESS = os.urandom(6).hex()
_requests = counted_from(1)
WindowsOf = Callable[[str, str], Windows]


def windows_of(tier: Tier, secret: bytes) -> WindowsOf:
    """From a key and its origin to the tier's windows. Routes that name the same tier share them; the newest 8,192 keys
    are kept. Keys are hashed with `secret`, at most 64 bytes: of an address that was hashed without one, trying all
    soon finds it."""
    # No tier has a slash in its name: one called `api-2` is not the second window of `api`.
    names = [f"{tier.name}/{n}" if n > 1 else tier.name for n in range(1, len(tier.quotas) + 1)]
    kinds = [
        (name, window_key(tier.name, quota, ""), quota, min(tier.cost.fixed, quota.most))
        for name, quota in zip(names, tier.quotas, strict=True)
    ]

    firm = not tier.given_back and not tier.cost.field

    @lru_cache(maxsize=8192)
    def windows(key: str, origin: str) -> Windows:
        digest = counted_as(key, secret)
        return tuple([Window(name, prefix + digest, quota, origin, cost, firm) for name, prefix, quota, cost in kinds])

    return windows


class _Barring:
    """How a tier's barriers are made for a key."""

    __slots__ = ("_secret", "_tier")

    def __init__(self, tier: Tier, secret: bytes) -> None:
        self._tier = tier
        self._secret = secret

    def ban(self, counted: Counted, first: int) -> Ban | None:
        """`first`: where the tier's windows stand among those of the request."""
        tier = self._tier
        if tier.ban is None:
            return None
        rule = tier.ban
        key = ban_key(tier.name, rule, self._digest(counted))
        return ban_of(tier.name, key, rule, counted.origin, first, len(tier.quotas))

    def seats(self, counted: Counted) -> Seats | None:
        tier = self._tier
        if tier.in_flight is None:
            return None
        holder = f"{_PROCESS}{next(_requests)}"
        return Seats(tier.name, f"{tier.name}:seats:{self._digest(counted)}", tier.in_flight, holder)

    def _digest(self, counted: Counted) -> str:
        return counted_as(counted.key, self._secret)


def tier_of(window: Window) -> str:
    """The tier that a window is one of."""
    return window.name.partition("/")[0]


class TierCount:
    """A tier as one route counts it. `is_settled`: what a request counts for is known only after its answer."""

    __slots__ = (
        *("_barring", "_is_allowed", "_is_denied", "_key_of", "_trusted", "_windows_of"),
        *("has_barriers", "is_settled", "tier"),
    )

    def __init__(
        self, tier: Tier, route: str, windows_of: WindowsOf, secret: bytes, trusted: Sequence[Network] = ()
    ) -> None:
        """`trusted`: the proxies, whose addresses are never banned."""
        self.tier = tier
        self._trusted = trusted
        self.has_barriers = tier.ban is not None or tier.in_flight is not None
        self._barring = _Barring(tier, secret) if self.has_barriers else None
        self.is_settled = bool(tier.given_back or tier.cost.per_bytes or tier.cost.field)
        self._key_of = key_of(tier, route, secret)
        self._is_allowed, self._is_denied = holder(tier.allow), holder(tier.deny)
        self._windows_of = windows_of

    def windows(self, asked: Countable) -> Windows | Refusal:
        """None of them where the tier does not count this request."""
        counted = self.counted(asked)
        if counted is None or isinstance(counted, Refusal):
            return counted or ()
        windows = self._windows_of(counted.key, counted.origin)
        length = asked.notes.length if self.tier.cost.per_bytes else 0
        if length > 0:
            return tuple([_costing(window, -(-length // self.tier.cost.per_bytes)) for window in windows])
        return windows

    def counted(self, asked: Countable) -> Counted | Refusal | None:
        """Whom a request counts for; None for nobody."""
        if self._is_denied is not None and self._is_denied(asked):
            return DENIED
        if self._is_allowed is not None and self._is_allowed(asked):
            return None
        return self._key_of(asked)

    def barriers(self, asked: Countable, first: int) -> tuple[Ban | None, Seats | None]:
        """Those of a request whose windows of this tier begin at `first`."""
        counted = self.counted(asked) if self._barring is not None else None
        if self._barring is None or counted is None or isinstance(counted, Refusal):
            return None, None
        is_proxy = bool(counted.origin) and is_trusted(asked.caller.address, self._trusted)
        return None if is_proxy else self._barring.ban(counted, first), self._barring.seats(counted)

    def owed(self, window: Window, status: int, bytes_in: int, told: int | None) -> int:
        """What a request should have cost in a window. `status`: of its answer, 0 for none that the client got; `told`:
        what the app's answer says of it."""
        tier = self.tier
        if status in tier.given_back:
            return 0
        if told is not None and tier.cost.field:
            return min(told, window.quota.most)
        if tier.cost.per_bytes:
            return max(window.cost, min(-(-bytes_in // tier.cost.per_bytes), window.quota.most))
        return window.cost


def _costing(window: Window, cost: int) -> Window:
    """One that costs more than a window ever admits at once needs it empty."""
    return replace(window, cost=min(cost, window.quota.most))


class RouteCount:
    """The tiers of a route: those that judge, in one step, and those that are only `watched`. At least one."""

    __slots__ = ("by_name", "cost_fields", "counts_alone", "has_barriers", "is_settled", "tiers", "watched")

    def __init__(self, every: tuple[TierCount, ...]) -> None:
        self.tiers = tiers = tuple([each for each in every if each.tier.mode.refuses])
        self.watched = tuple([each for each in every if not each.tier.mode.refuses])
        self.by_name = {each.tier.name: each for each in every}
        self.has_barriers = any(each.has_barriers for each in tiers)
        self.is_settled = any(each.has_barriers or each.is_settled for each in every)
        self.counts_alone = any(each.tier.on_store_error is OnStoreError.LOCAL for each in tiers)
        self.cost_fields = frozenset([each.tier.cost.field for each in every if each.tier.cost.field])

    def windows(self, asked: Countable) -> Windows | Refusal:
        """Those of all tiers that judge, in their order; none of them where no tier counts this request."""
        if len(self.tiers) == 1:
            return self.tiers[0].windows(asked)
        found: list[Window] = []
        for each in self.tiers:
            windows = each.windows(asked)
            if isinstance(windows, Refusal):
                return windows
            found += windows
        return tuple(found)

    def barriers(self, asked: Countable, windows: Windows) -> tuple[Barrier, ...]:
        """What may refuse the request besides these windows of it: bans first, then seats."""
        bans: list[Barrier] = []
        seats: list[Barrier] = []
        first = 0
        for each in self.tiers:
            ban, seat = each.barriers(asked, first)
            if ban is not None:
                bans.append(ban)
            if seat is not None:
                seats.append(seat)
            while first < len(windows) and tier_of(windows[first]) == each.tier.name:
                first += 1
        return tuple(bans + seats)


def counts_of(policy: Policy, secret: bytes) -> Mapping[str, RouteCount]:
    """By the names of routes that have a tier."""
    known = {tier.name: windows_of(tier, secret) for tier in policy.tiers.values()}
    made: dict[tuple[str, ...], RouteCount] = {}
    trusted = policy.server.trusted_proxies

    def count_of(route: Route) -> RouteCount:
        """One for all routes of the same tiers, unless these tell routes apart: a connection keeps what it found."""
        which = tuple([tier.name for tier in route.tiers])
        if any(part.kind is KeyKind.ROUTE for tier in route.tiers for part in tier.key):
            which = (*which, f"/{route.name}")
        if which not in made:
            counts = [TierCount(tier, route.name, known[tier.name], secret, trusted) for tier in route.tiers]
            made[which] = RouteCount(tuple(counts))
        return made[which]

    return {route.name: count_of(route) for route in policy.routes if route.tiers}


def fields_of(policy: Policy) -> frozenset[bytes]:
    """The header fields that a tier counts or lists by, in lower case."""
    parts = {part for tier in policy.tiers.values() for part in tier.key}
    parts |= {each.part for tier in policy.tiers.values() for each in (*tier.allow.values, *tier.deny.values)}
    return frozenset([part.name.encode() for part in parts if part.kind is KeyKind.HEADER])
