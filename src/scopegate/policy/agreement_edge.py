"""Whether the settings of the edge agree: the public port, upstreams, bodies, streams, fields of answers, CORS.

Pure. Each function gives the faults of one kind, from the sections that could be read. Called by `agreement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scopegate.policy import document
from scopegate.policy.addresses import is_local, url_host
from scopegate.policy.browsers import ANY_ORIGIN
from scopegate.policy.draft import Draft
from scopegate.policy.policy import AddressSource
from scopegate.policy.spelling import FORM_DATA, is_json_type
from scopegate.policy.tree import Fault, Loc, Source

MAX_JSON_BODY_BYTES = 16 * 1024**2
MIN_PRELOAD_AGE_S = 365 * 86_400


class _Spot:
    """A place, for several faults that may be found there."""

    def __init__(self, source: Source, loc: Loc) -> None:
        self._source, self._loc = source, loc

    def problem(self, what: str) -> Fault:
        return Fault(self._source.at(self._loc), self._loc, f"{self._source.said(self._loc)} {what}")

    def warning(self, what: str) -> Fault:
        return Fault(self._source.at(self._loc), self._loc, what, warning=True)


def _proxies_word(draft: Draft, source: Source) -> Iterator[Fault]:
    if draft.server is None or draft.server.trusted_proxies:
        return
    for setting, is_believed in (
        ("client_address", draft.server.client_address is not AddressSource.X_FORWARDED_FOR),
        ("forwarded_host", bool(draft.server.forwarded_host)),
    ):
        if is_believed:
            loc: Loc = ("server", setting)
            what = f"{source.said(loc)} is believed from `trusted_proxies` alone, and there are none"
            yield Fault(source.at(loc), loc, what)


def _server_bounds(draft: Draft, source: Source) -> Iterator[Fault]:
    """A bound that another one makes pointless. What was left out gives way."""
    if draft.server is None:
        return
    yield from _shares(draft.server.limits, source)
    timeouts = draft.server.timeouts
    if timeouts.body < timeouts.body_idle:
        written = "body" if "body" in timeouts.model_fields_set else "body_idle"
        loc: Loc = ("server", "timeouts", written)
        yield Fault(source.at(loc), loc, "a whole body (`body`) may take less time than a pause in it (`body_idle`)")


def _shares(limits: document.ServerLimits, source: Source) -> Iterator[Fault]:
    written = limits.model_fields_set
    for all_of_them in ("connections", "in_flight"):
        share, most = f"{all_of_them}_per_client", getattr(limits, all_of_them)
        if share in written and getattr(limits, share) > most:
            loc: Loc = ("server", "limits", share)
            yield Fault(source.at(loc), loc, f"is more than `{all_of_them}`, which is {most}")
    if "in_flight" in written and limits.in_flight > limits.connections:
        loc = ("server", "limits", "in_flight")
        what = f"never reached: there are at most {limits.connections} connections, one request on each"
        yield Fault(source.at(loc), loc, what, warning=True)


def _upstream_tls(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, upstream in draft.upstreams.items():
        is_set = upstream.tls.ca is not None or upstream.tls.server_name is not None
        if is_set and all(origin.scheme != "https" for origin in upstream.servers):
            loc = ("upstreams", name, "tls")
            yield Fault(source.at_key(loc), loc, "means nothing: no server here is https", warning=True)


def _unsigned_identity(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, auth in draft.auth.items():
        if auth.sign_with is None:
            loc = ("auth", name)
            what = "the identity reaches the app unsigned: without `sign_with` whoever gets around us can claim any"
            yield Fault(source.at_key(loc), loc, what, warning=True)


def _hsts(draft: Draft, source: Source) -> Iterator[Fault]:
    proxied = draft.server is None or bool(draft.server.trusted_proxies)
    for name, headers in draft.headers.items():
        hsts, loc = headers.hsts, ("headers", name, "hsts")
        if hsts is None:
            continue
        if hsts.preload and not (hsts.subdomains and hsts.max_age >= MIN_PRELOAD_AGE_S):
            where = (*loc, "preload")
            yield Fault(source.at(where), where, "needs `subdomains: true` and a `max_age` of 365d or more")
        if not proxied:
            what = "never sent: it goes to visitors that came by https, which only one of `trusted_proxies` can tell"
            yield Fault(source.at_key(loc), loc, what, warning=True)


def _cors(draft: Draft, source: Source) -> Iterator[Fault]:
    for name, cors in draft.cors.items():
        for index, origin in enumerate(cors.origins):
            loc = ("cors", name, "origins", index)
            yield from _cors_origin(cors, index, origin, _Spot(source, loc))


def _cors_origin(cors: document.Cors, index: int, origin: str, spot: _Spot) -> Iterator[Fault]:
    if origin in cors.origins[:index]:
        yield spot.problem("is listed twice")
    elif origin == ANY_ORIGIN and len(cors.origins) > 1:
        yield spot.problem("stands for all origins: it stands alone")
    elif origin == ANY_ORIGIN and cors.credentials:
        yield spot.problem("with `credentials` would lend every visitor's session to every page: name the origins")
    elif origin.startswith("http://") and cors.credentials and not is_local(url_host(origin)):
        yield spot.warning("pages without TLS can be replaced on the way, and they get the visitor's session")


def _bodies(draft: Draft, source: Source) -> Iterator[Fault]:
    for index, route in draft.routes.items():
        body, loc = route.body, ("routes", index, "body")
        if body.json_ is None and body.multipart is None:
            continue
        yield from _body_types(body, loc, source)
        default = draft.server.limits.body if draft.server is not None else 0
        yield from _body_sizes(body, body.max or default, loc, source)


def _body_types(body: document.Body, loc: Loc, source: Source) -> Iterator[Fault]:
    where = (*loc, "types")
    if body.json_ is not None and not any(is_json_type(media) for media in body.accepted):
        yield Fault(source.at(where), where, "no JSON among them, which `json` rules: add application/json")
    if body.multipart is not None and FORM_DATA not in body.accepted:
        yield Fault(source.at(where), where, f"no forms among them, which `multipart` rules: add {FORM_DATA}")


def _body_sizes(body: document.Body, most_bytes: int, loc: Loc, source: Source) -> Iterator[Fault]:
    """`most_bytes`: the largest body of the route, 0 when that is not known."""
    if body.json_ is not None and most_bytes > MAX_JSON_BODY_BYTES:
        where = (*loc, "json" if body.max is None else "max")
        yield Fault(source.at_key(where), where, "a JSON body is read whole, in memory: at most 16MiB (`max`)")
    form = body.multipart
    if form is None:
        return
    if form.file is not None and form.file > most_bytes > 0:
        where = (*loc, "multipart", "file")
        yield Fault(source.at(where), where, "never reached: it is more than the whole body may be", warning=True)
    if "files" in form.model_fields_set and form.files > form.parts:
        where = (*loc, "multipart", "files")
        yield Fault(source.at(where), where, f"never reached: there are at most {form.parts} parts", warning=True)


def _streams(draft: Draft, source: Source) -> Iterator[Fault]:
    for index, route in draft.routes.items():
        methods = route.match.methods
        if route.websocket is not None and methods is not None and "GET" not in methods:
            loc: Loc = ("routes", index, "websocket")
            yield Fault(source.at_key(loc), loc, "a WebSocket opens with GET, which this route does not match")
        for key, stream in (("websocket", route.websocket), ("events", route.events)):
            if stream is not None and route.offload is not None:
                loc = ("routes", index, key)
                yield Fault(source.at_key(loc), loc, "cannot stand with `offload`, which waits for the whole answer")


EDGE_CHECKS: tuple[Callable[[Draft, Source], Iterator[Fault]], ...] = (
    _proxies_word,
    _server_bounds,
    _upstream_tls,
    _unsigned_identity,
    _hsts,
    _cors,
    _bodies,
    _streams,
)
