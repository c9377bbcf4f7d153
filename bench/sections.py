"""The questions: which peers meet which loads, against whom. One section is one table."""

from __future__ import annotations

from dataclasses import dataclass

from bench import peers
from bench.configs import LAST_LITERAL, LAST_PATTERN, routes
from bench.load import GET, GET_1, GET_64, GET_256, KEPT, KEPT_STREAM, LITERAL, LOADS, PATTERN, REAL, Load
from bench.peers import Peer

ROUTES = (1, 50, 1000)
CORES_EACH = 0.25
"""What a process of the section `workers` may use of a core: small enough that, of two cores, app, Redis and wrk
have what they need and no process is kept from its share."""


@dataclass(frozen=True, slots=True)
class Section:
    """`pinned`: the peer has one core, the others the rest. `cores_each`: how much of a core each serving process of a
    peer may use, 0 for all of it."""

    name: str
    title: str
    peers: tuple[Peer, ...]
    loads: tuple[Load, ...]
    pinned: bool = True
    cores_each: float = 0.0


def _by_routes(last: str) -> tuple[Peer, ...]:
    """1, 50 and 1,000 routes of scopegate and of nginx, each against its own single one."""
    ours = (
        peers.scopegate(
            f"scopegate, {count} routes", f"scopegate, {ROUTES[0]} routes", patterns=tuple(routes(count, last))
        )
        for count in ROUTES
    )
    theirs = (
        peers.nginx(f"nginx, {count} locations", f"nginx, {ROUTES[0]} locations", patterns=tuple(routes(count, last)))
        for count in ROUTES
    )
    return (*ours, *theirs)


SECTIONS = (
    Section(
        "loads",
        "Proxied requests, against nginx",
        (
            *(peers.SCOPEGATE, peers.SCOPEGATE_PURE, peers.NGINX, peers.HAPROXY),
            *(peers.CADDY, peers.FASTIFY, peers.EXPRESS),
        ),
        LOADS,
    ),
    Section(
        "redis",
        "Limits in Redis, against nginx+lua+redis",
        (peers.SCOPEGATE_REDIS, peers.SCOPEGATE_PURE_REDIS, peers.NGINX_REDIS),
        (REAL, GET, GET_1, GET_256),
    ),
    Section(
        "stores",
        "Limits in Redis, against the same in memory",
        (
            peers.scopegate("scopegate, memory", "scopegate, memory"),
            peers.scopegate("scopegate, Redis", "scopegate, memory", redis=True),
        ),
        (REAL, GET, GET_256),
    ),
    Section(
        "cache",
        "Answers from the cache, against nginx' proxy_cache",
        (peers.SCOPEGATE_CACHE, peers.SCOPEGATE_PURE_CACHE, peers.NGINX_CACHE),
        (KEPT, KEPT_STREAM),
    ),
    Section(
        "routes-literal",
        "Number of routes, the last is a literal path, against one route",
        _by_routes(LAST_LITERAL),
        (LITERAL,),
    ),
    Section(
        "routes-pattern",
        "Number of routes, the last has a wildcard, against one route",
        _by_routes(LAST_PATTERN),
        (PATTERN,),
    ),
    Section(
        "workers",
        f"Two processes against one, each held to {CORES_EACH} of a core",
        (
            peers.scopegate("scopegate, 1 worker", "scopegate, 1 worker", workers=1, redis=True),
            peers.scopegate("scopegate, 2 workers", "scopegate, 1 worker", workers=2, redis=True),
            peers.nginx("nginx, 1 worker", "nginx, 1 worker", workers=1),
            peers.nginx("nginx, 2 workers", "nginx, 1 worker", workers=2),
        ),
        (GET_64,),
        pinned=False,
        cores_each=CORES_EACH,
    ),
)
