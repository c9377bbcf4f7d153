"""`server`: the public port, who may speak for visitors, and the most that is taken in.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import PlainValidator, SecretStr, WithJsonSchema

from scopegate.policy import addresses
from scopegate.policy.addresses import Address, Network
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import (
    Choice,
    Count,
    Duration,
    Listen,
    Shape,
    Size,
    option,
    parsed,
    section,
    size_up_to,
    unexpanded,
    written,
)
from scopegate.policy.quantities import SIZE_PATTERN
from scopegate.policy.sections import redirect
from scopegate.policy.sections.auth import SigningKey
from scopegate.policy.sections.modes import Mode
from scopegate.policy.sections.redirect import Redirect, RedirectShape
from scopegate.policy.sections.switches import MaintenanceShape, ReadOnlyShape, Switch
from scopegate.policy.sections.tls import CertificateFiles, CertificateShape
from scopegate.policy.sidefiles import SideFiles
from scopegate.policy.tree import Fault

# Values


class AddressSource(StrEnum):
    """How a trusted proxy tells the visitor's address: a field it writes, or a PROXY protocol header (v1 or v2) with
    which it opens each connection. Exactly one is believed; a proxy lets the visitor's own copy of the others pass."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    PROXY_PROTOCOL = "proxy-protocol"


class HostUse(StrEnum):
    """What the host counts for that a trusted proxy tells: which hosts are served (and whose pages may open WebSocket
    connections), and what the app is told."""

    HOSTS = "hosts"
    APP = "app"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """`connections_per_client` and `in_flight_per_client` count by limit group (an address, a /64). Connections of
    trusted proxies are not counted by client, for they carry many; the requests they carry are, by whom they name."""

    head_bytes: int
    fields: int
    target_bytes: int
    body_bytes: int
    connections: int
    in_flight: int
    connections_per_client: int = 512
    in_flight_per_client: int = 256


@dataclass(frozen=True, slots=True)
class ServerTimeouts:
    """`body_idle_s` is the longest pause inside a body, `body_s` the longest for all of it."""

    head_s: float
    body_idle_s: float
    keep_alive_s: float
    drain_s: float
    body_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Server:
    """`hosts` is None when any valid Host is served. `workers` is None for one process per core. `tls` is empty for a
    port that speaks plain HTTP. `sign_with` signs the flags that the app is told; without it they go unsigned."""

    listen: Address
    hosts: frozenset[str] | None
    trusted_proxies: tuple[Network, ...]
    workers: int | None
    limits: ServerLimits
    timeouts: ServerTimeouts
    address_from: AddressSource = AddressSource.X_FORWARDED_FOR
    forwarded_host: frozenset[HostUse] = frozenset()
    tls: tuple[CertificateFiles, ...] = ()
    mode: Mode = Mode.ENFORCE
    redirect: Redirect | None = None
    maintenance: Switch | None = None
    read_only: Switch | None = None
    sign_with: SecretStr | None = None


# Shapes


def _workers(value: object) -> int | None:
    value = unexpanded(value)
    if value == "auto":
        return None
    if type(value) is not int or not 1 <= value <= 256:
        raise ValueError("is neither `auto` nor a whole number from 1 to 256")
    return value


HeadSize: TypeAlias = Annotated[int, parsed(size_up_to("1MiB")), written("32KiB", SIZE_PATTERN)]
TargetSize: TypeAlias = Annotated[int, parsed(size_up_to("64KiB")), written("8KiB", SIZE_PATTERN)]
Host: TypeAlias = Annotated[str, parsed(addresses.parse_host), written("leads.example.com")]
Net: TypeAlias = Annotated[Network, parsed(addresses.parse_network), written("10.0.0.0/8")]
Workers: TypeAlias = Annotated[
    int | None,
    PlainValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
]


class ServerLimitsShape(Shape):
    head: HeadSize = option("32KiB", "Request line and header fields together. At most 1MiB.")
    fields: Count = option(100, "Header fields of one request.", le=1000)
    target: TargetSize = option("8KiB", "Path and query of one request. At most 64KiB.")
    body: Size = option("1MiB", "Body of one request, where its route says nothing else.")
    connections: Count = option(4096, "Open client connections of one process.", le=100_000)
    connections_per_client: Count = option(
        512,
        "Open connections of one client address (IPv6: one /64). Those of trusted proxies are not counted.",
        le=100_000,
    )
    in_flight: Count = option(2048, "Requests served at a time by one process; more get 503.", le=100_000)
    in_flight_per_client: Count = option(
        256, "Of those, the requests of one client address (IPv6: one /64); more get 429.", le=100_000
    )

    def build(self) -> ServerLimits:
        return ServerLimits(
            head_bytes=self.head,
            fields=self.fields,
            target_bytes=self.target,
            body_bytes=self.body,
            connections=self.connections,
            in_flight=self.in_flight,
            connections_per_client=min(self.connections_per_client, self.connections),
            in_flight_per_client=min(self.in_flight_per_client, self.in_flight),
        )


