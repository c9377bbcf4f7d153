"""`tiers`: how often whom.

Pure. Everything that the policy knows about a limit's key is in `KeyPart`; how one is read out of a request is for the
gateway's `keys`. Called by `document`, `policy` and `routes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

from scopegate.limits.barriers import BanRule
from scopegate.limits.window import Quota
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import (
    Choice,
    Count,
    FileName,
    PacedLimit,
    Shape,
    Whole,
    as_list,
    option,
    parsed,
    written,
)
from scopegate.policy.quantities import BAN_PATTERN, MAX_QUOTA_LIMIT, parse_ban
from scopegate.policy.sections import costs
from scopegate.policy.sections.costs import MAX_COSTLY_LIMIT, ONE, Cost, CostWord, Statuses
from scopegate.policy.sections.keys import CLIENT_IP, USER, KeyKind, KeyPart, Keys, parse_api_key
from scopegate.policy.sections.lists import ALLOWED, DENIED, NO_CLIENTS, ClientList, ListedOnes, clients, listed_in
from scopegate.policy.sections.modes import Mode
from scopegate.policy.sidefiles import SideFiles
from scopegate.policy.tree import Fault, Loc

NO_TIER = "none"

# Values


class WhenMissing(StrEnum):
    """What a tier does with a request that lacks a part of the key: count the client's address in its place, refuse
    with 400, or not count it."""

    CLIENT_IP = "client_ip"
    REFUSE = "refuse"
    EXEMPT = "exempt"


class Counting(StrEnum):
    """How a tier's windows count; see `limits/window`."""

    EXACT = "exact"
    GCRA = "gcra"


class OnStoreError(StrEnum):
    """What a tier does while its store is unusable: count in this process, let pass, or refuse with 503."""

    LOCAL = "local"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Tier:
    """`key`: all of its parts together are whom the tier counts. `ipv6_prefix`: how many bits of an IPv6 address are
    one client. `given_back`: the statuses of answers after which a request counts no longer. `in_flight`: how many
    requests of a key may be under way; `quotas` may be empty then."""

    name: str
    quotas: tuple[Quota, ...]
    key: tuple[KeyPart, ...]
    on_store_error: OnStoreError
    ipv6_prefix: int = 64
    when_missing: WhenMissing = WhenMissing.CLIENT_IP
    cost: Cost = ONE
    given_back: frozenset[int] = frozenset()
    allow: ClientList = NO_CLIENTS
    deny: ClientList = NO_CLIENTS
    ban: BanRule | None = None
    in_flight: int | None = None
    mode: Mode = Mode.ENFORCE


BUILT_IN: Mapping[str, Tier] = MappingProxyType(
    {
        "strict": Tier("strict", (Quota(10, 10_000),), CLIENT_IP, OnStoreError.LOCAL),
        "moderate": Tier("moderate", (Quota(30, 10_000),), USER, OnStoreError.LOCAL),
        "lenient": Tier("lenient", (Quota(100, 10_000),), CLIENT_IP, OnStoreError.ALLOW),
    }
)
"""What these three names mean in a file that does not define them."""

# Shape

BanWord: TypeAlias = Annotated[BanRule, parsed(parse_ban), written("15m after 5 refusals in 1m", BAN_PATTERN)]
Limits: TypeAlias = Annotated[
    list[PacedLimit], BeforeValidator(as_list, json_schema_input_type=PacedLimit | list[PacedLimit])
]


