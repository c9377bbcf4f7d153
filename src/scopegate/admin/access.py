"""Who may use the admin port. Every answer of the port passes here; no page or number lives here.

With a token, everything but the probes and the sign-in needs it: as `Authorization: Bearer` (scripts, Prometheus), as
the password of HTTP Basic (any user name), or once at the sign-in, which gives a browser a session; or a proxy that the
policy trusts says who it is. A second token only looks, a third, for the app, reads results and nothing else. Without
the first, only this machine is served, under a loopback name: a page that points its own name at 127.0.0.1 (DNS
rebinding) is refused by its Host. A change needs the Bearer token, or a browser's word that our own page asked for it.
`admin_problems` refuses to start on a public address without a token. What a credential is, `credentials` knows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scopegate.admin.answers import FIXED_FIELDS, problem
from scopegate.admin.credentials import COOKIE, HERE, Credentials, Who, vouched
from scopegate.errors import Problem
from scopegate.leads.webhook import SIGNATURE_FIELD
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import AdminRefusal
from scopegate.policy.policy import IdentityProxy, Policy

PROBES = frozenset({"/livez", "/readyz"})
"""They carry no credentials; they tell names of checks and nothing else."""
SIGN_IN, SIGN_OUT = "/signin", "/signout"
STATIC = "/static/"
"""What the sign-in page is made of."""

RESULTS = "/api/results/"
"""What the token of the app opens."""
PURGES = "/api/cache/purge"
"""Where a signed request needs no token: who answers there has to check the signature."""
FORM_FIELD = "x-scopegate-form"
"""Where a page's own script tells its form's token."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SignInInstead = Callable[[Scope], ASGIApp]
"""The page that asks a browser to sign in."""


def admin_problems(
    token: SecretStr | None,
    policy: Policy,
    read_token: SecretStr | None = None,
    viewer_token: SecretStr | None = None,
) -> list[Problem]:
    """Why the admin port must not open as configured; empty when it may."""
    others = {"SCOPEGATE_READ_TOKEN": read_token, "SCOPEGATE_VIEWER_TOKEN": viewer_token}
    found = [Problem(name, "", what) for name, one in others.items() if (what := _fault(one, token))]
    if not found and read_token is not None and read_token == viewer_token:
        found = [Problem("SCOPEGATE_VIEWER_TOKEN", "", "the same as SCOPEGATE_READ_TOKEN, which is for the app alone")]
    if found or token is not None:
        return found
    host = policy.admin.listen.host
    if policy.admin.identity is not None:
        return [Problem("SCOPEGATE_ADMIN_TOKEN", "", "not set, and `admin.identity` needs it: it seals what is signed")]
    if is_loopback(host):
        return []
    what = f"not set, and the admin port listens on {host}: only a loopback address may do without a token"
    return [Problem("SCOPEGATE_ADMIN_TOKEN", "", what)]


def _fault(one: SecretStr | None, token: SecretStr | None) -> str:
    if one is None:
        return ""
    if token is None:
        return "set without SCOPEGATE_ADMIN_TOKEN, which shuts the port for others"
    return "the same as SCOPEGATE_ADMIN_TOKEN, which opens everything" if one == token else ""


