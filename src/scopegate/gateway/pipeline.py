"""The life of a proxied request, top to bottom: `pipeline` is the list of its steps over one `Exchange`.

What a request meets is decided here, by pure rules of `edge` and one atomic step of the limit store; what happens after
`forward`, the connections tell. Made once by `app`, run by `protocol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from scopegate import logs
from scopegate.edge import headers
from scopegate.edge.bodies import accepted_type
from scopegate.edge.caller import (
    client_address,
    forwarded_client,
    is_https,
    is_introduced_by_https,
    is_trusted,
    limit_group,
)
from scopegate.edge.cors import asked_method
from scopegate.edge.field_rules import PAGE_DATA
from scopegate.edge.headers import Noted
from scopegate.edge.max_forwards import forwards_left
from scopegate.edge.proxy_protocol import Told
from scopegate.edge.public_host import public_host
from scopegate.edge.readings import readings
from scopegate.edge.routes import AMBIGUOUS, Ambiguous, NoRoute
from scopegate.edge.target import NOT_SERVED, judge_target
from scopegate.edge.verdict import Caller, Refusal, Reply
from scopegate.gateway.bodies import hold, judge_body
from scopegate.gateway.client import Client
from scopegate.gateway.events import EventsExpected
from scopegate.gateway.exchange import Exchange, Outcome, Step
from scopegate.gateway.forwarding import Forwarding
from scopegate.gateway.incoming import Incoming, too_large
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.responses import TOO_MANY_AT_ONCE
from scopegate.gateway.ruleset import RoutePlan, Ruleset
from scopegate.gateway.section import NOBODY, HeaderSection
from scopegate.gateway.spending import Spending
from scopegate.gateway.websocket import open_websocket
from scopegate.policy.inner import PAGE_DATA_FIELDS
from scopegate.policy.policy import AddressSource
from scopegate.policy.spelling import METHODS

_log = logs.get("pipeline")

if TYPE_CHECKING:
    from scopegate.gateway.caching import Cache
    from scopegate.gateway.intake import Intake
    from scopegate.gateway.late import LateSignIn
    from scopegate.gateway.signin import SignIn

_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods that need no body, also where bodies are judged."""


def admit(x: Exchange) -> Outcome:
    """More requests at once than the policy allows are turned away before they cost anything."""
    if x.shared.in_flight > x.rules.limits.in_flight:
        return Refusal(503, "overloaded", "Too many requests at once.", ((b"retry-after", b"1"),), close=True)
    return None


def admit_caller(x: Exchange) -> Outcome:
    """One client has so many requests in flight and no more: the places of all are not one's to take."""
    group = x.caller.group
    if x.shared.askers.enter(group, x.rules.limits.in_flight_per_client):
        x.counted_for = group
        return None
    return TOO_MANY_AT_ONCE


def read_fields(x: Exchange) -> Outcome:
    """What the fields say: framing, connection, ids."""
    heads = x.client.heads
    section = heads.section
    if section is None:
        head = x.head
        notes = headers.read_request(head.lines, head.version, x.rules.fields)
        if isinstance(notes, Refusal):
            return notes
        section = HeaderSection(x.rules, notes, head.version)
        heads.keep(section)
    x.section = section
    x.notes = section.notes
    x.keep_alive = section.keep_alive
    if x.notes.length != 0:
        x.body_done = False
        x.incoming = incoming = Incoming(x, x.notes.length)
        x.client.open_body(incoming, incoming.length, expects_continue=section.expects_continue)
    x.request_id = section.request_id or x.request_id
    x.trace = section.trace or x.shared.traces.begin()
    return None


def find_caller(x: Exchange) -> Outcome:
    """Whose request it is, and how they came: told by trusted proxies only, in the one way that the policy names."""
    section = x.section
    if section.caller is NOBODY:
        peer = x.client.peer
        address, https = _who_asks(peer, x.client.introduction, section.notes, x.rules)
        x.caller = Caller(address, limit_group(address))
        if x.rules.hears_of_host and _is_proxy(x.client, x.rules):
            public = public_host(section.notes.get(b"x-forwarded-host"), section.notes.get(b"x-forwarded-port"))
            if isinstance(public, Refusal):
                return public
            section.public = public
        section.caller = x.caller
        section.scheme = b"https" if https or x.client.is_tls else b"http"
        section.chain = address.encode() if address == peer else b"%b, %b" % (address.encode(), peer.encode())
    x.caller = section.caller
    x.scheme = section.scheme
    return None