class ServerTimeoutsShape(Shape):
    head: Duration = option("10s", "From the first byte of a request to the end of its head.")
    body_idle: Duration = option("15s", "The longest pause inside a request body.")
    body: Duration = option("5m", "The longest a whole request body may take.")
    keep_alive: Duration = option("60s", "The longest pause between two requests of a connection.")
    drain: Duration = option("30s", "How long requests under way may take once a stop is asked for.")

    def build(self) -> ServerTimeouts:
        return ServerTimeouts(
            head_s=self.head,
            body_idle_s=self.body_idle,
            keep_alive_s=self.keep_alive,
            drain_s=self.drain,
            body_s=self.body,
        )


class ServerShape(Shape):
    listen: Listen = option("0.0.0.0:8080", "The public address.")
    hosts: list[Host] | None = option(
        None, "Host names served, anything else is 421. Left out: every valid Host.", min_length=1
    )
    trusted_proxies: list[Net] = option(
        [], "Networks of the proxies that may tell us the visitor's address. Nobody by default."
    )
    client_address: Choice[AddressSource] = option(
        "x-forwarded-for", "How a trusted proxy tells the visitor's address; nothing else of the kind is believed."
    )
    forwarded_host: list[Choice[HostUse]] = option(
        [],
        "What X-Forwarded-Host and -Port of a trusted proxy count for: `hosts` (above), `app` (what the app is told).",
    )
    tls: list[CertificateShape] = option(
        [],
        "Certificates of the public port, which then speaks HTTPS alone. A client is shown that of the name it asks "
        "for, or the first. Renewed files are taken up as they appear.",
        max_length=1000,
    )
    redirect: RedirectShape | None = option(
        None, "A port that speaks plain HTTP and sends visitors to https, here. Left out: none; its address: port 80."
    )
    mode: Choice[Mode] = option("enforce", "`watch`: every route decides and counts, and refuses nobody.")
    workers: Workers = option(1, "Gateway processes that share the port; `auto` is one per core.")
    maintenance: MaintenanceShape | None = option(None, "Everybody whom a flag picks gets 503 and a page.")
    read_only: ReadOnlyShape | None = option(
        None, "Everybody whom a flag picks may read: any method but GET, HEAD and OPTIONS gets 503."
    )
    sign_with: SigningKey | None = option(
        None, "The key, shared with the app, that signs the flags it is told: at least 32 bytes. Left out: unsigned."
    )
    limits: ServerLimitsShape = section(ServerLimitsShape, "The most of anything that is taken in.")
    timeouts: ServerTimeoutsShape = section(ServerTimeoutsShape, "The longest that anything may take.")

    def build(self, beside: SideFiles) -> Server:
        return Server(
            listen=self.listen,
            hosts=None if self.hosts is None else frozenset(self.hosts),
            trusted_proxies=tuple(self.trusted_proxies),
            workers=self.workers,
            limits=self.limits.build(),
            timeouts=self.timeouts.build(),
            address_from=self.client_address,
            forwarded_host=frozenset(self.forwarded_host),
            tls=tuple(one.build(beside) for one in self.tls),
            mode=self.mode,
            redirect=None if self.redirect is None else self.redirect.build(),
            maintenance=None if self.maintenance is None else self.maintenance.build(beside),
            read_only=None if self.read_only is None else self.read_only.build(),
            sign_with=self.sign_with,
        )


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    """What was left out gives way; what was written must make sense beside the rest."""
    server = draft.one("server", ServerShape)
    if server is None:
        return
    yield from _proxies_word(server, draft)
    if server.tls and server.client_address is AddressSource.PROXY_PROTOCOL:
        what = "a PROXY protocol header stands before the TLS handshake and is not read there: end TLS in the proxy"
        yield draft.problem(("server", "tls"), what)
    if server.redirect is not None:
        yield from redirect.checks(
            server.redirect, server.listen, draft, has_tls=bool(server.tls), has_hosts=server.hosts is not None
        )
    yield from _shares(server.limits, draft)
    yield from _body_timeouts(server.timeouts, draft)


def _proxies_word(server: ServerShape, draft: Draft) -> Iterator[Fault]:
    for setting, is_believed in (
        ("client_address", server.client_address is not AddressSource.X_FORWARDED_FOR),
        ("forwarded_host", bool(server.forwarded_host)),
    ):
        if is_believed and not server.trusted_proxies:
            loc = ("server", setting)
            yield draft.problem(loc, f"{draft.said(loc)} is believed from `trusted_proxies` alone, and there are none")


def _shares(limits: ServerLimitsShape, draft: Draft) -> Iterator[Fault]:
    """A bound that another one makes pointless."""
    said = limits.model_fields_set
    for all_of_them in ("connections", "in_flight"):
        share, most = f"{all_of_them}_per_client", getattr(limits, all_of_them)
        if share in said and getattr(limits, share) > most:
            yield draft.problem(("server", "limits", share), f"is more than `{all_of_them}`, which is {most}")
    if "in_flight" in said and limits.in_flight > limits.connections:
        what = f"never reached: there are at most {limits.connections} connections, one request on each"
        yield draft.warning(("server", "limits", "in_flight"), what)


def _body_timeouts(timeouts: ServerTimeoutsShape, draft: Draft) -> Iterator[Fault]:
    if timeouts.body < timeouts.body_idle:
        said = "body" if "body" in timeouts.model_fields_set else "body_idle"
        what = "a whole body (`body`) may take less time than a pause in it (`body_idle`)"
        yield draft.problem(("server", "timeouts", said), what)
