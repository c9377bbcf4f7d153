"""Whether the parts of a policy file agree with each other: names that must exist, settings that exclude each other.

Pure. Looks at the raw tree for names, so that a fault in one place hides none in another, and at the sections that
could be read for everything else. Called by `compile`; each function gives the faults of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scopegate.limits.pricing import PriceTable
from scopegate.policy import document
from scopegate.policy.addresses import is_local, url_host
from scopegate.policy.agreement_edge import EDGE_CHECKS
from scopegate.policy.draft import Draft
from scopegate.policy.faults import closest
from scopegate.policy.policy import Address, Origin
from scopegate.policy.reach import Covers
from scopegate.policy.spelling import (
    HMAC_KEY_BYTES,
    NO_CORS,
    NO_HEADERS,
    NO_TIER,
    STANDARD_HEADERS,
    is_json_type,
)
from scopegate.policy.tree import Fault, Loc, Scalar, Source

BUILT_IN_TIERS = ("strict", "moderate", "lenient")
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


def disagreements(draft: Draft, source: Source) -> Iterator[Fault]:
    """Every fault and warning between sections, in no order."""
    for check in (*_CHECKS, *EDGE_CHECKS):
        yield from check(draft, source)


def _references(draft: Draft, source: Source) -> Iterator[Fault]:
    """Names that routes and promises use and nothing defines."""
    tiers = {*draft.names("tiers"), *BUILT_IN_TIERS, NO_TIER}
    routes = {str(name) for _, name in draft.texts("routes", "name")}
    known: tuple[tuple[str, str, str, set[str]], ...] = (
        ("routes", "tier", "tier", tiers),
        ("routes", "auth", "auth", set(draft.names("auth"))),
        ("routes", "headers", "set of headers", {*draft.names("headers"), STANDARD_HEADERS, NO_HEADERS}),
        ("routes", "cors", "cors rule", {*draft.names("cors"), NO_CORS}),
        ("routes", "offload", "offload", set(draft.names("offloads"))),
        ("routes", "upstream", "upstream", set(draft.names("upstreams"))),
        ("promises", "tier", "tier", tiers),
        ("promises", "route", "route", routes),
    )
    for section, key, kind, names in known:
        for loc, name in draft.texts(section, key):
            if name not in names and not _is_faulty(source, loc):
                yield Fault(source.at(loc), loc, f"no {kind} is named {source.said(loc)}", closest(name, names))


def _is_faulty(source: Source, loc: Loc) -> bool:
    node = source.locate(loc).node
    return isinstance(node, Scalar) and node.faulty


def _same_names(draft: Draft, source: Source) -> Iterator[Fault]:
    seen: dict[str, Loc] = {}
    for loc, name in draft.texts("routes", "name"):
        yield from _seen_before(seen, name, loc, source, "route")
    budgets = draft.ai.budgets if draft.ai else []
    seen = {}
    for index, budget in enumerate(budgets):
        yield from _seen_before(seen, budget.name, ("ai", "budgets", index, "name"), source, "budget")


def _seen_before(seen: dict[str, Loc], name: str, loc: Loc, source: Source, kind: str) -> Iterator[Fault]:
    if name in seen:
        line = source.at(seen[name]).line
        yield Fault(source.at(loc), loc, f"another {kind} is named {source.said(loc)}, on line {line}")
    seen.setdefault(name, loc)


def _reserved_names(draft: Draft, source: Source) -> Iterator[Fault]:
    for section, word, what in (
        ("tiers", NO_TIER, "a tier may not be named none: that word means no limit"),
        ("headers", NO_HEADERS, "a set of headers may not be named none: that word means no fields"),
        ("cors", NO_CORS, "a cors rule may not be named none: that word means no other origin"),
    ):
        if word in draft.names(section):
            loc = (section, word)
            yield Fault(source.at_key(loc), loc, what)


def _upstreams_chosen(draft: Draft, source: Source) -> Iterator[Fault]:
    names = draft.names("upstreams")
    for index, entry in draft.listed("routes"):
        if len(names) > 1 and "upstream" not in entry:
            loc = ("routes", index)
            yield Fault(source.at(loc), loc, f"`upstream` is missing: there are {len(names)}, say which one")


def _upstream_servers(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, upstream in draft.upstreams.items():
        for index, origin in enumerate(upstream.servers):
            loc = ("upstreams", name, "servers", index)
            if origin in upstream.servers[:index]:
                yield Fault(source.at(loc), loc, f"{source.said(loc)} is listed twice")
            if draft.server is not None and _reaches(origin, draft.server.listen):
                yield Fault(source.at(loc), loc, f"{source.said(loc)} is where this gateway itself listens")


_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _reaches(origin: Origin, listen: Address) -> bool:
    if origin.port != listen.port:
        return False
    if listen.host in _EVERY_INTERFACE:
        return origin.host in _LOOPBACK | _EVERY_INTERFACE
    return origin.host == listen.host or {origin.host, listen.host} <= _LOOPBACK


def _listeners(draft: Draft, source: Source) -> Iterator[Fault]:
    if draft.server is None or draft.admin is None:
        return
    public, private = draft.server.listen, draft.admin.listen
    overlap = public.host == private.host or {public.host, private.host} & _EVERY_INTERFACE
    if public.port == private.port != 0 and overlap:
        loc: Loc = ("admin", "listen") if draft.has("admin") else ("server", "listen")
        yield Fault(source.at(loc), loc, f"public and admin port are both {private.port}: they must differ")


def _tier_spans(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, tier in draft.tiers.items():
        for index, quota in enumerate(tier.limit):
            if any(quota.span_ms == earlier.span_ms for earlier in tier.limit[:index]):
                loc = ("tiers", name, "limit", index)
                yield Fault(source.at(loc), loc, f"{source.said(loc)} has the span of an earlier limit of this tier")


def _jwt(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, auth in draft.auth.items():
        jwt, loc = auth.jwt, ("auth", name, "jwt")
        if (jwt.jwks is None) == (jwt.secret is None):
            yield Fault(source.at_key(loc), loc, "needs exactly one of `jwks` and `secret`")
        yield from _jwt_algorithms(jwt, loc, source)
        yield from _jwt_warnings(jwt, loc, source)


def _jwt_algorithms(jwt: document.Jwt, loc: Loc, source: Source) -> Iterator[Fault]:
    """A public key must never be accepted as an HMAC secret (RFC 8725 3.1)."""
    for index, algorithm in enumerate(jwt.algorithms or ()):
        where = (*loc, "algorithms", index)
        if algorithm in HMAC_KEY_BYTES and jwt.jwks is not None:
            yield Fault(source.at(where), where, f"{source.said(where)} takes a shared key, `jwks` gives public ones")
        if algorithm not in HMAC_KEY_BYTES and jwt.secret is not None:
            yield Fault(source.at(where), where, f"{source.said(where)} takes a public key, `secret` is a shared one")
    secret = jwt.secret.get_secret_value() if jwt.secret is not None else ""
    needed = max((HMAC_KEY_BYTES.get(algorithm, 0) for algorithm in jwt.algorithms or ("HS256",)), default=0)
    if secret and len(secret.encode()) < needed:
        where = (*loc, "secret")
        yield Fault(source.at(where), where, f"is shorter than the {needed} bytes its algorithm needs (RFC 7518 3.2)")


def _jwt_warnings(jwt: document.Jwt, loc: Loc, source: Source) -> Iterator[Fault]:
    if jwt.audience is None:
        what = "no `audience`: a token made for another app of the same issuer passes"
        yield Fault(source.at_key(loc), loc, what, warning=True)
    if jwt.jwks is not None and jwt.jwks.startswith("http://") and not is_local(url_host(jwt.jwks)):
        where = (*loc, "jwks")
        yield Fault(source.at(where), where, "keys fetched without TLS can be replaced on the way", warning=True)


def _offload_routes(draft: Draft, source: Source) -> Iterator[Fault]:
    for index, route in draft.routes.items():
        if route.offload is None:
            continue
        methods, loc = route.match.methods, ("routes", index)
        if methods is None or not methods <= BODY_METHODS:
            what = "an offload reads the request's body: match POST, PUT or PATCH alone"
            yield Fault(source.at((*loc, "match")), (*loc, "match"), what)
        accepted = route.body.accepted
        if not accepted or not all(is_json_type(media) for media in accepted):
            where = (*loc, "body", "types")
            what = "an offload reads JSON: write body: {types: [application/json]}"
            yield Fault(source.at(where), source.locate(where).loc, what)


def _offload_needs_ai(draft: Draft, source: Source) -> Iterator[Fault]:
    if draft.names("offloads") and not draft.has("ai"):
        loc = ("offloads",)
        yield Fault(source.at_key(loc), loc, "an offload needs the section `ai` (`ai: {}` takes every default)")


def _offload_warnings(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, offload in draft.offloads.items():
        url = offload.deliver.url
        if url.startswith("http://") and not is_local(url_host(url)):
            loc = ("offloads", name, "deliver", "url")
            yield Fault(source.at(loc), loc, "the result travels without TLS", warning=True)


def _promise_says_something(draft: Draft, source: Source) -> Iterator[Fault]:
    for index, promise in draft.promises.items():
        if promise.route is None and promise.tier is None and promise.answers is None:
            loc = ("promises", index)
            yield Fault(source.at(loc), loc, "promises nothing: add `route`, `tier` or `answers`")


def _money_has_a_ceiling(draft: Draft, source: Source) -> Iterator[Fault]:
    if draft.ai is not None and not draft.ai.budgets and draft.names("offloads"):
        yield Fault(source.at_key(("ai",)), ("ai",), "no `budgets`: spending has no ceiling", warning=True)


def unpriced(draft: Draft, source: Source, prices: PriceTable | None) -> Iterator[Fault]:
    """A model without a price could be paid for and never counted, so no call to it would ever be made."""
    if draft.ai is not None and prices is not None and prices.price_of(draft.ai.model) is None:
        loc = ("ai", "model")
        yield Fault(
            source.at(loc), loc, f"no price is known for {source.said(loc)}", closest(draft.ai.model, prices.models)
        )


_NAMED_BY_ROUTES = (
    ("tiers", "tier", (*BUILT_IN_TIERS, NO_TIER)),
    ("auth", "auth", ()),
    ("headers", "headers", (STANDARD_HEADERS, NO_HEADERS)),
    ("cors", "cors", (NO_CORS,)),
    ("offloads", "offload", ()),
    ("upstreams", "upstream", ()),
)
"""Section, the key of a route that names an entry of it, and the names that need no entry."""


def _unused(draft: Draft, source: Source) -> Iterator[Fault]:
    """Definitions that no route names. With a single upstream every route uses it; where a route names nothing that
    exists, who knows what it means."""
    for section, key, built_in in _NAMED_BY_ROUTES:
        names = draft.names(section)
        used = {name for _, name in draft.texts("routes", key)}
        if used - {*names, *built_in} or (section == "upstreams" and not used):
            continue
        is_default_used = key == "headers" and any("headers" not in entry for _, entry in draft.listed("routes"))
        for name in names:
            is_default = is_default_used and name == STANDARD_HEADERS
            if name not in used and name not in {NO_TIER, NO_HEADERS, NO_CORS} and not is_default:
                loc = (section, name)
                yield Fault(source.at_key(loc), loc, "no route uses it", warning=True)


def _unreachable(draft: Draft, source: Source) -> Iterator[Fault]:
    """A route that one earlier route covers whole. Matching is that of `edge/routes`: case, trailing slash and
    escapes do not count, HEAD follows GET."""
    earlier = Covers()
    for index, route in draft.routes.items():
        loc: Loc = ("routes", index)
        place = source.at(loc)
        line = earlier.line_of(route.match)
        if line is not None:
            yield Fault(place, loc, f"never reached: the route on line {line} takes all of it", warning=True)
        earlier.add(route.match, place.line)


_CHECKS: tuple[Callable[[Draft, Source], Iterator[Fault]], ...] = (
    _references,
    _same_names,
    _reserved_names,
    _upstreams_chosen,
    _upstream_servers,
    _listeners,
    _tier_spans,
    _jwt,
    _offload_routes,
    _offload_needs_ai,
    _offload_warnings,
    _promise_says_something,
    _money_has_a_ceiling,
    _unused,
    _unreachable,
)