def _is_proxy(client: Client, rules: Ruleset) -> bool:
    """Whether a trusted proxy speaks on this connection."""
    if rules.address_from is AddressSource.PROXY_PROTOCOL:
        return client.introduction is not None
    return is_trusted(client.peer, rules.trusted)


def _who_asks(peer: str, told: Told | None, notes: Noted, rules: Ruleset) -> tuple[str, bool]:
    """The client's address, and whether they came by https. `told` is how the connection was introduced."""
    trusted, source = rules.trusted, rules.address_from
    if source is AddressSource.PROXY_PROTOCOL:  # `peer` is whom it named
        return client_address(peer, (), ()), is_introduced_by_https(told, notes.get(b"x-forwarded-proto"))
    if not trusted:
        return client_address(peer, (), ()), False
    if source is AddressSource.FORWARDED:
        return forwarded_client(peer, notes.get(b"forwarded"), trusted)
    if source is AddressSource.X_FORWARDED_FOR:
        said = notes.get(b"x-forwarded-proto")
        https = bool(said) and is_trusted(peer, trusted) and is_https(said)
        return client_address(peer, notes.get(b"x-forwarded-for"), trusted), https
    assert_never(source)


def find_target(x: Exchange) -> Outcome:
    """What is asked for, as it was sent: what is judged is forwarded."""
    public, served = x.section.public, x.rules.hosts
    if public is not None and public.host and x.rules.serves_told_host:
        x.asked_host = public.asked
        if served is not None and x.asked_host not in served:
            return NOT_SERVED
        served = None
    target = x.section.target
    if target is None or target.raw != x.head.target or target.method.encode() != x.head.method:
        judged = judge_target(x.head.method, x.head.target, x.notes.get(b"host"), served)
        if isinstance(judged, Refusal):
            return judged
        target = judged
        x.section.keep(target)
    x.target = target
    x.method = target.method
    x.path = target.path
    if x.section.asks_for_page_data and not _is_page_data(x.path):
        x.notes = x.notes.without(PAGE_DATA_FIELDS)
    return None


def _is_page_data(path: str) -> bool:
    """However a server may read it."""
    every = readings(path)
    return every is not None and all(PAGE_DATA in reading.path for reading in every)


def find_route(x: Exchange) -> Outcome:
    """The one route whose policy holds, however a server may read the path."""
    if x.method == "OPTIONS":
        outcome = _preflight(x) or _next_hop(x)
        if outcome is not None:
            return outcome
    known = x.section.plan
    if known is not None and x.target is x.section.target:
        x.plan = x.met = known
        return None
    found = _match(x, x.method)
    if isinstance(found, RoutePlan):
        x.plan = x.met = found
        if x.rules.hides:
            x.shown = b"\nroute=%b" % found.name.encode()
        else:
            x.section.plan = found
        return None
    if isinstance(found, Ambiguous):
        _log.info("request.ambiguous", request_id=x.request_id.decode(), path=x.path, routes=found.names)
        if found.watched is None:
            return AMBIGUOUS
        x.plan = x.met = x.rules.plan(found.watched)
        x.plan.tally.watch(AMBIGUOUS.code)
        return None
    if not found.allowed:
        return Refusal(404, "no_route", "Nothing is served here.")
    allow = ", ".join(found.allowed).encode()
    return Refusal(405, "method_not_allowed", "This method is not served here.", ((b"allow", allow),))


def _match(x: Exchange, method: str) -> RoutePlan | NoRoute | Ambiguous:
    """The route of this method, past those that a flag hides from the visitor."""
    rules, host = x.rules, x.asked_host or x.target.host
    found = rules.match(method, x.path, host)
    hidden = frozenset[str]()
    while isinstance(found, RoutePlan) and found.only_if and not rules.flags.opens(found.route, x, x.shared.now_s()):
        hidden |= {found.name}
        found = rules.match(method, x.path, host, hidden)
    return found


def _preflight(x: Exchange) -> Reply | None:
    """The answer to a browser that asks for a page of another origin, when the route of the method it asks about has
    a CORS rule. It carries no credentials, so it is answered before sign-in, and the app never hears of it."""
    origins = x.notes.get(b"origin")
    method = asked_method(origins, x.notes.get(b"access-control-request-method"))
    found = _match(x, method) if method is not None else None
    if method is None or not isinstance(found, RoutePlan) or found.cors is None:
        return None
    x.met = found
    return Reply(204, found.cors.preflight(origins, method, x.notes.get(b"access-control-request-headers")))


