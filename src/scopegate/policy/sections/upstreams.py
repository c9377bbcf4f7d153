"""`upstreams`: the apps behind the gateway, how long they may take, and when they are left alone.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field

from scopegate.limits.breaker import BreakerRule
from scopegate.policy import addresses, spelling
from scopegate.policy.addresses import EVERY_INTERFACE, Address, Origin
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import (
    Count,
    Duration,
    FileName,
    Shape,
    Whole,
    option,
    parsed,
    required,
    section,
    written,
)
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.policy.tree import Fault

# Values


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """`queue_s`: the longest a request waits for a free connection."""

    connect_s: float
    response_s: float
    idle_s: float
    queue_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """Active health: GET `path` every `every_s`; `unhealthy_after` failures in a row take a server out, `healthy_after`
    answers in a row bring it back."""

    path: str
    every_s: float
    timeout_s: float = 2.0
    unhealthy_after: int = 3
    healthy_after: int = 2


@dataclass(frozen=True, slots=True)
class Ejection:
    """Passive health: a server with `failures` failed exchanges in a row gets no requests for `for_s`, doubled each
    time it happens again (at most 16 times `for_s`); then its share grows over `slow_start_s`."""

    failures: int = 5
    for_s: float = 10.0
    slow_start_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How an `https` server is proven: `ca_file` (PEM, absolute) in place of the system's, `server_name` in place of
    its host name (SNI and the name that the certificate must hold)."""

    ca_file: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """`connections` bounds the open connections to each server; `waiting`, times the number of servers, the requests
    that wait for one. `breaker` guards all servers together: while it is open, requests get 503 at once."""

    name: str
    servers: tuple[Origin, ...]
    timeouts: UpstreamTimeouts
    health: Health | None
    connections: int = 512
    waiting: int = 1024
    ejection: Ejection = Ejection()
    breaker: BreakerRule | None = None
    tls: Tls = Tls()


# Shapes


PEM_MARK = b"-----BEGIN CERTIFICATE-----"


def _authorities(content: bytes) -> None:
    """A certificate that cannot be read is found here, and not by the first connection. What stands around the
    certificates is for people, in any encoding."""
    if PEM_MARK not in content:
        raise ValueError("holds no certificate in PEM form")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except ssl.SSLError:
        raise ValueError("holds a certificate that cannot be read") from None


AUTHORITIES = FilePlace(("upstreams", str, "tls", "ca"), _authorities)

ServerUrl: TypeAlias = Annotated[Origin, parsed(addresses.parse_origin), written("http://127.0.0.1:3000")]
ServerName: TypeAlias = Annotated[str, parsed(addresses.parse_server_name), written("app.internal")]
Path: TypeAlias = Annotated[str, parsed(spelling.parse_path), written("/api/health")]


class UpstreamTimeoutsShape(Shape):
    connect: Duration = option("2s", "To open a connection.")
    response: Duration = option("30s", "From the end of the request to the head of the answer.")
    idle: Duration = option("60s", "How long an unused connection is kept.")
    queue: Duration = option("2s", "The longest a request waits for a free connection; then 503.")

    def build(self) -> UpstreamTimeouts:
        return UpstreamTimeouts(self.connect, self.response, self.idle, self.queue)


class HealthShape(Shape):
    path: Path = required("A path that answers 2xx while the server is well.", examples=["/api/health"])
    every: Duration = option("5s", "Time between two questions.")
    timeout: Duration = option("2s", "The longest an answer may take.")
    unhealthy_after: Count = option(3, "Failures in a row that take a server out.", le=100)
    healthy_after: Count = option(2, "Answers in a row that bring it back.", le=100)

    def build(self) -> Health:
        return Health(self.path, self.every, self.timeout, self.unhealthy_after, self.healthy_after)


class EjectShape(Shape):
    failures: Count = option(5, "Failed exchanges in a row that take a server out for a while.", le=1000)
    for_: Duration = option("10s", "How long; doubled each time it happens again, at most 16 times this.", alias="for")
    slow_start: Duration = option("10s", "How long the share of a server that comes back grows to its full size.")

    def build(self) -> Ejection:
        return Ejection(self.failures, self.for_, self.slow_start)


class UpstreamBreakerShape(Shape):
    failures: Count = option(
        10, "Failures in a row, over all servers, that open it: requests then get 503 at once.", le=1000
    )
    cooldown: Duration = option("5s", "How long it stays open before one probe.")

    def build(self) -> BreakerRule:
        return BreakerRule(self.failures, self.cooldown)


class TlsShape(Shape):
    ca: FileName | None = option(None, "A PEM file of the only authorities believed. Left out: those of the system.")
    server_name: ServerName | None = option(None, "The name a certificate must hold. Left out: the host of the server.")

    def build(self, beside: SideFiles) -> Tls:
        return Tls(None if self.ca is None else beside.paths[self.ca], self.server_name)


class UpstreamShape(Shape):
    servers: list[ServerUrl] = required(
        "Where the app listens: http://, https:// or unix:/path/of.sock.", min_length=1, max_length=64
    )
    timeouts: UpstreamTimeoutsShape = section(UpstreamTimeoutsShape, "The longest the app may take.")
    connections: Count = option(512, "Open connections of one process to each server.", le=10_000)
    waiting: Annotated[Whole, Field(ge=0, le=100_000)] = option(
        1024, "Requests that may wait for a connection, times the number of servers; more get 503."
    )
    health: HealthShape | None = option(None, "How to ask a server whether it is well. Left out: nobody asks.")
    eject: EjectShape = section(EjectShape, "When a server that keeps failing gets no requests for a while.")
    breaker: UpstreamBreakerShape | None = option(None, "When to stop asking all servers. Left out: never.")
    tls: TlsShape = section(TlsShape, "How an https server is proven.")

    def build(self, name: str, beside: SideFiles) -> Upstream:
        return Upstream(
            name=name,
            servers=tuple(self.servers),
            timeouts=self.timeouts.build(),
            health=None if self.health is None else self.health.build(),
            connections=self.connections,
            waiting=self.waiting,
            ejection=self.eject.build(),
            breaker=None if self.breaker is None else self.breaker.build(),
            tls=self.tls.build(beside),
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    server = draft.one("server", ServerShape)
    for name, upstream in draft.named("upstreams", UpstreamShape).items():
        yield from _servers(name, upstream, None if server is None else server.listen, draft)
        yield from _tls(name, upstream, draft)


def _servers(name: str, upstream: UpstreamShape, listen: Address | None, draft: Draft) -> Iterator[Fault]:
    for index, origin in enumerate(upstream.servers):
        loc = ("upstreams", name, "servers", index)
        if origin in upstream.servers[:index]:
            yield draft.problem(loc, f"{draft.said(loc)} is listed twice")
        if listen is not None and _reaches(origin, listen):
            yield draft.problem(loc, f"{draft.said(loc)} is where this gateway itself listens")


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _reaches(origin: Origin, listen: Address) -> bool:
    if origin.port != listen.port:
        return False
    if listen.host in EVERY_INTERFACE:
        return origin.host in _LOOPBACK | EVERY_INTERFACE
    return origin.host == listen.host or {origin.host, listen.host} <= _LOOPBACK


def _tls(name: str, upstream: UpstreamShape, draft: Draft) -> Iterator[Fault]:
    is_set = upstream.tls.ca is not None or upstream.tls.server_name is not None
    if is_set and all(origin.scheme != "https" for origin in upstream.servers):
        yield draft.warning_at_key(("upstreams", name, "tls"), "means nothing: no server here is https")