class TierShape(Shape):
    limit: Annotated[Limits, Field(max_length=5)] = option(
        [], "`N per T`: at most N requests in any span of T, per key; one limit or a list that all hold."
    )
    in_flight: Count | None = option(None, "How many requests of a key may be under way at once.", le=100_000)
    ban: BanWord | None = option(None, "`15m after 5 refusals in 1m`: who is refused so often is refused for so long.")
    key: Annotated[Keys, Field(min_length=1, max_length=4)] = option(
        "client_ip",
        "Whom the tier counts: client_ip, user, route, global, header:NAME, cookie:NAME, claim:NAME, api_key; a list "
        "means all together.",
    )
    api_key: Annotated[KeyPart, parsed(parse_api_key), written("header:X-API-Key")] = option(
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
    algorithm: Choice[Counting] = option(
        "exact", "`exact` remembers every admission, `gcra` one number: `burst` at once, then at an even pace."
    )
    burst: Count | None = option(None, "With gcra: how many requests may come at once, from 1 to the limit.")
    cost: CostWord = option(
        1, "What a request counts for: a number, `1 per 64KiB` of its body, or `answer:FIELD` of the app's answer."
    )
    refund_on: Statuses = option([], "Statuses of answers (401, 5xx) after which a request counts no longer.")
    count_only: Statuses = option([], "The only statuses of answers after which a request counts.")
    allow: ListedOnes = option([], "Clients that are not counted: networks, user=NAME, header:NAME=VALUE and such.")
    allow_file: FileName | None = option(None, "A file with more of them, one a line.")
    deny: ListedOnes = option([], "Clients that are refused, even if they are allowed.")
    deny_file: FileName | None = option(None, "A file with more of them, one a line.")
    mode: Choice[Mode] = option("enforce", "`watch` counts beside the route's other tiers, and refuses nobody.")
    on_store_error: Choice[OnStoreError] = option(
        "local", "While Redis is unusable: count in this process (local), let pass (allow), or answer 503 (deny)."
    )

    def claims(self) -> Iterator[str]:
        """Those it counts by."""
        return (part.name for part in self.key if part is not None and part.kind is KeyKind.CLAIM)

    def build(self, name: str, beside: SideFiles) -> Tier:
        return Tier(
            name,
            tuple(replace(quota, burst=self.burst or 0) for quota in self.limit),
            tuple(self.api_key if part is None else part for part in self.key),
            self.on_store_error,
            self.ipv6_prefix,
            self.when_missing,
            self.cost,
            costs.given_back(self.refund_on, self.count_only),
            clients([*self.allow, *listed_in(self.allow_file, ALLOWED, beside)], self.api_key),
            clients([*self.deny, *listed_in(self.deny_file, DENIED, beside)], self.api_key),
            self.ban,
            self.in_flight,
            self.mode,
        )


def build(found: Mapping[str, TierShape], used: Set[str], beside: SideFiles) -> dict[str, Tier]:
    """All tiers of a file, and of the built-in ones those that its routes use."""
    built_in = {name: tier for name, tier in BUILT_IN.items() if name in used}
    return built_in | {name: tier.build(name, beside) for name, tier in found.items()}


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    if NO_TIER in draft.names("tiers"):
        yield draft.problem_at_key(("tiers", NO_TIER), "a tier may not be named none: that word means no limit")
    for name, tier in draft.named("tiers", TierShape).items():
        for index, quota in enumerate(tier.limit):
            if any(quota.span_ms == earlier.span_ms for earlier in tier.limit[:index]):
                loc = ("tiers", name, "limit", index)
                yield draft.problem(loc, f"{draft.said(loc)} has the span of an earlier limit of this tier")
        yield from _kind(tier, ("tiers", name), draft)
        yield from _key(tier, ("tiers", name, "key"), draft)
        yield from _algorithm(tier, ("tiers", name), draft)
        yield from _cost(tier, ("tiers", name), draft)


def _kind(tier: TierShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if not tier.limit and tier.in_flight is None:
        yield draft.problem_at_key(loc, "needs `limit` or `in_flight`: nothing is counted without")
    if tier.ban is not None and not tier.limit:
        yield draft.problem_at_key((*loc, "ban"), "needs `limit`: it follows refusals by one")
    if tier.ban is not None and KeyPart(KeyKind.GLOBAL) in tier.key:
        yield draft.problem_at_key((*loc, "ban"), "would ban all visitors at once: count them by something")


def _key(tier: TierShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if len(set(tier.key)) < len(tier.key):
        yield draft.problem(loc, "names a part twice")
    if len(tier.key) > 1 and KeyPart(KeyKind.GLOBAL) in tier.key:
        yield draft.problem(loc, "counts all visitors together, and each of them apart: `global` stands alone")


def _algorithm(tier: TierShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    paced = tier.algorithm is Counting.GCRA
    if paced and tier.burst is None:
        yield draft.problem_at_key((*loc, "algorithm"), "needs `burst`: how many requests may come at once")
    if not paced and tier.burst is not None:
        yield draft.problem_at_key((*loc, "burst"), "is for `algorithm: gcra`: an exact limit may be used at once")
    for index, quota in enumerate(tier.limit):
        where = draft.tree.locate((*loc, "limit", index)).loc
        if paced and tier.burst is not None and tier.burst > quota.limit:
            yield draft.problem((*loc, "burst"), f"is more than {draft.said(where)} admits at all")
        if not paced and quota.limit > MAX_QUOTA_LIMIT:
            what = f"{draft.said(where)} remembers more than {MAX_QUOTA_LIMIT} admissions: write algorithm: gcra"
            yield draft.problem(where, what)


def _cost(tier: TierShape, loc: Loc, draft: Draft) -> Iterator[Fault]:
    if tier.refund_on and tier.count_only:
        yield draft.problem_at_key((*loc, "refund_on"), "cannot stand with `count_only`, which gives all others back")
    for index, quota in enumerate(tier.limit):
        most = tier.burst if tier.algorithm is Counting.GCRA else quota.limit
        where = draft.tree.locate((*loc, "limit", index)).loc
        if most is not None and tier.cost.fixed > most:
            what = f"is more than the {most} that {draft.said(where)} admits at once: no request would ever pass"
            yield draft.problem((*loc, "cost"), what)
        if tier.algorithm is Counting.EXACT and tier.cost != ONE and quota.limit > MAX_COSTLY_LIMIT:
            what = f"cannot stand with {draft.said(where)}, which remembers each: write algorithm: gcra"
            yield draft.problem((*loc, "cost"), what)
