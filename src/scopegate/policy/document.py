"""The shape of `gateway.yaml`: every section, field, default and bound, each with its description.

The JSON Schema comes from `Document`. How one value is read is for `kinds`, whether the parts agree with each other
for `agreement`. Called by `compile`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scopegate.policy.browsers import Frame, Opener, Referrer
from scopegate.policy.kinds import (
    Algorithm,
    ContentPolicy,
    CorsField,
    Count,
    Duration,
    Expression,
    FieldName,
    FieldNames,
    Flag,
    HeadSize,
    Host,
    HstsAge,
    Leeway,
    Limit,
    Limits,
    Listen,
    Match,
    MediaType,
    MessageSize,
    Method,
    Money,
    Name,
    Net,
    Path,
    PhotoHost,
    Request,
    Secret,
    Section,
    ServerName,
    ServerUrl,
    Share,
    SideFile,
    SigningKey,
    Size,
    TargetSize,
    Text,
    Url,
    WebhookSecret,
    WebOrigin,
    Whole,
    Workers,
    option,
    section,
)
from scopegate.policy.policy import AddressSource, HostUse, Mode, OnStoreError, PathStep, TierKey, WhenSpent
from scopegate.policy.spelling import FORM_DATA, JSON


class ServerLimits(Section):
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


class ServerTimeouts(Section):
    head: Duration = option("10s", "From the first byte of a request to the end of its head.")
    body_idle: Duration = option("15s", "The longest pause inside a request body.")
    body: Duration = option("5m", "The longest a whole request body may take.")
    keep_alive: Duration = option("60s", "The longest pause between two requests of a connection.")
    drain: Duration = option("30s", "How long requests under way may take once a stop is asked for.")


class Server(Section):
    listen: Listen = option("0.0.0.0:8080", "The public address.")
    hosts: list[Host] | None = option(
        None, "Host names served, anything else is 421. Left out: every valid Host.", min_length=1
    )
    trusted_proxies: list[Net] = option(
        [], "Networks of the proxies that may tell us the visitor's address. Nobody by default."
    )
    client_address: Annotated[AddressSource, Field(strict=False)] = option(
        "x-forwarded-for", "How a trusted proxy tells the visitor's address; nothing else of the kind is believed."
    )
    forwarded_host: list[Annotated[HostUse, Field(strict=False)]] = option(
        [],
        "What X-Forwarded-Host and -Port of a trusted proxy count for: `hosts` (above), `app` (what the app is told).",
    )
    workers: Workers = option(1, "Gateway processes that share the port; `auto` is one per core.")
    limits: ServerLimits = section(ServerLimits, "The most of anything that is taken in.")
    timeouts: ServerTimeouts = section(ServerTimeouts, "The longest that anything may take.")


class Admin(Section):
    listen: Listen = option(
        "127.0.0.1:9900", description="Address of console, metrics and health; never the public port."
    )


class UpstreamTimeouts(Section):
    connect: Duration = option("2s", "To open a connection.")
    response: Duration = option("30s", "From the end of the request to the head of the answer.")
    idle: Duration = option("60s", "How long an unused connection is kept.")
    queue: Duration = option("2s", "The longest a request waits for a free connection; then 503.")


class Health(Section):
    path: Path = Field(description="A path that answers 2xx while the server is well.", examples=["/api/health"])
    every: Duration = option("5s", "Time between two questions.")
    timeout: Duration = option("2s", "The longest an answer may take.")
    unhealthy_after: Count = option(3, "Failures in a row that take a server out.", le=100)
    healthy_after: Count = option(2, "Answers in a row that bring it back.", le=100)


class Eject(Section):
    failures: Count = option(5, "Failed exchanges in a row that take a server out for a while.", le=1000)
    for_: Duration = option("10s", "How long; doubled each time it happens again, at most 16 times this.", alias="for")
    slow_start: Duration = option("10s", "How long the share of a server that comes back grows to its full size.")


class UpstreamBreaker(Section):
    failures: Count = option(
        10, "Failures in a row, over all servers, that open it: requests then get 503 at once.", le=1000
    )
    cooldown: Duration = option("5s", "How long it stays open before one probe.")


class Tls(Section):
    ca: SideFile | None = option(None, "A PEM file of the only authorities believed. Left out: those of the system.")
    server_name: ServerName | None = option(None, "The name a certificate must hold. Left out: the host of the server.")


class Upstream(Section):
    servers: list[ServerUrl] = Field(
        min_length=1, max_length=64, description="Where the app listens: http://, https:// or unix:/path/of.sock."
    )
    timeouts: UpstreamTimeouts = section(UpstreamTimeouts, "The longest the app may take.")
    connections: Count = option(512, "Open connections of one process to each server.", le=10_000)
    waiting: Annotated[Whole, Field(ge=0, le=100_000)] = option(
        1024, "Requests that may wait for a connection, times the number of servers; more get 503."
    )
    health: Health | None = option(None, "How to ask a server whether it is well. Left out: nobody asks.")
    eject: Eject = section(Eject, "When a server that keeps failing gets no requests for a while.")
    breaker: UpstreamBreaker | None = option(None, "When to stop asking all servers. Left out: never.")
    tls: Tls = section(Tls, "How an https server is proven.")


class Tier(Section):
    limit: Annotated[Limits, Field(min_length=1, max_length=5)] = Field(
        description="`N per T`: at most N requests in any span of T, per key; one limit or a list that all hold."
    )
    key: Annotated[TierKey, Field(strict=False)] = option(
        "client_ip", "Whom the tier counts: client_ip, user (signed in, else the address), global."
    )
    on_store_error: Annotated[OnStoreError, Field(strict=False)] = option(
        "local",
        "While Redis is unusable: count in this process (local), let pass (allow), or answer 503 (deny).",
    )


class Jwt(Section):
    jwks: Url | None = option(None, "Where the public keys are published. Either this or `secret`.")
    secret: Secret | None = option(None, "The shared key of HS256, HS384 or HS512.")
    audience: Text | None = option(None, "The `aud` a token must carry.")
    issuer: Text | None = option(None, "The `iss` a token must carry.")
    algorithms: list[Algorithm] | None = option(
        None, "Signatures accepted. Left out: RS256 with `jwks`, HS256 with `secret`.", min_length=1
    )
    cookie: FieldName | None = option(None, "A cookie that may hold the token, besides Authorization: Bearer.")
    leeway: Leeway = option("30s", "How far two clocks may differ. At most 5m.")


class Auth(Section):
    jwt: Jwt = Field(description="How a token is found and proven.")
    require: dict[Text, Text] = option({}, "Claims and the values they must have.")
    sign_with: SigningKey | None = option(
        None, "The key, shared with the app, that signs the identity for it: at least 32 bytes. Left out: unsigned."
    )


class Hsts(Section):
    max_age: HstsAge = option("365d", "How long a browser keeps to https. At most 1000d; 0d takes it back.")
    subdomains: Flag = option(True, "Also for every host below this one.")
    preload: Flag = option(False, "Agrees to be built into browsers: needs subdomains and 365d or more.")


class Headers(Section):
    hsts: Hsts | None = option(None, "Strict-Transport-Security, for visitors that came by https. Left out: none.")
    nosniff: Flag = option(True, "X-Content-Type-Options: nosniff.")
    frame: Frame = option("sameorigin", "X-Frame-Options: who may show a page in a frame; `any` sends no field.")
    referrer: Referrer = option("strict-origin-when-cross-origin", "Referrer-Policy.")
    csp: ContentPolicy | None = option(None, "Content-Security-Policy, as given. Left out: none.")
    opener: Opener | None = option(None, "Cross-Origin-Opener-Policy. Left out: none.")
    override: Flag = option(False, "Replace the app's own fields of these names; else they stay.")


class Cors(Section):
    origins: list[WebOrigin] = Field(
        min_length=1, max_length=100, description="Origins whose pages may read answers, or `*` alone for all."
    )
    methods: list[Method] = option(["GET", "HEAD", "POST"], "Methods they may use.", min_length=1)
    headers: list[CorsField] = option([], "Request fields they may set beyond the safe ones.", max_length=100)
    expose: list[CorsField] = option([], "Answer fields their scripts may read beyond the safe ones.", max_length=100)
    credentials: Flag = option(False, "Whether cookies and Authorization come along. Never with `*`.")
    max_age: Duration = option("10m", "How long a browser remembers this. At most 1d.")


class JsonBody(Section):
    depth: Count = option(32, "How deep objects and lists may be nested.", le=128)
    schema_: SideFile | None = option(
        None,
        "A file with the JSON Schema that bodies must meet, beside this file. At most 1MiB, nothing remote.",
        alias="schema",
    )


class MultipartBody(Section):
    parts: Count = option(50, "Parts of one body, files and fields.", le=1000)
    files: Annotated[Whole, Field(ge=0, le=1000)] = option(10, "Files among them.")
    file: Size | None = option(None, "The largest file. Left out: as large as the body.")


class Body(Section):
    max: Size | None = option(None, "The largest body. Left out: server.limits.body.")
    types: list[MediaType] = option(
        [], "Content types accepted. Left out: those that `json` and `multipart` rule; any where neither stands."
    )
    json_: JsonBody | None = option(None, "What a JSON body may be; at most 16MiB is read.", alias="json")
    multipart: MultipartBody | None = option(None, "What a multipart/form-data body may hold.")

    @property
    def accepted(self) -> frozenset[str]:
        """The content types accepted; empty for any, which no rule goes with: one of another type would slip past."""
        ruled = ((self.json_, JSON), (self.multipart, FORM_DATA))
        return frozenset(self.types or [media for rule, media in ruled if rule is not None])


class Stream(Section):
    connections_per_client: Count = option(10, "Open at a time by one client, in one process.", le=10_000)
    message: MessageSize = option("64KiB", "The largest message. At most 16MiB.")
    idle: Duration = option("5m", "The longest silence of both sides. At most 1d.")


class Route(Section):
    name: Name = Field(description="The route's name in metrics, logs and promises.")
    match: Match = Field(description="METHOD /path; `*` is one segment, a last `**` any number, ANY every method.")
    tier: Name = Field(description="A name out of `tiers`, one of strict, moderate, lenient, or `none`.")
    auth: Name | None = option(None, "A name out of `auth`: who may pass.")
    body: Body = section(Body, "What a body may be.")
    headers: Name = option("standard", "A name out of `headers`, or `none`: security fields of its answers.")
    cors: Name | None = option(None, "A name out of `cors`: which other origins may use it. Left out: none.")
    websocket: Stream | None = option(
        None, "Lets WebSocket connections pass, within these bounds. Left out: none pass."
    )
    events: Stream | None = option(None, "Bounds for server-sent events. Left out: they are answers like any other.")
    offload: Name | None = option(None, "A name out of `offloads`: the work that leaves the request.")
    mode: Annotated[Mode, Field(strict=False)] = option("enforce", "`watch` decides and counts, and never refuses.")
    reads: list[Annotated[PathStep, Field(strict=False)]] | None = option(
        None, "What the app does to a path before it routes; [] is nothing. Left out: unknown, all readings must agree."
    )
    upstream: Name | None = option(None, "A name out of `upstreams`. May be left out where there is one.")


class When(Section):
    status: Annotated[list[Annotated[Whole, Field(ge=200, le=299)]], Field(min_length=1)] = option(
        [200, 201], "Answers of the app that mean: lead accepted."
    )


class Deliver(Section):
    url: Url = Field(description="Where the app takes the result.")
    secret: WebhookSecret = Field(description="Signs the result (Standard Webhooks): whsec_... or at least 16 bytes.")


class Offload(Section):
    when: When = section(When, "Which exchanges make a job.")
    lead_id: Expression = Field(description="JMESPath over {request, response}: the lead's id.")
    contractor: Expression | None = option(None, "JMESPath: the contractor, for budgets and reports.")
    photos: Expression = Field(description="JMESPath: a list of photo URLs.")
    text: Expression = Field(description="JMESPath: the visitor's own words.")
    photo_hosts: list[PhotoHost] = Field(min_length=1, description="The only hosts photos are fetched from.")
    deliver: Deliver = Field(description="How the result reaches the app.")
    starts: Limit = option("10 per 1m", "The most job starts, over all workers.")


class Step(Section):
    timeout: Duration | None = option(None, "The longest one call may take.")
    retries: Annotated[Whole, Field(ge=0, le=10)] | None = option(None, "Calls after the first.")
    max_tokens: Annotated[Count, Field(le=64_000)] | None = option(None, "The longest answer.")


class Steps(Section):
    photo_analysis: Step = section(Step, "Reads the photos. 45s, 3 retries, 2048 tokens.")
    scope: Step = section(Step, "Writes the scope of work. 60s, 3 retries, 4096 tokens.")
    estimate: Step = section(Step, "Drafts the estimate. 60s, 3 retries, 4096 tokens.")


class Breaker(Section):
    failures: Annotated[Count, Field(le=1000)] = option(5, "Failures in a row that open it.")
    cooldown: Duration = option("60s", "How long it stays open before one probe.")


class Budget(Section):
    name: Name = Field(description="The budget's name in metrics, logs and history.")
    limit: Money = Field(description="The most that may be spent in a UTC day or month.")
    per: Literal["contractor"] | None = option(None, "One such budget for each contractor.")
    warn_at: list[Share] = option([], "Shares of the limit that raise a warning, each once per period.")
    when_spent: Annotated[WhenSpent, Field(strict=False)] = option(
        "hold", "A job that finds it spent waits for the next period (hold) or fails (fail)."
    )


class AI(Section):
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.@:/-]{0,99}$")] = option(
        "claude-haiku-5-5", description="The model every step calls."
    )
    steps: Steps = section(Steps, "Bounds of each call.")
    breaker: Breaker = section(Breaker, "When to stop calling for a while.")
    budgets: list[Budget] = option([], "Ceilings on money. None: no ceiling.")


class Promise(Section):
    request: Request = Field(description="METHOD /path, as a client would send it, signed in and well-formed.")
    without: FieldNames = option([], "Header fields the request comes without.")
    route: Name | None = option(None, "The route it must meet.")
    tier: Name | None = option(None, "The tier it must be counted in, or `none`.")
    answers: Annotated[Whole, Field(ge=400, le=599)] | None = option(
        None, "The status the gateway must refuse it with."
    )


class Document(Section):
    """A scopegate policy file. Durations and sizes carry units; ${NAME} and ${NAME:-default} come from the
    environment, and secrets only so."""

    version: Annotated[Whole, Field(ge=1, le=1)] = Field(description="The version of this shape: 1.")
    server: Server = section(Server, "The public port.")
    admin: Admin = section(Admin, "The private port.")
    upstreams: dict[Name, Upstream] = Field(min_length=1, description="The apps behind the gateway, by name.")
    tiers: dict[Name, Tier] = option({}, "Rate limits, by name.")
    auth: dict[Name, Auth] = option({}, "Sign-in rules, by name.")
    headers: dict[Name, Headers] = option({}, "Sets of security fields for answers, by name.")
    cors: dict[Name, Cors] = option({}, "Which other origins may use a route from a browser, by name.")
    routes: list[Route] = Field(min_length=1, max_length=5000, description="Read from the top, the first match wins.")
    offloads: dict[Name, Offload] = option({}, "Work that leaves the request, by name.")
    ai: AI | None = option(None, "How the model is called and what it may cost. Needed by offloads.")
    promises: list[Promise] = option([], "What must stay true; run by `check` and before each reload.")
