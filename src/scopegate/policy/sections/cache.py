"""`cache`: what of a route's answers is kept and for how long, and how much may be kept at all.

Pure. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, SecretStr

from scopegate.policy.kinds import (
    Choice,
    Duration,
    FieldName,
    Flag,
    Shape,
    option,
    parsed,
    secret,
    section,
    size_up_to,
    written,
    written_secret,
)
from scopegate.policy.quantities import SHARE_PATTERN, SIZE_PATTERN, parse_share
from scopegate.policy.spelling import parse_webhook_secret

NEXT_FIELDS = (
    "rsc",
    "next-router-state-tree",
    "next-router-prefetch",
    "next-router-segment-prefetch",
    "next-url",
    "x-nextjs-data",
)
"""What Next.js answers differently by, whether its Vary says so or not."""

# Values


class CachedMethod(StrEnum):
    GET = "GET"
    HEAD = "HEAD"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """What tells answers of one path apart. `query` are the names of the parameters that count (and that alone reach
    the app), None for all of them as sent. `headers` in lower case; `cookies` as named. `languages` are the paths, some
    ending in `/**`, at which the visitor's languages count."""

    query: frozenset[str] | None = None
    headers: tuple[str, ...] = NEXT_FIELDS
    cookies: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("/",)


@dataclass(frozen=True, slots=True)
class CacheRule:
    """What is kept of a route's answers. `ttl_s` and `heuristic` (a share of the time since Last-Modified, RFC 9111
    4.2.2) hold where the app says nothing; 0 for not at all. The stale times hold where it names none."""

    key: CacheKey
    ttl_s: float
    heuristic: float
    methods: frozenset[CachedMethod]
    max_object_bytes: int
    stale_while_revalidate_s: float
    stale_if_error_s: float
    ignore_client_no_cache: bool


@dataclass(frozen=True, slots=True)
class CacheStore:
    """How much is kept: in each gateway process, and by all of them together in Redis, 0 for none. `wait_s` is how
    long a visitor waits for the answer that another's request brings."""

    memory_bytes: int
    redis_bytes: int
    wait_s: float
    purge_secret: SecretStr | None = None
    """What the app signs its purges with; None where it may ask for none."""


# Shapes


QueryName: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._~-]+$")]
HeuristicShare: TypeAlias = Annotated[float, parsed(parse_share), written("10%", SHARE_PATTERN)]


ObjectSize: TypeAlias = Annotated[int, parsed(size_up_to("64MiB")), written("1MiB", SIZE_PATTERN)]
StoreSize: TypeAlias = Annotated[int, parsed(size_up_to("64GiB")), written("64MiB", SIZE_PATTERN)]


def parse_language_path(text: str) -> str:
    if not text.startswith("/") or "*" in text.removesuffix("/**"):
        raise ValueError("is not a path: write / or /shop, or /shop/** for all below it")
    return text


LanguagePath: TypeAlias = Annotated[str, parsed(parse_language_path), written("/")]


class CacheKeyShape(Shape):
    query: Literal["all", "none"] | list[QueryName] = option(
        "all", "`all`, `none`, or the parameters that count; the app is sent no others.", max_length=50
    )
    headers: list[FieldName] = option(
        list(NEXT_FIELDS), "Request fields that count beside those of Vary. Left out: what Next.js goes by.",
        max_length=20,
    )  # fmt: skip
    cookies: list[FieldName] = option([], "Cookies that count. No other is looked at.", max_length=10)
    languages: list[LanguagePath] = option(
        ["/"],
        "Paths at which Accept-Language and the cookie NEXT_LOCALE count: where the app leads visitors to their "
        "language and says so in no Vary, as Next.js does on its start page.",
        max_length=20,
    )

    def build(self) -> CacheKey:
        if isinstance(self.query, list):
            query: frozenset[str] | None = frozenset(self.query)
        else:
            query = None if self.query == "all" else frozenset()
        headers = tuple(dict.fromkeys(name.lower() for name in self.headers))
        return CacheKey(query, headers, tuple(dict.fromkeys(self.cookies)), tuple(dict.fromkeys(self.languages)))


class RouteCacheShape(Shape):
    ttl: Duration | None = option(
        None, "How long an answer is fresh where the app says nothing of it. Left out: it is not kept."
    )
    heuristic: HeuristicShare | None = option(
        None, "The same as a share of the time since its Last-Modified (RFC 9111 4.2.2), at most 1d."
    )
    key: CacheKeyShape = section(CacheKeyShape, "What tells answers of one path apart.")
    methods: list[Choice[CachedMethod]] = option(
        ["GET", "HEAD"], "The methods that are answered from it.", min_length=1
    )
    max_object: ObjectSize = option("1MiB", "The largest body that is kept. At most 64MiB.")
    stale_while_revalidate: Duration | None = option(
        None, "How long a stale answer is given while a newer one is fetched (RFC 5861), where the app names no time."
    )
    stale_if_error: Duration | None = option(
        None, "How long a stale answer is given while the app fails, where the app names no time."
    )
    ignore_client_no_cache: Flag = option(False, "Whether visitors' own Cache-Control counts for nothing.")

    def build(self) -> CacheRule:
        return CacheRule(
            key=self.key.build(),
            ttl_s=self.ttl or 0.0,
            heuristic=self.heuristic or 0.0,
            methods=frozenset(self.methods),
            max_object_bytes=self.max_object,
            stale_while_revalidate_s=self.stale_while_revalidate or 0.0,
            stale_if_error_s=self.stale_if_error or 0.0,
            ignore_client_no_cache=self.ignore_client_no_cache,
        )


def _purge_secret(value: object) -> SecretStr:
    key = secret(value)
    if key.get_secret_value():
        parse_webhook_secret(key.get_secret_value())
    return key


PurgeSecret: TypeAlias = Annotated[
    SecretStr, PlainValidator(_purge_secret), written_secret("${SCOPEGATE_PURGE_SECRET}")
]


class CacheShape(Shape):
    memory: StoreSize = option("64MiB", "What answers may take in each gateway process.")
    redis: StoreSize | None = option(
        None, "What they may take in Redis, for all gateways together. Left out: each process has its own alone."
    )
    purge_secret: PurgeSecret | None = option(
        None, "What the app signs its purges with (Standard Webhooks): whsec_... or at least 16 bytes."
    )
    wait: Duration = option("5s", "How long a visitor waits for an answer that is fetched for another already.")

    def build(self) -> CacheStore:
        return CacheStore(self.memory, self.redis or 0, self.wait, self.purge_secret)
