"""Whether a request is of a listed client. Called by `counting`, for tiers with lists alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from scopegate.edge.cookies import meant
from scopegate.gateway.keys import Countable, values_sent
from scopegate.policy.policy import ClientList, KeyKind, Network

Holds = Callable[[Countable], bool]


def holder(listed: ClientList) -> Holds | None:
    """Whether a list holds who asks; None for an empty list. The cost of an answer does not grow with the list."""
    if not listed.networks and not listed.values:
        return None
    is_inside = _networks(listed.networks)
    by_part: dict[tuple[KeyKind, str], set[tuple[str, bool]]] = {}
    for each in listed.values:
        known = by_part.setdefault((each.part.kind, each.part.name), set())
        known.add((each.value, each.is_hash))
        if each.part.kind is KeyKind.COOKIE and not each.is_hash:
            known.add((meant(each.value.encode()).decode("utf-8", "replace"), False))

    def holds(asked: Countable) -> bool:
        return is_inside(asked.caller.address) or any(
            not values.isdisjoint(_said(asked, kind, name)) for (kind, name), values in by_part.items()
        )

    return holds


def _networks(networks: Sequence[Network]) -> Callable[[str], bool]:
    """One look for each width of network there is. The newest 8,192 answers are kept."""
    found: dict[tuple[int, int], set[int]] = {}
    for network in networks:
        spare = network.max_prefixlen - network.prefixlen
        found.setdefault((network.version, spare), set()).add(int(network.network_address) >> spare)

    @lru_cache(8192)
    def is_inside(address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False  # a peer without an address
        number = int(parsed)
        return any(version == parsed.version and number >> spare in those for (version, spare), those in found.items())

    return is_inside


def _said(asked: Countable, kind: KeyKind, name: str) -> set[tuple[str, bool]]:
    """Each value of a part, and its hash."""
    caller = asked.caller
    if kind is KeyKind.USER:
        values = {caller.user.encode()} if caller.user is not None else set()
    elif kind is KeyKind.CLAIM:
        values = {value.encode() for claim, value in caller.claims if claim == name}
    else:
        values = values_sent(asked, kind, name.encode())
        if kind is KeyKind.COOKIE:
            values |= set(map(meant, values))
    plain = {(value.decode("utf-8", "replace"), False) for value in values}
    return plain | {(hashlib.sha256(value).hexdigest(), True) for value in values}
