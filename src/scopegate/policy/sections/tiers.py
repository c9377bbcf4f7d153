"""`tiers`: how often whom.

Pure. Everything that the policy knows about a limit's key is in `KeyPart`; how one is read out of a request is for the
gateway's `keys`. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from scopegate.limits.window import Quota
from scopegate.policy.draft import Draft
from scopegate.policy.faults import closest
from scopegate.policy.kinds import Choice, Limit, Shape, Whole, as_list, option, parsed, required, written
from scopegate.policy.spelling import parse_field_name
from scopegate.policy.tree import Fault, Loc

NO_TIER = "none"
MAX_CLAIM_CHARACTERS = 256

# Values


class KeyKind(StrEnum):
    """What of a request may be counted by. `header`, `cookie` and `claim` are of a name."""

    CLIENT_IP = "client_ip"
    USER = "user"
    ROUTE = "route"
    GLOBAL = "global"
    HEADER = "header"
    COOKIE = "cookie"
    CLAIM = "claim"


_NAMED = frozenset({KeyKind.HEADER, KeyKind.COOKIE, KeyKind.CLAIM})
_API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One thing that a tier counts by. `name` is that of the header field (lower case), cookie or claim."""

    kind: KeyKind
    name: str = ""


CLIENT_IP = (KeyPart(KeyKind.CLIENT_IP),)
USER = (KeyPart(KeyKind.USER),)


class WhenMissing(StrEnum):
    """What a tier does with a request that lacks a part of the key: count the client's address in its place, refuse
    with 400, or not count it."""

    CLIENT_IP = "client_ip"
    REFUSE = "refuse"
    EXEMPT = "exempt"


class OnStoreError(StrEnum):
    """What a tier does while its store is unusable: count in this process, let pass, or refuse with 503."""

    LOCAL = "local"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Tier:
    """`key`: all of its parts together are whom the tier counts. `ipv6_prefix`: how many bits of an IPv6 address are
    one client."""

    name: str
    quotas: tuple[Quota, ...]
    key: tuple[KeyPart, ...]
    on_store_error: OnStoreError
    ipv6_prefix: int = 64
    when_missing: WhenMissing = WhenMissing.CLIENT_IP


BUILT_IN: Mapping[str, Tier] = MappingProxyType(
    {
        "strict": Tier("strict", (Quota(10, 10_000),), CLIENT_IP, OnStoreError.LOCAL),
        "moderate": Tier("moderate", (Quota(30, 10_000),), USER, OnStoreError.LOCAL),
        "lenient": Tier("lenient", (Quota(100, 10_000),), CLIENT_IP, OnStoreError.ALLOW),
    }
)
"""What these three names mean in a file that does not define them."""

# Shape

Limits: TypeAlias = Annotated[list[Limit], BeforeValidator(as_list, json_schema_input_type=Limit | list[Limit])]


def _parse_key(text: str) -> KeyPart | None:
    """None for `api_key`: what that is, the tier says beside it."""
    if text == _API_KEY:
        return None
    word, colon, name = text.partition(":")
    if word not in set(KeyKind):
        near = closest(word, [_API_KEY, *KeyKind])
        meant = "" if near is None else f", did you mean {near}?"
        raise ValueError(f"is nothing to count by, write one of {', '.join(_words())}{meant}")
    kind = KeyKind(word)
    if kind not in _NAMED:
        if colon:
            raise ValueError(f"has a name after {kind}, which takes none")
        return KeyPart(kind)
    if not name:
        raise ValueError(f"lacks a name, write it like {kind}:NAME")
    return KeyPart(kind, _claim_name(name) if kind is KeyKind.CLAIM else _field_name(name, kind))


def _words() -> Iterator[str]:
    yield from (f"{kind}:NAME" if kind in _NAMED else kind for kind in KeyKind)
    yield _API_KEY


def _field_name(name: str, kind: KeyKind) -> str:
    try:
        parsed_name = parse_field_name(name)
    except ValueError:
        raise ValueError(f"names no {kind}") from None
    return parsed_name.lower() if kind is KeyKind.HEADER else parsed_name


def _claim_name(name: str) -> str:
    if not name.isprintable() or len(name) > MAX_CLAIM_CHARACTERS:
        raise ValueError("names no claim")
    return name


def _parse_api_key(text: str) -> KeyPart:
    part = _parse_key(text)
    if part is None or part.kind not in {KeyKind.HEADER, KeyKind.COOKIE}:
        raise ValueError("is no place of an API key, write it like header:X-API-Key or cookie:NAME")
    return part


KeyWord: TypeAlias = Annotated[KeyPart | None, parsed(_parse_key), written("header:X-Tenant")]
Keys: TypeAlias = Annotated[list[KeyWord], BeforeValidator(as_list, json_schema_input_type=KeyWord | list[KeyWord])]


class TierShape(Shape):
    limit: Annotated[Limits, Field(min_length=1, max_length=5)] = required(
        "`N per T`: at most N requests in any span of T, per key; one limit or a list that all hold."
    )
    key: Annotated[Keys, Field(min_length=1, max_length=4)] = option(
        "client_ip",
        "Whom the tier counts: client_ip, user, route, global, header:NAME, cookie:NAME, claim:NAME, api_key; a list "
        "means all together.",
    )
    api_key: Annotated[KeyPart, parsed(_parse_api_key), written("header:X-API-Key")] = option(
        "header:X-API-Key", "Where `api_key` is read: header:NAME or cookie:NAME."
    )
    ipv6_prefix: Annotated[Whole, Field(ge=48, le=64)] = option(
        64, "How many bits of an IPv6 address are one client: 48, what a site has, to 64, one network."
    )
    when_missing: Choice[WhenMissing] = option(
        "client_ip",
        "A request without a part of the key: counted by its address instead (client_ip), 400 (refuse), or not counted "
        "(exempt).",
    )
    on_store_error: Choice[OnStoreError] = option(
        "local", "While Redis is unusable: count in this process (local), let pass (allow), or answer 503 (deny)."
    )

    def claims(self) -> Iterator[str]:
        """Those it counts by."""
        return (part.name for part in self.key if part is not None and part.kind is KeyKind.CLAIM)

    def build(self, name: str) -> Tier:
        return Tier(
            name,
            tuple(self.limit),
            tuple(self.api_key if part is None else part for part in self.key),
            self.on_store_error,
            self.ipv6_prefix,
            self.when_missing,
        )


def build(found: Mapping[str, TierShape], used: Set[str]) -> dict[str, Tier]:
    """All tiers of a file, and of the built-in ones those that its routes use."""
    built_in = {name: tier for name, tier in BUILT_IN.items() if name in used}
    return built_in | {name: tier.build(name) for name, tier in found.items()}


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    if NO_TIER in draft.names("tiers"):
        yield draft.problem_at_key(("tiers", NO_TIER), "a tier may not be named none: that word means no limit")
    for name, tier in draft.named("tiers", TierShape).items():
        for index, quota in enumerate(tier.limit):
            if any(quota.span_ms == earlier.span_ms for earlier in tier.limit[:index]):
                loc = ("tiers", name, "limit", index)
                yield draft.problem(loc, f"{draft.said(loc)} has the span of an earlier limit of this tier")
        yield from _key(tier, ("tiers", name, "key"), draft)


def _key(tier: TierShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if len(set(tier.key)) < len(tier.key):
        yield draft.problem(loc, "names a part twice")
    if len(tier.key) > 1 and KeyPart(KeyKind.GLOBAL) in tier.key:
        yield draft.problem(loc, "counts all visitors together, and each of them apart: `global` stands alone")
