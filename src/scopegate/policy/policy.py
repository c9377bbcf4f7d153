"""The policy in force: an immutable snapshot of what `gateway.yaml` means.

Pure values; nobody edits one, a reload replaces it. `compile_policy` (in `compile.py`) makes it from a document;
everything behind the file reader speaks in these words only. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from pydantic import SecretStr

from scopegate.limits.window import Quota

Network = IPv4Network | IPv6Network


class TierKey(StrEnum):
    """Whom a tier counts. `user` falls back to the client address for a visitor without a verified identity."""

    CLIENT_IP = "client_ip"
    USER = "user"
    GLOBAL = "global"


class OnStoreError(StrEnum):
    """What a tier does while its store is unusable: count in this process, let pass, or refuse with 503."""

    LOCAL = "local"
    ALLOW = "allow"
    DENY = "deny"


class Mode(StrEnum):
    """`watch` decides and counts but never refuses."""

    ENFORCE = "enforce"
    WATCH = "watch"


class WhenSpent(StrEnum):
    """A job that meets a spent budget waits for the next period, or fails by name."""

    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServerLimits:
    head_bytes: int
    fields: int
    target_bytes: int
    body_bytes: int
    connections: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class ServerTimeouts:
    head_s: float
    body_idle_s: float
    keep_alive_s: float
    drain_s: float


@dataclass(frozen=True, slots=True)
class Server:
    """`hosts` is None when any valid Host is served. `workers` is None for one process per core."""

    listen: Address
    hosts: frozenset[str] | None
    trusted_proxies: tuple[Network, ...]
    workers: int | None
    limits: ServerLimits
    timeouts: ServerTimeouts


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream server listens. `host` without brackets for IPv6."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    connect_s: float
    response_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Health:
    path: str
    every_s: float


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    servers: tuple[Origin, ...]
    timeouts: UpstreamTimeouts
    health: Health | None


@dataclass(frozen=True, slots=True)
class Tier:
    name: str
    quotas: tuple[Quota, ...]
    key: TierKey
    on_store_error: OnStoreError


@dataclass(frozen=True, slots=True)
class JwtRule:
    """Exactly one of `jwks_url` and `secret` is set. The token is read from `Authorization: Bearer` and, when
    named, from `cookie`."""

    jwks_url: str | None
    secret: SecretStr | None
    audience: str | None
    issuer: str | None
    algorithms: tuple[str, ...]
    cookie: str | None
    leeway_s: float


@dataclass(frozen=True, slots=True)
class Auth:
    name: str
    jwt: JwtRule
    require: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BodyRule:
    """`types` empty means any content type."""

    max_bytes: int
    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Deliver:
    url: str
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class Offload:
    """Which work leaves the request. `lead_id`, `contractor`, `photos` and `text` are JMESPath expressions over
    `{"request": <parsed body>, "response": <parsed body>}`."""

    name: str
    when_status: frozenset[int]
    lead_id: str
    contractor: str | None
    photos: str
    text: str
    photo_hosts: tuple[str, ...]
    deliver: Deliver
    starts: Quota | None


@dataclass(frozen=True, slots=True)
class Route:
    """`methods` is None for ANY. `pattern` is as written: literal segments, `*` for one, a last `**` for any number.
    `body` is always set: the route's own rule or the server's default. `line` is where the route stands in the file."""

    name: str
    methods: frozenset[str] | None
    pattern: str
    tier: Tier | None
    auth: Auth | None
    body: BodyRule
    offload: Offload | None
    mode: Mode
    upstream: Upstream
    line: int


@dataclass(frozen=True, slots=True)
class StepLimits:
    timeout_s: float
    retries: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class BreakerRule:
    failures: int
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """`period`: `day` or `month` (UTC). `per`: None for one total, or `contractor`. `warn_at`: shares in 0..1."""

    name: str
    limit_usd_micros: int
    period: str
    per: str | None
    warn_at: tuple[float, ...]
    when_spent: WhenSpent


@dataclass(frozen=True, slots=True)
class AI:
    """`steps` holds `photo_analysis`, `scope` and `estimate`."""

    model: str
    steps: Mapping[str, StepLimits]
    breaker: BreakerRule
    budgets: tuple[BudgetRule, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """What the file promises about a request; None means nothing is said of that part. `without` are lower-case field
    names; `tier` is a tier's name or `none`; `line` and `column` are where the promise stands in the file."""

    method: str
    path: str
    without: tuple[str, ...]
    route: str | None
    tier: str | None
    answers: int | None
    line: int
    column: int = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """`digest` is the first 12 hex digits of the SHA-256 of the file's text: it names a policy in logs and metrics."""

    digest: str
    server: Server
    admin: Admin
    upstreams: Mapping[str, Upstream]
    tiers: Mapping[str, Tier]
    auths: Mapping[str, Auth]
    routes: tuple[Route, ...]
    offloads: Mapping[str, Offload]
    ai: AI | None
    promises: tuple[Promise, ...]