def _next_hop(x: Exchange) -> Outcome:
    """Max-Forwards, counted down; a request that may go no further is answered here."""
    left = forwards_left(x.notes.get(b"max-forwards"))
    if left is None or isinstance(left, Refusal):
        return left
    if left > 0:
        x.notes = x.notes.replacing(b"max-forwards", b"%d" % (left - 1))
        return None
    served = x.rules.served(METHODS, x.path, x.asked_host or x.target.host)
    return Reply(204, b"allow: %b\r\n" % ", ".join(served).encode()) if served else None


def decide_flags(x: Exchange) -> Outcome:
    """What flags say of a request on this route, once it is known who asks."""
    plan = x.plan
    flags = plan.flags
    if flags is None:
        return None
    now_s = x.shared.now_s()
    refusal = flags.refusal(x, now_s)
    if refusal is not None:
        return refusal
    told = flags.told(x, now_s)
    if told:
        x.shown += b"\n" + told
        x.identity += flags.lines(x, told, now_s)
    variant = flags.variation(x, now_s)
    if variant:
        x.shown += b"\nvariant=%b" % variant.encode()
        x.plan = x.met = plan.variations.get(variant, plan)
    return None


def turn_away(x: Exchange) -> Outcome:
    """Whoever did not sign in where that is asked for."""
    return x.stranger


def open_stream(x: Exchange) -> Outcome:
    """Where event streams may pass, the answer may become one; where WebSocket connections may, a handshake is judged
    before the app sees it."""
    plan = x.plan
    if plan.events is not None:
        x.watcher = EventsExpected(x, plan.events)
    return None if plan.websocket is None else open_websocket(x, plan.websocket)


def check_body(x: Exchange) -> Outcome:
    """Size and type, as far as the head tells. In watch mode only the server's own bound holds."""
    if x.incoming is None:
        return None
    plan, notes = x.plan, x.notes
    if notes.length > plan.max_body_bytes:
        return too_large(plan)
    if plan.types and plan.enforced:
        found = accepted_type(plan.types, notes.get(b"content-type"))
        if isinstance(found, Refusal):
            return found
    return None


def gather_body(x: Exchange) -> Outcome:
    """What is judged of a body is judged before the app hears of it, as far as it may be held. One that is missing
    where it belongs is judged as an empty one."""
    bodies, incoming = x.plan.bodies, x.incoming
    if bodies is None:
        unread = incoming is not None and incoming.length == headers.CHUNKED and not x.plan.pool.reads_chunks
        return None if incoming is None else hold(incoming, x.plan, unless_said=unread)
    if incoming is None and x.method in _BODILESS:
        return None
    return judge_body(x, x.plan, bodies)


def pipeline(
    limiter: Limiter, signin: SignIn | LateSignIn | None, intake: Intake | None, cache: Cache
) -> tuple[Step, ...]:
    """The steps of a process, in order. `signin` may be missing where no route asks for it, `intake` where none
    offloads."""

    def sign_in(x: Exchange) -> Outcome:
        """Routes with `auth` are for verified identities only. Strangers are turned away after `spend`: whoever tries
        tokens is counted by address, as everybody is."""
        auth = x.plan.auth
        if auth is None:
            return None
        assert signin is not None
        return signin.check(x, auth)

    def take_order(x: Exchange) -> Outcome:
        """Routes that offload work write the order down before the request goes on."""
        offload = x.plan.offload
        if offload is None:
            return None
        assert intake is not None
        from scopegate.gateway import order  # it reads leads, which most gateways never see: a megabyte

        return order.begin(intake, x, offload)

    def forward(x: Exchange) -> Outcome:
        """To the app, unless the cache answers. What happens from here on, the connections tell."""
        plan = x.plan.cache
        if plan is not None:
            return cache.begin(x, plan)
        x.forwarding = forwarding = Forwarding(x)
        return forwarding.begin()

    return (
        admit,
        read_fields,
        find_caller,
        admit_caller,
        find_target,
        find_route,
        sign_in,
        decide_flags,
        Spending(limiter).spend,
        turn_away,
        open_stream,
        check_body,
        gather_body,
        take_order,
        forward,
    )
