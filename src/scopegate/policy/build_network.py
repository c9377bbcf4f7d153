"""The sections about sockets -> their part of the `Policy`: the public port, and the apps behind it.

Pure; what arrives has been checked. Called by `build`.
"""

from __future__ import annotations

from collections.abc import Mapping

from scopegate.policy import document
from scopegate.policy.policy import (
    BreakerRule,
    Ejection,
    Health,
    Server,
    ServerLimits,
    ServerTimeouts,
    Tls,
    Upstream,
    UpstreamTimeouts,
)


def server(section: document.Server) -> Server:
    return Server(
        listen=section.listen,
        hosts=None if section.hosts is None else frozenset(section.hosts),
        trusted_proxies=tuple(section.trusted_proxies),
        workers=section.workers,
        limits=_limits(section.limits),
        timeouts=_timeouts(section.timeouts),
        address_from=section.client_address,
        forwarded_host=frozenset(section.forwarded_host),
    )


def _limits(limits: document.ServerLimits) -> ServerLimits:
    return ServerLimits(
        head_bytes=limits.head,
        fields=limits.fields,
        target_bytes=limits.target,
        body_bytes=limits.body,
        connections=limits.connections,
        in_flight=limits.in_flight,
        connections_per_client=min(limits.connections_per_client, limits.connections),
        in_flight_per_client=min(limits.in_flight_per_client, limits.in_flight),
    )


def _timeouts(timeouts: document.ServerTimeouts) -> ServerTimeouts:
    return ServerTimeouts(
        head_s=timeouts.head,
        body_idle_s=timeouts.body_idle,
        keep_alive_s=timeouts.keep_alive,
        drain_s=timeouts.drain,
        body_s=timeouts.body,
    )


def upstream(name: str, section: document.Upstream, paths: Mapping[str, str]) -> Upstream:
    """`paths`: the absolute path of each file named, by the path as written."""
    timeouts, eject, breaker, tls = section.timeouts, section.eject, section.breaker, section.tls
    return Upstream(
        name=name,
        servers=tuple(section.servers),
        timeouts=UpstreamTimeouts(timeouts.connect, timeouts.response, timeouts.idle, timeouts.queue),
        health=_health(section.health),
        connections=section.connections,
        waiting=section.waiting,
        ejection=Ejection(eject.failures, eject.for_, eject.slow_start),
        breaker=None if breaker is None else BreakerRule(breaker.failures, breaker.cooldown),
        tls=Tls(None if tls.ca is None else paths[tls.ca], tls.server_name),
    )


def _health(health: document.Health | None) -> Health | None:
    if health is None:
        return None
    return Health(health.path, health.every, health.timeout, health.unhealthy_after, health.healthy_after)
