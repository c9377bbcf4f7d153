"""The shape of `gateway.yaml`: every section, field, default and bound, each with its description.

Only here does pydantic meet the file; the JSON Schema comes from `Document`. Values arrive as `source.plain` gives
them and leave parsed. Whether the parts agree with each other is for `agreement`. Called by `compile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, WithJsonSchema

from scopegate.limits.window import Quota
from scopegate.policy import quantities, spelling
from scopegate.policy.policy import Address, Mode, Network, OnStoreError, Origin, TierKey, WhenSpent
from scopegate.policy.source import resolve
from scopegate.policy.tree import Expanded

T = TypeVar("T")


def _text(parse: Callable[[str], T]) -> PlainValidator:
    """A field whose text `parse` turns into its value. A bare number is text without its unit."""

    def validate(value: object) -> T:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError("must be text")
        return parse(str(value))

    return PlainValidator(validate)


def _schema(example: str, pattern: str | None = None) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "examples": [example]}
    return WithJsonSchema(schema | ({"pattern": pattern} if pattern else {}))


def _unexpanded(value: object) -> object:
    """Numbers and yes/no may come from the environment, where everything is text."""
    return resolve(value) if isinstance(value, Expanded) else value


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _duration_s(text: str) -> float:
    return quantities.parse_duration_ms(text) / 1000


def _leeway_s(text: str) -> float:
    seconds = _duration_s(text)
    if seconds > 300:
        raise ValueError("is more than 5m")
    return seconds


def _size_up_to(most: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = quantities.parse_size(text)
        if size > quantities.parse_size(most):
            raise ValueError(f"is more than {most}")
        return size

    return parse


def _workers(value: object) -> int | None:
    value = _unexpanded(value)
    if value == "auto":
        return None
    if type(value) is not int or not 1 <= value <= 256:
        raise ValueError("is neither `auto` nor a whole number from 1 to 256")
    return value


def _secret(value: object) -> SecretStr:
    if not isinstance(value, Expanded) or not value.whole:
        raise ValueError('must come from the environment alone, write it like "${NAME}"')
    if not value and not value.missing:
        raise ValueError("is empty in the environment")
    return SecretStr(str(value))


def _webhook_secret(value: object) -> SecretStr:
    secret = _secret(value)
    if secret.get_secret_value():
        spelling.parse_webhook_secret(secret.get_secret_value())
    return secret


Whole: TypeAlias = Annotated[int, BeforeValidator(_unexpanded)]
Count: TypeAlias = Annotated[Whole, Field(ge=1)]
Name: TypeAlias = Annotated[str, _text(spelling.parse_name), _schema("strict", spelling.NAME_PATTERN)]
Duration: TypeAlias = Annotated[float, _text(_duration_s), _schema("10s", quantities.DURATION_PATTERN)]
Size: TypeAlias = Annotated[int, _text(quantities.parse_size), _schema("256KiB", quantities.SIZE_PATTERN)]
HeadSize: TypeAlias = Annotated[int, _text(_size_up_to("1MiB")), _schema("32KiB", quantities.SIZE_PATTERN)]
TargetSize: TypeAlias = Annotated[int, _text(_size_up_to("64KiB")), _schema("8KiB", quantities.SIZE_PATTERN)]
Leeway: TypeAlias = Annotated[float, _text(_leeway_s), _schema("30s", quantities.DURATION_PATTERN)]
Limit: TypeAlias = Annotated[Quota, _text(quantities.parse_quota), _schema("10 per 10s", quantities.QUOTA_PATTERN)]
Money: TypeAlias = Annotated[
    tuple[int, str], _text(quantities.parse_money), _schema("20 USD per day", quantities.MONEY_PATTERN)
]
Share: TypeAlias = Annotated[float, _text(quantities.parse_share), _schema("80%", quantities.SHARE_PATTERN)]
Listen: TypeAlias = Annotated[Address, _text(spelling.parse_listen), _schema("0.0.0.0:8080")]
Host: TypeAlias = Annotated[str, _text(spelling.parse_host), _schema("leads.example.com")]
Net: TypeAlias = Annotated[Network, _text(spelling.parse_network), _schema("10.0.0.0/8")]
ServerUrl: TypeAlias = Annotated[Origin, _text(spelling.parse_origin), _schema("http://127.0.0.1:3000")]
Url: TypeAlias = Annotated[str, _text(spelling.parse_url), _schema("https://leads.example.com/hook")]
Match: TypeAlias = Annotated[spelling.RequestLine, _text(spelling.parse_match), _schema("POST /api/leads")]
Request: TypeAlias = Annotated[tuple[str, str], _text(spelling.parse_request), _schema("GET /api/leads")]
FieldName: TypeAlias = Annotated[str, _text(spelling.parse_field_name), _schema("Authorization")]
MediaType: TypeAlias = Annotated[str, _text(spelling.parse_media_type), _schema("application/json")]
Expression: TypeAlias = Annotated[str, _text(spelling.parse_expression), _schema("request.photos[].url")]
PhotoHost: TypeAlias = Annotated[str, _text(spelling.parse_photo_host), _schema("*.s3.amazonaws.com")]
Algorithm: TypeAlias = Annotated[
    str,
    _text(spelling.parse_algorithm),
    WithJsonSchema({"type": "string", "enum": [*spelling.ASYMMETRIC, *spelling.HMAC_KEY_BYTES]}),
]
Secret: TypeAlias = Annotated[SecretStr, PlainValidator(_secret), _schema("${JWT_SECRET}", r"^\$\{\w+\}$")]
WebhookSecret: TypeAlias = Annotated[
    SecretStr, PlainValidator(_webhook_secret), _schema("${SCOPEGATE_WEBHOOK_SECRET}", r"^\$\{\w+\}$")
]
Workers: TypeAlias = Annotated[
    int | None,
    PlainValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 256}]}),
]
Path: TypeAlias = Annotated[str, _text(spelling.parse_path), _schema("/api/health")]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Section(BaseModel):
    """Unknown keys are problems, and text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def option(default: object, description: str, **bounds: Any) -> Any:
    """A field that may be left out; its default is spelt as in the file and read by the same rules."""
    return Field(default, validate_default=True, description=description, **bounds)


