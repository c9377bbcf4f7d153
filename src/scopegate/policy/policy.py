"""The policy in force: an immutable snapshot of what `gateway.yaml` means.

Pure values; nobody edits one, a reload replaces it. `policy_of` makes it from a document: names become what they stand
for, what was left out its default. Everything behind the file reader speaks in these words only, each of which stands
in the file of its section; here is the one door to them. Units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from scopegate.policy.addresses import Address, Network, Origin
from scopegate.policy.document import Document
from scopegate.policy.sections import flags, headers, tiers
from scopegate.policy.sections.admin import Admin, IdentityProxy, WordsShown
from scopegate.policy.sections.ai import AI, BudgetRule, WhenSpent
from scopegate.policy.sections.auth import Auth, JwtRule
from scopegate.policy.sections.bodies import BodyRule, JsonRule, MultipartRule
from scopegate.policy.sections.cache import CachedMethod, CacheKey, CacheRule, CacheStore
from scopegate.policy.sections.cors import Cors
from scopegate.policy.sections.costs import Cost
from scopegate.policy.sections.flags import FeatureFlag
from scopegate.policy.sections.headers import AnswerFields
from scopegate.policy.sections.keys import KeyKind, KeyPart
from scopegate.policy.sections.lists import ClientList, ClientValue
from scopegate.policy.sections.modes import Mode
from scopegate.policy.sections.offloads import (
    Deliver,
    Lookup,
    Offload,
    OffloadUrgency,
    OnDatabaseError,
    OnUnreadable,
    Priority,
)
from scopegate.policy.sections.promises import Promise
from scopegate.policy.sections.redirect import Redirect
from scopegate.policy.sections.retention import FOR_EVER, Kept, Retention
from scopegate.policy.sections.routes import Named, PathStep, Route
from scopegate.policy.sections.server import AddressSource, HostUse, Server, ServerLimits, ServerTimeouts
from scopegate.policy.sections.streams import StreamRule
from scopegate.policy.sections.switches import ON, Switch
from scopegate.policy.sections.tiers import NO_TIER, OnStoreError, Tier, WhenMissing
from scopegate.policy.sections.tls import CertificateFiles
from scopegate.policy.sections.upstreams import Ejection, Health, Tls, Upstream, UpstreamTimeouts
from scopegate.policy.sidefiles import SideFiles
from scopegate.policy.tree import Tree

__all__ = [
    "AI",
    "NO_TIER",
    "ON",
    "Address",
    "AddressSource",
    "Admin",
    "AnswerFields",
    "Auth",
    "BodyRule",
    "BudgetRule",
    "CacheKey",
    "CacheRule",
    "CacheStore",
    "CachedMethod",
    "CertificateFiles",
    "ClientList",
    "ClientValue",
    "Cors",
    "Cost",
    "Deliver",
    "Ejection",
    "FeatureFlag",
    "Health",
    "HostUse",
    "IdentityProxy",
    "JsonRule",
    "JwtRule",
    "Kept",
    "KeyKind",
    "KeyPart",
    "Lookup",
    "Mode",
    "MultipartRule",
    "Network",
    "Offload",
    "OffloadUrgency",
    "OnDatabaseError",
    "OnStoreError",
    "OnUnreadable",
    "Origin",
    "PathStep",
    "Policy",
    "Priority",
    "Promise",
    "Redirect",
    "Retention",
    "Route",
    "Server",
    "ServerLimits",
    "ServerTimeouts",
    "StreamRule",
    "Switch",
    "Tier",
    "Tls",
    "Upstream",
    "UpstreamTimeouts",
    "WhenMissing",
    "WhenSpent",
    "WordsShown",
    "policy_of",
]


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
    cache: CacheStore
    flags: Mapping[str, FeatureFlag] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    retention: Retention = FOR_EVER


def policy_of(found: Document, tree: Tree, beside: SideFiles) -> Policy:
    """What a document without problems means. `beside` holds every file that it names."""
    server = found.server.build(beside)
    named = _named(found, beside)
    return Policy(
        digest=beside.digest(tree.digest),
        server=server,
        admin=found.admin.build(),
        upstreams=named.upstreams,
        tiers=named.tiers,
        auths=named.auths,
        routes=tuple(
            route.build(named, server, beside, tree.at(("routes", index)).line)
            for index, route in enumerate(found.routes)
        ),
        offloads=named.offloads,
        ai=None if found.ai is None else found.ai.build(),
        promises=tuple(promise.build(tree.at(("promises", index))) for index, promise in enumerate(found.promises)),
        cache=found.cache.build(),
        flags=named.flags,
        files=tuple(dict.fromkeys(beside.paths.values())),
        retention=found.retention.build(),
    )


def _named(found: Document, beside: SideFiles) -> Named:
    used = {name for route in found.routes for name in route.tier_names()}
    return Named(
        upstreams=MappingProxyType({name: one.build(name, beside) for name, one in found.upstreams.items()}),
        tiers=MappingProxyType(tiers.build(found.tiers, used, beside)),
        auths=MappingProxyType({name: one.build(name) for name, one in found.auth.items()}),
        headers=headers.build(found.headers),
        cors={name: one.build(name) for name, one in found.cors.items()},
        offloads=MappingProxyType({name: one.build(name) for name, one in found.offloads.items()}),
        flags=MappingProxyType(flags.build(found.flags, beside)),
    )
