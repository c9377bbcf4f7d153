"""Who would have been refused: a log's requests, one after the other, in the windows of a policy.

The rule is that of the stores (`limits/window`), the keys those of the gateway as far as a log tells them: address,
route, all. What a log does not tell (a user, a field, a cookie, a claim) is missing, and the tier's `when_missing`
decides. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from scopegate.edge.caller import limit_group
from scopegate.limits.window import Log, Spent, Window, amended, spend, window_key
from scopegate.policy.policy import ClientList, KeyKind, KeyPart, Policy, Route, Tier, WhenMissing
from scopegate.replay.entries import LogEntry
from scopegate.replay.routing import Routing

_SWEPT_EVERY = 100_000
_LEFT = 499
"""What logs say of a client that left before its answer: the app said nothing, and nothing is given back."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`route` is empty where none governs the request. `tiers`: those that would have refused it."""

    route: str
    tiers: tuple[str, ...] = ()


class Replay:
    """Requests must come in the order of their begins; one that comes late counts as made now."""

    def __init__(self, policy: Policy) -> None:
        self._routing = Routing(policy)
        self._logs: dict[str, Log] = {}
        self._now_us = 0
        self._judged = 0
        self._is_listed = lru_cache(8192)(_is_listed)

    def judge(self, entry: LogEntry) -> Judgement:
        self._now_us = max(self._now_us, entry.at_us)
        self._judged += 1
        if self._judged % _SWEPT_EVERY == 0:
            self._sweep()
        route = self._routing.route_of(entry)
        if route is None:
            return Judgement("")
        judging = [tier for tier in route.tiers if tier.mode.refuses]
        refused = self._judge(judging, entry, route)
        if not refused or not route.mode.refuses:
            for tier in route.tiers:
                if not tier.mode.refuses:
                    refused = (*refused, *self._judge([tier], entry, route))
        return Judgement(route.name, refused)

    def _judge(self, tiers: Sequence[Tier], entry: LogEntry, route: Route) -> tuple[str, ...]:
        """In one step, all or nothing, as the gateway judges them."""
        windows: list[tuple[Tier, Window]] = []
        for tier in tiers:
            if self._is_listed(tier.allow, entry.client):
                continue
            key = None if self._is_listed(tier.deny, entry.client) else _key(tier, entry, route)
            if key is None:
                return (tier.name,)
            windows += [(tier, window) for window in _windows(tier, key, entry) if key]
        if not windows:
            return ()
        asked = [window for _, window in windows]
        logs = [self._log(window) for window in asked]
        spent = spend(asked, logs, self._now_us)
        if spent.admitted:
            _settle(windows, logs, spent, entry.status)
            return ()
        return tuple(dict.fromkeys([standing.window.name for standing in spent.refused_by()]))

    def _log(self, window: Window) -> Log:
        log = self._logs.get(window.key)
        if log is None:
            log = self._logs[window.key] = Log(window.quota.span_ms)
        return log

    def _sweep(self) -> None:
        self._logs = {key: log for key, log in self._logs.items() if log.left_us(self._now_us)}


def _settle(windows: Sequence[tuple[Tier, Window]], logs: Sequence[Log], spent: Spent, status: int) -> None:
    """After the answer: what is given back never counted."""
    for (tier, window), log, standing in zip(windows, logs, spent.standings, strict=True):
        if status != _LEFT and status in tier.given_back:
            log.amend(amended(standing, -window.cost, spent.at_us), 0, spent.at_us)


def _windows(tier: Tier, key: str, entry: LogEntry) -> list[Window]:
    cost = -(-entry.bytes_in // tier.cost.per_bytes) if tier.cost.per_bytes else tier.cost.fixed
    return [
        Window(tier.name, window_key(tier.name, quota, key), quota, cost=min(max(1, cost), quota.most))
        for quota in tier.quotas
    ]


def _key(tier: Tier, entry: LogEntry, route: Route) -> str | None:
    """Whom a tier counts: empty where it does not count the request, None where it refuses it for what is missing."""
    texts = []
    for part in tier.key:
        text = _part(part, tier, entry, route)
        if text is None and tier.when_missing is not WhenMissing.CLIENT_IP:
            return "" if tier.when_missing is WhenMissing.EXEMPT else None
        texts.append(f"ip:{limit_group(entry.client, tier.ipv6_prefix)}" if text is None else text)
    return "\n".join(texts)


def _part(part: KeyPart, tier: Tier, entry: LogEntry, route: Route) -> str | None:
    match part.kind:
        case KeyKind.CLIENT_IP:
            return f"ip:{limit_group(entry.client, tier.ipv6_prefix)}"
        case KeyKind.ROUTE:
            return f"route:{route.name}"
        case KeyKind.GLOBAL:
            return "all"
        case KeyKind.USER | KeyKind.HEADER | KeyKind.COOKIE | KeyKind.CLAIM:
            return None


def untold(policy: Policy) -> list[str]:
    """The tiers that count or list by what no log tells."""
    return [tier.name for tier in policy.tiers.values() if not _is_told(tier)]


def _is_told(tier: Tier) -> bool:
    told = {KeyKind.CLIENT_IP, KeyKind.ROUTE, KeyKind.GLOBAL}
    is_listed = tier.allow.values or tier.deny.values
    return all(part.kind in told for part in tier.key) and not is_listed and not tier.cost.field


def _is_listed(clients: ClientList, client: str) -> bool:
    address = ip_address(client)
    return any(address in network for network in clients.networks)
