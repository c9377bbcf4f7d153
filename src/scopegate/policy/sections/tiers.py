"""`tiers`: how often whom.

Pure. Everything that the policy knows about a limit's key is in `TierKey`; how one is counted is for the gateway's
limiter. Called by `document`, `policy` and `routes`.
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
from scopegate.policy.kinds import Choice, Limit, Shape, as_list, option, required
from scopegate.policy.tree import Fault

NO_TIER = "none"

# Values


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


@dataclass(frozen=True, slots=True)
class Tier:
    name: str
    quotas: tuple[Quota, ...]
    key: TierKey
    on_store_error: OnStoreError


BUILT_IN: Mapping[str, Tier] = MappingProxyType(
    {
        "strict": Tier("strict", (Quota(10, 10_000),), TierKey.CLIENT_IP, OnStoreError.LOCAL),
        "moderate": Tier("moderate", (Quota(30, 10_000),), TierKey.USER, OnStoreError.LOCAL),
        "lenient": Tier("lenient", (Quota(100, 10_000),), TierKey.CLIENT_IP, OnStoreError.ALLOW),
    }
)
"""What these three names mean in a file that does not define them."""

# Shape

Limits: TypeAlias = Annotated[list[Limit], BeforeValidator(as_list, json_schema_input_type=Limit | list[Limit])]


class TierShape(Shape):
    limit: Annotated[Limits, Field(min_length=1, max_length=5)] = required(
        "`N per T`: at most N requests in any span of T, per key; one limit or a list that all hold."
    )
    key: Choice[TierKey] = option(
        "client_ip", "Whom the tier counts: client_ip, user (signed in, else the address), global."
    )
    on_store_error: Choice[OnStoreError] = option(
        "local", "While Redis is unusable: count in this process (local), let pass (allow), or answer 503 (deny)."
    )

    def build(self, name: str) -> Tier:
        return Tier(name, tuple(self.limit), self.key, self.on_store_error)


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