def section(model: type[Section], description: str) -> Any:
    """A section that may be left out, with the defaults of its fields."""
    return Field(default_factory=model, description=description)


class ServerLimits(Section):
    head: HeadSize = option("32KiB", "Request line and header fields together. At most 1MiB.")
    fields: Count = option(100, "Header fields of one request.", le=1000)
    target: TargetSize = option("8KiB", "Path and query of one request. At most 64KiB.")
    body: Size = option("1MiB", "Body of one request, where its route says nothing else.")
    connections: Count = option(4096, "Open client connections of one process.", le=100_000)
    in_flight: Count = option(512, "Requests served at a time by one process; more get 503.", le=100_000)


class ServerTimeouts(Section):
    head: Duration = option("10s", "From the first byte of a request to the end of its head.")
    body_idle: Duration = option("15s", "The longest pause inside a request body.")
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


class Health(Section):
    path: Path = Field(description="A path that answers 2xx while the server is well.", examples=["/api/health"])
    every: Duration = option("5s", "Time between two questions.")


class Upstream(Section):
    servers: list[ServerUrl] = Field(min_length=1, max_length=64, description="Where the app listens.")
    timeouts: UpstreamTimeouts = section(UpstreamTimeouts, "The longest the app may take.")
    health: Health | None = option(None, "How to ask a server whether it is well. Left out: nobody asks.")


class Tier(Section):
    limit: Annotated[list[Limit], BeforeValidator(_as_list), Field(min_length=1, max_length=5)] = Field(
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


class Body(Section):
    max: Size | None = option(None, "The largest body. Left out: server.limits.body.")
    types: list[MediaType] = option([], "Content types accepted. Empty: any.")


class Route(Section):
    name: Name = Field(description="The route's name in metrics, logs and promises.")
    match: Match = Field(description="METHOD /path; `*` is one segment, a last `**` any number, ANY every method.")
    tier: Name = Field(description="A name out of `tiers`, one of strict, moderate, lenient, or `none`.")
    auth: Name | None = option(None, "A name out of `auth`: who may pass.")
    body: Body = section(Body, "What a body may be.")
    offload: Name | None = option(None, "A name out of `offloads`: the work that leaves the request.")
    mode: Annotated[Mode, Field(strict=False)] = option("enforce", "`watch` decides and counts, and never refuses.")
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
    without: Annotated[list[FieldName], BeforeValidator(_as_list)] = option(
        [], "Header fields the request comes without."
    )
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
    routes: list[Route] = Field(min_length=1, max_length=5000, description="Read from the top, the first match wins.")
    offloads: dict[Name, Offload] = option({}, "Work that leaves the request, by name.")
    ai: AI | None = option(None, "How the model is called and what it may cost. Needed by offloads.")
    promises: list[Promise] = option([], "What must stay true; run by `check` and before each reload.")
