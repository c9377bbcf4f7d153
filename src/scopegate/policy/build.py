"""A checked document -> the frozen `Policy`: names become what they stand for, what was left out its default.

Pure; nothing can be wrong any more. Sockets are for `build_network`, offloads and the model for `build_work`. Called by
`compile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from scopegate.limits.window import Quota
from scopegate.policy import build_network, build_work, document
from scopegate.policy.browsers import ANY_ORIGIN, security_fields, strict_transport_security
from scopegate.policy.policy import (
    Admin,
    AnswerFields,
    Auth,
    BodyRule,
    Cors,
    JsonRule,
    JwtRule,
    MultipartRule,
    Offload,
    OnStoreError,
    Policy,
    Promise,
    Route,
    StreamRule,
    Tier,
    TierKey,
    Upstream,
)
from scopegate.policy.sidefiles import SideFiles
from scopegate.policy.spelling import NO_TIER, STANDARD_HEADERS
from scopegate.policy.tree import Source

T = TypeVar("T")

BUILT_IN_TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "strict": Tier("strict", (Quota(10, 10_000),), TierKey.CLIENT_IP, OnStoreError.LOCAL),
        "moderate": Tier("moderate", (Quota(30, 10_000),), TierKey.USER, OnStoreError.LOCAL),
        "lenient": Tier("lenient", (Quota(100, 10_000),), TierKey.CLIENT_IP, OnStoreError.ALLOW),
    }
)
"""What these three names mean in a file that does not define them."""


@dataclass(frozen=True, slots=True)
class _Named:
    """What routes name."""

    upstreams: Mapping[str, Upstream]
    tiers: Mapping[str, Tier]
    auths: Mapping[str, Auth]
    headers: Mapping[str, AnswerFields]
    cors: Mapping[str, Cors]
    offloads: Mapping[str, Offload]


def build(found: document.Document, tree: Source, beside: SideFiles) -> Policy:
    """`beside` holds every file that the document names."""
    server = build_network.server(found.server)
    named = _named(found, beside)
    routes = tuple(
        _route(route, named, server.limits.body_bytes, beside, tree.at(("routes", index)).line)
        for index, route in enumerate(found.routes)
    )
    return Policy(
        digest=beside.digest(tree.digest),
        server=server,
        admin=Admin(found.admin.listen),
        upstreams=MappingProxyType(named.upstreams),
        tiers=MappingProxyType(named.tiers),
        auths=MappingProxyType(named.auths),
        routes=routes,
        offloads=MappingProxyType(named.offloads),
        ai=None if found.ai is None else build_work.ai(found.ai),
        promises=tuple(_promise(promise, index, tree) for index, promise in enumerate(found.promises)),
        files=tuple(dict.fromkeys(beside.paths.values())),
    )


def _named(found: document.Document, beside: SideFiles) -> _Named:
    used = {route.tier for route in found.routes} - {NO_TIER}
    tiers = {name: tier for name, tier in BUILT_IN_TIERS.items() if name in used}
    standard = {STANDARD_HEADERS: _answer_fields(STANDARD_HEADERS, document.Headers())}
    return _Named(
        upstreams={name: build_network.upstream(name, one, beside.paths) for name, one in found.upstreams.items()},
        tiers=tiers | {name: _tier(name, tier) for name, tier in found.tiers.items()},
        auths={name: _auth(name, auth) for name, auth in found.auth.items()},
        headers=standard | {name: _answer_fields(name, headers) for name, headers in found.headers.items()},
        cors={name: _cors(name, cors) for name, cors in found.cors.items()},
        offloads={name: build_work.offload(name, offload) for name, offload in found.offloads.items()},
    )


def _route(route: document.Route, named: _Named, body_bytes: int, beside: SideFiles, line: int) -> Route:
    """`body_bytes`: the largest body where the route says nothing."""
    upstream = next(iter(named.upstreams)) if route.upstream is None else route.upstream
    return Route(
        name=route.name,
        methods=route.match.methods,
        pattern=route.match.path,
        tier=named.tiers.get(route.tier),
        auth=_chosen(named.auths, route.auth),
        body=_body(route.body, body_bytes, beside),
        offload=_chosen(named.offloads, route.offload),
        mode=route.mode,
        upstream=named.upstreams[upstream],
        line=line,
        websocket=_stream(route.websocket),
        events=_stream(route.events),
        answer_fields=named.headers.get(route.headers),
        cors=None if route.cors is None else named.cors.get(route.cors),
        reads=None if route.reads is None else frozenset(route.reads),
    )


def _chosen(known: Mapping[str, T], name: str | None) -> T | None:
    return None if name is None else known[name]


def _body(body: document.Body, most_bytes: int, beside: SideFiles) -> BodyRule:
    json, multipart = body.json_, body.multipart
    return BodyRule(
        max_bytes=body.max or most_bytes,
        types=body.accepted,
        json=None if json is None else _json(json, beside),
        multipart=None if multipart is None else MultipartRule(multipart.parts, multipart.files, multipart.file),
    )


def _json(json: document.JsonBody, beside: SideFiles) -> JsonRule:
    if json.schema_ is None:
        return JsonRule(json.depth)
    return JsonRule(json.depth, beside.schemas[json.schema_], beside.paths[json.schema_])


def _stream(stream: document.Stream | None) -> StreamRule | None:
    return None if stream is None else StreamRule(stream.connections_per_client, stream.message, stream.idle)


def _tier(name: str, tier: document.Tier) -> Tier:
    return Tier(name, tuple(tier.limit), tier.key, tier.on_store_error)


def _auth(name: str, auth: document.Auth) -> Auth:
    jwt = auth.jwt
    default = ["RS256"] if jwt.secret is None else ["HS256"]
    rule = JwtRule(
        jwks_url=jwt.jwks,
        secret=jwt.secret,
        audience=jwt.audience,
        issuer=jwt.issuer,
        algorithms=tuple(jwt.algorithms or default),
        cookie=jwt.cookie,
        leeway_s=jwt.leeway,
    )
    return Auth(name, rule, MappingProxyType(dict(auth.require)), auth.sign_with)


def _answer_fields(name: str, headers: document.Headers) -> AnswerFields:
    hsts = headers.hsts
    return AnswerFields(
        name=name,
        always=security_fields(
            nosniff=headers.nosniff,
            frame=headers.frame,
            referrer=headers.referrer,
            csp=headers.csp,
            opener=headers.opener,
        ),
        hsts=None
        if hsts is None
        else strict_transport_security(hsts.max_age, subdomains=hsts.subdomains, preload=hsts.preload),
        override=headers.override,
    )


def _cors(name: str, cors: document.Cors) -> Cors:
    return Cors(
        name=name,
        origins=frozenset(cors.origins) - {ANY_ORIGIN},
        any_origin=ANY_ORIGIN in cors.origins,
        methods=frozenset(cors.methods),
        fields=frozenset(cors.headers),
        expose=tuple(cors.expose),
        credentials=cors.credentials,
        max_age_s=cors.max_age,
    )


def _promise(promise: document.Promise, index: int, tree: Source) -> Promise:
    method, path = promise.request
    place = tree.at(("promises", index))
    return Promise(
        method=method,
        path=path,
        without=tuple(name.lower() for name in promise.without),
        route=promise.route,
        tier=promise.tier,
        answers=promise.answers,
        line=place.line,
        column=place.column,
    )
