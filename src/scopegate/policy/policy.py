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
from scopegate.types import Json

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


class PathStep(StrEnum):
    """What a server may do to a path before it looks for a handler: drop `;parameters`, take `%2F` and backslashes for
    slashes, decode other escapes, merge `//`, resolve dot segments, ignore letter case."""

    PARAMETERS = "parameters"
    SLASHES = "slashes"
    ESCAPES = "escapes"
    DOUBLES = "doubles"
    DOTS = "dots"
    CASE = "case"


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
    """`hosts` is None when any valid Host is served. `workers` is None for one process per core."""

    listen: Address
    hosts: frozenset[str] | None
    trusted_proxies: tuple[Network, ...]
    workers: int | None
    limits: ServerLimits
    timeouts: ServerTimeouts
    address_from: AddressSource = AddressSource.X_FORWARDED_FOR
    forwarded_host: frozenset[HostUse] = frozenset()


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address


@dataclass(frozen=True, slots=True)
class BreakerRule:
    failures: int
    cooldown_s: float


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream server listens. `host` without brackets for IPv6. With scheme `unix`, `host` is the path of a
    socket and `port` is 0."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        if self.scheme == "unix":
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


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
    """`sign_with` is the key that signs the identity for the app; without it the identity goes unsigned."""

    name: str
    jwt: JwtRule
    require: Mapping[str, str]
    sign_with: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class JsonRule:
    """What a JSON body may be. `schema` is a parsed JSON Schema (draft 2020-12 unless it names another), None for any
    JSON; `schema_file` is where it was read from, for people."""

    max_depth: int
    schema: Json = None
    schema_file: str | None = None


@dataclass(frozen=True, slots=True)
class MultipartRule:
    """What a multipart/form-data body may hold. A file is a part with a file name or with a type other than
    text/plain; `max_file_bytes` bounds each, and every part that tells a type."""

    max_parts: int
    max_files: int
    max_file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BodyRule:
    """`types` are the content types accepted, and none besides; empty means any, and is never so with `json` or
    `multipart`, which rule bodies of their types: then a POST, PUT or PATCH without content is judged, too."""

    max_bytes: int
    types: frozenset[str]
    json: JsonRule | None = None
    multipart: MultipartRule | None = None


@dataclass(frozen=True, slots=True)
class StreamRule:
    """Long-lived answers of a route: WebSocket connections, or server-sent events. `connections_per_client` counts by
    limit group in this process; `message_bytes` bounds one message (one event); `idle_s` is the longest silence."""

    connections_per_client: int
    message_bytes: int
    idle_s: float


@dataclass(frozen=True, slots=True)
class AnswerFields:
    """Security fields of answers. `always` are (name in lower case, value) pairs; `hsts` is the value of
    Strict-Transport-Security, sent only to visitors that came by https (RFC 6797 7.2). The app's own field stays,
    unless `override`."""

    name: str
    always: tuple[tuple[str, str], ...]
    hsts: str | None = None
    override: bool = False


@dataclass(frozen=True, slots=True)
class Cors:
    """Which other origins may use a route from a browser (Fetch standard). `origins` are serialised origins in lower
    case; `any_origin` is `*`, never with `credentials`. Field and method names as they are compared: lower case,
    upper case."""

    name: str
    origins: frozenset[str]
    any_origin: bool
    methods: frozenset[str]
    fields: frozenset[str]
    expose: tuple[str, ...]
    credentials: bool
    max_age_s: float


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
    `body` is always set: the route's own rule or the server's default. `line` is where the route stands in the file.
    Without `websocket` no upgrade passes; without `events` event streams are answers like any other. `reads` are the
    steps by which the app here reads a path; None where nobody knows, and every known reading counts."""

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
    websocket: StreamRule | None = None
    events: StreamRule | None = None
    answer_fields: AnswerFields | None = None
    cors: Cors | None = None
    reads: frozenset[PathStep] | None = None


@dataclass(frozen=True, slots=True)
class StepLimits:
    timeout_s: float
    retries: int
    max_tokens: int


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
    """`digest` is the first 12 hex digits of a SHA-256 over the file's text and the content of the files it names: it
    names a policy in logs and metrics. `files` are the absolute paths of those files (schemas, certificates): a change
    of one is a change of the policy."""

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
    files: tuple[str, ...] = ()