def is_loopback(host: str) -> bool:
    """True for `localhost` and for loopback addresses, IPv4-mapped ones too. No name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


class Access:
    """ASGI middleware around the whole admin application. Who passes is told to it as `who` of the scope's state."""

    def __init__(
        self,
        app: ASGIApp,
        credentials: Credentials,
        identity: Callable[[], IdentityProxy | None] = lambda: None,
        asking: SignInInstead | None = None,
    ) -> None:
        self._app, self._credentials, self._identity, self._asking = app, credentials, identity, asking

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:  # no WebSocket here
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(FIXED_FIELDS)
            await send(message)

        refused = None if scope["path"] in PROBES else self._judge(scope)
        await (refused or self._app)(scope, receive, send_armoured)

    def _judge(self, scope: Scope) -> ASGIApp | None:
        """The refusal, None when the request may pass."""
        headers, address = Headers(scope=scope), address_of(scope)
        if scope["path"] == PURGES and SIGNATURE_FIELD in headers:
            return None
        if self._credentials.is_open:
            refused = _judge_local(headers, address)
            return refused or self._pass(scope, headers, HERE)
        if scope["path"] == SIGN_IN or scope["path"].startswith(STATIC):  # tries are counted where they are made
            return _judge_origin(scope, headers)
        if wait_s := self._credentials.tries.wait_s(address):
            return too_many_tries(wait_s)
        who = self._who(scope, headers)
        if isinstance(who, Who):
            return self._pass(scope, headers, who)
        if who == "reader":
            return _judge_reader(scope)
        if who == "wrong_token":
            self._credentials.tries.add(address)
        return self._ask_in(scope, headers, who)

    def _who(self, scope: Scope, headers: Headers) -> Who | AdminRefusal | str:
        """Who asks; `reader` for the app; or why nobody is known."""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "basic"):
            return self._of_token(scheme.lower(), rest.strip())
        if (who := vouched(self._identity(), peer_of(scope), headers)) is not None:
            return who
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return (cookie and self._credentials.of_session(cookie)) or "no_token"

    def _of_token(self, scheme: str, said: str) -> Who | AdminRefusal | str:
        token = said if scheme == "bearer" else _basic_password(said)
        role = self._credentials.role_of(token)
        if role is not None:
            return Who(f"{role.value} token", role, "token" if scheme == "bearer" else "password")
        return "reader" if scheme == "bearer" and self._credentials.is_reader(token) else "wrong_token"

    def _pass(self, scope: Scope, headers: Headers, who: Who) -> ASGIApp | None:
        scope.setdefault("state", {})["who"] = who
        if scope["method"] in _SAFE_METHODS:
            return None
        if not who.may_act and scope["path"] != SIGN_OUT:
            return _refuse(403, "viewer", "This changes something, and a viewer changes nothing.")
        if who.by == "token":
            return None
        is_told = self._credentials.is_form_token(who, headers.get(FORM_FIELD, ""))
        if who.by in ("session", "identity") and scope["path"].startswith("/api/") and not is_told:
            return _refuse(403, "form", f"A change needs the token as Bearer, or that of our own page as {FORM_FIELD}.")
        return _judge_origin(scope, headers)

    def _ask_in(self, scope: Scope, headers: Headers, reason: str) -> ASGIApp:
        if self._asking is not None and is_for_people(scope, headers):
            _count("no_token" if reason == "no_token" else "wrong_token")
            return self._asking(scope)
        challenge = {"www-authenticate": 'Bearer realm="scopegate", Basic realm="scopegate", charset="UTF-8"'}
        known: AdminRefusal = "no_token" if reason == "no_token" else "wrong_token"
        return _refuse(401, known, "The admin token is needed.", challenge)


def is_for_people(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks for a page."""
    is_page = not scope["path"].startswith(("/api/", "/metrics", "/live"))
    return is_page and "text/html" in headers.get("accept", "")


def too_many_tries(wait_s: float) -> ASGIApp:
    return _refuse(429, "too_many_tries", "Too many wrong tokens.", {"retry-after": str(int(wait_s) + 1)})


def _judge_local(headers: Headers, address: str) -> ASGIApp | None:
    if not is_loopback(address):
        return _refuse(403, "not_loopback", "Without an admin token only this machine is served.")
    if not is_loopback(_host_name(headers.get("host", ""))):
        return _refuse(421, "host", "Without an admin token the port answers to loopback names only.")
    return None


def _judge_reader(scope: Scope) -> ASGIApp | None:
    if scope["path"].startswith(RESULTS) and scope["method"] in _SAFE_METHODS:
        return None
    return _refuse(403, "results_only", f"This token reads {RESULTS} and nothing else.")


def _judge_origin(scope: Scope, headers: Headers) -> ASGIApp | None:
    """Fetch Metadata where the browser sends it, else Origin; neither means no browser page of ours asked."""
    if scope["method"] in _SAFE_METHODS:
        return None
    site = headers.get("sec-fetch-site")
    if site is not None:
        allowed = site == "same-origin"
    else:
        allowed = headers.get("origin") == f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
    if allowed:
        return None
    return _refuse(
        403, "cross_site", "A change needs the token as Bearer, or a same-origin Origin or Sec-Fetch-Site field."
    )


def _refuse(status: int, reason: AdminRefusal, detail: str, fields: dict[str, str] | None = None) -> ASGIApp:
    _count(reason)
    return problem(status, reason, detail, fields)


def _count(reason: AdminRefusal) -> None:
    metrics.ADMIN_REFUSALS.labels(reason).inc()


def peer_of(scope: Scope) -> str:
    """The connection's other end; empty for one without an address."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def address_of(scope: Scope) -> str:
    """The peer as the limit of tries counts it: IPv6 by /64. Empty for a peer without an address."""
    try:
        address = ip_address(peer_of(scope))
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


def _host_name(host: str) -> str:
    """The name in a Host field, without port and brackets; empty when it is no such thing."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or port[1:].isdecimal()) else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdecimal() else ""


def _basic_password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
