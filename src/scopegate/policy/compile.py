"""A policy file's text -> the frozen `Policy`, or every problem with it at once, in file order.

Pure: the file's bytes and the environment are arguments. The order of work is read, shape, agreement, build; a fault
in one place hides none in another. Called by `policy.load` and `policy.examine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import ValidationError

from scopegate.errors import Problem
from scopegate.limits.pricing import PriceTable
from scopegate.limits.window import Quota
from scopegate.policy import agreement, document, source
from scopegate.policy.draft import draft_of
from scopegate.policy.faults import faults_of
from scopegate.policy.policy import (
    AI,
    Admin,
    Auth,
    BodyRule,
    BreakerRule,
    BudgetRule,
    Deliver,
    Health,
    JwtRule,
    Offload,
    OnStoreError,
    Policy,
    Promise,
    Route,
    Server,
    ServerLimits,
    ServerTimeouts,
    StepLimits,
    Tier,
    TierKey,
    Upstream,
    UpstreamTimeouts,
)
from scopegate.policy.spelling import NO_TIER
from scopegate.policy.tree import Source, plain

BUILT_IN_TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "strict": Tier("strict", (Quota(10, 10_000),), TierKey.CLIENT_IP, OnStoreError.LOCAL),
        "moderate": Tier("moderate", (Quota(30, 10_000),), TierKey.USER, OnStoreError.LOCAL),
        "lenient": Tier("lenient", (Quota(100, 10_000),), TierKey.CLIENT_IP, OnStoreError.ALLOW),
    }
)
"""What these three names mean in a file that does not define them."""

STEP_DEFAULTS: Mapping[str, StepLimits] = MappingProxyType(
    {
        "photo_analysis": StepLimits(45.0, 3, 2048),
        "scope": StepLimits(60.0, 3, 4096),
        "estimate": StepLimits(60.0, 3, 4096),
    }
)


@dataclass(frozen=True, slots=True)
class Review:
    """What is known of a policy file. `policy` is None exactly when there are `problems`."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def compile_policy(
    raw: bytes, file: str, environ: Mapping[str, str], *, prices: PriceTable | None = None, lenient: bool = False
) -> Review:
    """With `prices`, a model has to be in them. `lenient`: a secret the environment lacks is a warning and empty in the
    policy, which is then fit for questions (`check`) and never for serving."""
    tree = source.read(raw, file, environ, lenient=lenient)
    faults = list(tree.faults)
    found: document.Document | None = None
    if tree.root is not None:
        data = plain(tree.root)
        try:
            found = document.Document.model_validate(data)
        except ValidationError as error:
            faults += faults_of(error, tree)
        draft = draft_of(data)
        faults += agreement.disagreements(draft, tree)
        faults += agreement.unpriced(draft, tree, prices)
    faults.sort(key=lambda fault: fault.place)
    problems = _unique(fault.problem(file) for fault in faults if not fault.warning)
    warnings = _unique(fault.problem(file) for fault in faults if fault.warning)
    policy = _build(found, tree) if found is not None and not problems else None
    return Review(policy, problems, warnings)


def _unique(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In the order given, each once."""
    return tuple(dict.fromkeys(problems))


def _build(found: document.Document, tree: Source) -> Policy:
    server = _server(found.server)
    upstreams = {name: _upstream(name, upstream) for name, upstream in found.upstreams.items()}
    auths = {name: _auth(name, auth) for name, auth in found.auth.items()}
    offloads = {name: _offload(name, offload) for name, offload in found.offloads.items()}
    used = {route.tier for route in found.routes} - {NO_TIER}
    tiers = {name: tier for name, tier in BUILT_IN_TIERS.items() if name in used}
    tiers |= {name: _tier(name, tier) for name, tier in found.tiers.items()}
    only_upstream = next(iter(upstreams.values()))
    routes = tuple(
        Route(
            name=route.name,
            methods=route.match.methods,
            pattern=route.match.path,
            tier=tiers.get(route.tier),
            auth=None if route.auth is None else auths[route.auth],
            body=BodyRule(route.body.max or server.limits.body_bytes, frozenset(route.body.types)),
            offload=None if route.offload is None else offloads[route.offload],
            mode=route.mode,
            upstream=only_upstream if route.upstream is None else upstreams[route.upstream],
            line=tree.at(("routes", index)).line,
        )
        for index, route in enumerate(found.routes)
    )
    return Policy(
        digest=tree.digest,
        server=server,
        admin=Admin(found.admin.listen),
        upstreams=MappingProxyType(upstreams),
        tiers=MappingProxyType(tiers),
        auths=MappingProxyType(auths),
        routes=routes,
        offloads=MappingProxyType(offloads),
        ai=None if found.ai is None else _ai(found.ai),
        promises=tuple(_promise(promise, index, tree) for index, promise in enumerate(found.promises)),
    )


def _server(server: document.Server) -> Server:
    limits, timeouts = server.limits, server.timeouts
    return Server(
        listen=server.listen,
        hosts=None if server.hosts is None else frozenset(server.hosts),
        trusted_proxies=tuple(server.trusted_proxies),
        workers=server.workers,
        limits=ServerLimits(
            head_bytes=limits.head,
            fields=limits.fields,
            target_bytes=limits.target,
            body_bytes=limits.body,
            connections=limits.connections,
            in_flight=limits.in_flight,
        ),
        timeouts=ServerTimeouts(
            head_s=timeouts.head,
            body_idle_s=timeouts.body_idle,
            keep_alive_s=timeouts.keep_alive,
            drain_s=timeouts.drain,
        ),
    )


def _upstream(name: str, upstream: document.Upstream) -> Upstream:
    timeouts, health = upstream.timeouts, upstream.health
    return Upstream(
        name=name,
        servers=tuple(upstream.servers),
        timeouts=UpstreamTimeouts(timeouts.connect, timeouts.response, timeouts.idle),
        health=None if health is None else Health(health.path, health.every),
    )


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
    return Auth(name, rule, MappingProxyType(dict(auth.require)))


def _offload(name: str, offload: document.Offload) -> Offload:
    return Offload(
        name=name,
        when_status=frozenset(offload.when.status),
        lead_id=offload.lead_id,
        contractor=offload.contractor,
        photos=offload.photos,
        text=offload.text,
        photo_hosts=tuple(offload.photo_hosts),
        deliver=Deliver(offload.deliver.url, offload.deliver.secret),
        starts=offload.starts,
    )


def _ai(ai: document.AI) -> AI:
    steps = {name: _step(getattr(ai.steps, name), default) for name, default in STEP_DEFAULTS.items()}
    return AI(
        model=ai.model,
        steps=MappingProxyType(steps),
        breaker=BreakerRule(ai.breaker.failures, ai.breaker.cooldown),
        budgets=tuple(_budget(budget) for budget in ai.budgets),
    )


def _step(step: document.Step, default: StepLimits) -> StepLimits:
    return StepLimits(
        timeout_s=default.timeout_s if step.timeout is None else step.timeout,
        retries=default.retries if step.retries is None else step.retries,
        max_tokens=default.max_tokens if step.max_tokens is None else step.max_tokens,
    )


def _budget(budget: document.Budget) -> BudgetRule:
    limit_usd_micros, period = budget.limit
    return BudgetRule(
        name=budget.name,
        limit_usd_micros=limit_usd_micros,
        period=period,
        per=budget.per,
        warn_at=tuple(sorted(set(budget.warn_at))),
        when_spent=budget.when_spent,
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
