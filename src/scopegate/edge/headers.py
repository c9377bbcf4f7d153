"""Fields in, fields out: what a request and an answer may carry across the gateway, in both directions.

Pure. One pass over the fields of a message decides framing (RFC 9112 section 6), cuts hop-by-hop fields (RFC 9110
section 7.6.1, those named by Connection too) and every name that the gateway itself speaks for (forwarded address,
identity, request id) or that an app's framework trusts as its own. What is left goes on as received; framing is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from http import HTTPStatus

from scopegate.edge.verdict import Refusal, Target
from scopegate.types import Fields

CHUNKED = -1
"""In place of a length: the body is chunked."""
UNTIL_EOF = -2
"""In place of a length: the response body ends with the connection."""

VIA = b"1.1 scopegate"

_HOP_BY_HOP = (
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings "
    b"proxy-authenticate proxy-authorization proxy-authentication-info"
).split()
_OURS_IN_REQUESTS = (
    b"content-length host expect x-request-id via forwarded x-forwarded-for x-forwarded-proto x-forwarded-host "
    b"x-forwarded forwarded-for x-original-forwarded-for "
    # the address
    b"x-real-ip x-client-ip client-ip proxy-client-ip x-cluster-client-ip true-client-ip x-true-client-ip "
    b"cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4 fastly-client-ip fly-client-ip incap-client-ip "
    b"x-proxyuser-ip x-appengine-user-ip x-azure-clientip x-azure-socketip x-envoy-external-address "
    # host, target and method
    b"x-host x-original-host x-http-host-override x-original-url x-original-uri x-rewrite-url x-override-url "
    b"x-http-method-override x-http-method x-method-override x-original-method "
    # how they came, and who a proxy says they are
    b"x-scheme x-url-scheme front-end-https x-arr-ssl client-cert client-cert-chain x-client-cert remote-user "
    b"x-remote-user x-invocation-id"
).split()
_INNER_PREFIXES = (
    b"x-scopegate-",
    b"x-forwarded-",
    b"ssl-client-",
    b"x-ssl-client-",
    b"wl-proxy-",
    b"x-middleware-",
    b"x-nextjs-",
    b"x-next-",
    b"next-resume",
    b"x-action-",
    b"x-invoke-",
    b"x-matched-path",
    b"x-now-route-matches",
    b"x-isr",
    b"x-prerender-",
    b"x-vercel-",
)
"""Names by which this gateway, proxies, Next.js and its hosts talk to themselves (CVE-2025-29927:
`x-middleware-subrequest`). Such a field is taken out on the way in, whoever sent it. What Next.js has browsers send
(`next-action`, `rsc`, `next-router-*`, `next-url`) is not among them."""

_ALIKE = bytes(byte if chr(byte).isalnum() and byte < 128 else ord("-") for byte in range(256))
"""CGI and WSGI apps read `X_Real_IP` and `X.Real.IP` as `X-Real-IP`: what is cut is cut in every such spelling, and
what is judged passes in its own spelling only."""

_PASS, _NOTE, _CUT, _NOTE_AND_CUT = 0, 1, 2, 3
Rule = tuple[int, bytes]
"""What becomes of a field, and its name in lower case."""
_PASSED: Rule = (_PASS, b"")
_COMMON = (
    b"accept-encoding accept-language cache-control content-disposition content-encoding content-language dnt etag "
    b"expires if-modified-since if-none-match last-modified origin pragma priority range referer sec-ch-ua "
    b"sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user set-cookie "
    b"traceparent tracestate upgrade-insecure-requests user-agent vary"
).split()


class Rules:
    """From a field's name, in any case, to its rule. The usual spellings are known beforehand: nothing is remembered
    of what clients send. `inner` are beginnings of names that are cut; of those in `judged` every odd spelling is."""

    __slots__ = ("_by_name", "_inner", "_judged", "get")

    def __init__(
        self,
        noted: Sequence[bytes],
        cut: Sequence[bytes],
        both: Sequence[bytes],
        inner: tuple[bytes, ...],
        judged: frozenset[bytes] = frozenset(),
    ) -> None:
        self._by_name: dict[bytes, Rule] = {name: (_NOTE, name) for name in noted}
        self._by_name |= {name: (_CUT, name) for name in cut} | {name: (_NOTE_AND_CUT, name) for name in both}
        self._inner = inner
        self._judged = judged
        known = dict.fromkeys(_COMMON, _PASSED) | self._by_name
        self.get = {spelt: rule for name, rule in known.items() for spelt in (name, name.title())}.get

    def of(self, name: bytes) -> Rule:
        """The rule for a name that is not spelt as usual."""
        lower = name.lower()
        rule = self._by_name.get(lower)
        if rule is not None:
            return rule
        alike = lower.translate(_ALIKE)
        is_cut = self._by_name.get(alike, _PASSED)[0] >= _CUT or alike in self._judged or alike.startswith(self._inner)
        return (_CUT, lower) if is_cut else _PASSED


RATE_LIMIT_FIELDS = (
    b"x-ratelimit-limit",
    b"x-ratelimit-remaining",
    b"x-ratelimit-reset",
    b"ratelimit",
    b"ratelimit-policy",
    b"ratelimit-limit",
    b"ratelimit-remaining",
    b"ratelimit-reset",
)
"""What an app may say of limits of its own; where ours hold, ours alone are told."""
SECURITY_FIELDS = (
    b"strict-transport-security",
    b"x-content-type-options",
    b"x-frame-options",
    b"referrer-policy",
    b"content-security-policy",
    b"cross-origin-opener-policy",
)
"""What `answer_fields` may add: noted in every answer, so that the app's own is seen."""
CORS_FIELDS = (
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-methods",
    b"access-control-allow-headers",
    b"access-control-allow-private-network",
    b"access-control-expose-headers",
    b"access-control-max-age",
)
"""Where a route has a CORS rule, the rule alone speaks."""
_PREFLIGHT = [b"origin", b"access-control-request-method", b"access-control-request-headers"]
_JUDGED = frozenset([b"content-type", b"content-encoding", b"authorization", b"cookie"])
"""Fields that a decision rests on and that go on: the app has to see what was judged."""
_REQUEST_RULES = Rules(
    noted=[b"authorization", b"cookie", b"content-type", b"content-encoding", b"accept", *_PREFLIGHT],
    cut=[],
    both=[*_HOP_BY_HOP, *_OURS_IN_REQUESTS, b"traceparent", b"tracestate"],
    inner=_INNER_PREFIXES,
    judged=_JUDGED,
)
_RESPONSE_RULES = Rules(
    noted=[b"date", b"via", b"vary", b"content-encoding", *RATE_LIMIT_FIELDS, *SECURITY_FIELDS, *CORS_FIELDS],
    cut=[b"server", b"x-request-id", b"x-powered-by", b"alt-svc"],
    both=[*_HOP_BY_HOP, b"content-length"],
    inner=(b"x-scopegate-",),
)
_NONE: tuple[bytes, ...] = ()
_SPACE = b" \t"
"""What may stand around a value (OWS, RFC 9110 5.6.3); the parser leaves it at the end."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKENS_THAT_NEED_NO_CUT = frozenset([b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b""])
_USUAL_TOKENS = {
    b"keep-alive": (b"keep-alive",),
    b"Keep-Alive": (b"keep-alive",),
    b"close": (b"close",),
    b"Close": (b"close",),
}


class Noted:
    """One pass over a message's fields. `passed` are the lines that go on, spelt as received; `noted` holds the values
    that were asked after, by lower-case name; `length` is the body's length in bytes, or CHUNKED, or UNTIL_EOF;
    `tokens` are Connection's, in lower case. Once read it never changes: it may be kept for the next message with the
    same fields. `kept` is a place for what a reader made of it, with the reader's key."""

    __slots__ = ("_lines", "kept", "length", "noted", "passed", "tokens")

    def __init__(self, fields: Fields, rules: Rules) -> None:
        self._lines: bytes | None = None
        self.kept: tuple[object, bytes] | None = None
        self.passed: list[bytes] = []
        self.noted: dict[bytes, list[bytes]] = {}
        self.length = 0
        passed, noted, get = self.passed, self.noted, rules.get
        for name, value in fields:
            rule, lower = get(name) or rules.of(name)
            if rule == _PASS:
                passed.append(b"%b: %b\r\n" % (name, value))
                continue
            if rule != _CUT:
                if lower in noted:
                    noted[lower].append(value)
                else:
                    noted[lower] = [value]
            if rule == _NOTE:
                passed.append(b"%b: %b\r\n" % (name, value))
        self.tokens = _tokens(noted[b"connection"]) if b"connection" in noted else _NONE

    def get(self, name: bytes) -> Sequence[bytes]:
        return self.noted.get(name, _NONE)

    @property
    def lines(self) -> bytes:
        """What goes on, joined."""
        lines = self._lines
        if lines is None:
            lines = self._lines = b"".join(self.passed)
        return lines

    def passing(self, passed: list[bytes]) -> Noted:
        """The same, but these lines go on."""
        other = copy(self)
        other.passed, other._lines, other.kept = passed, None, None
        return other

    def replacing(self, name: bytes, value: bytes) -> Noted:
        """The same, but one field of this name goes on, with this value."""
        return self.passing([*_lines_without(self.passed, (name,)), b"%b: %b\r\n" % (name, value)])

    def without(self, names: Sequence[bytes]) -> Noted:
        """The same without these fields, which must be among those noted."""
        if self.noted.keys().isdisjoint(names):
            return self
        return self.passing(_lines_without(self.passed, names))

    def cut_nominated(self) -> Sequence[bytes] | None:
        """Remove the fields that Connection names as its own, and tell the names. None, and nothing is removed, when
        an option is no token (RFC 9110 5.6.2, 7.6.1)."""
        if not self.tokens or _TOKENS_THAT_NEED_NO_CUT.issuperset(self.tokens):
            return _NONE
        nominated = [token for token in self.tokens if token]
        if not all(map(_TOKEN.fullmatch, nominated)):
            return None
        self.passed = _lines_without(self.passed, nominated)
        return nominated


def _lines_without(lines: Sequence[bytes], names: Sequence[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in names]


def _tokens(values: Sequence[bytes]) -> tuple[bytes, ...]:
    usual = _USUAL_TOKENS.get(values[0]) if len(values) == 1 else None
    return usual or tuple(token.strip(_SPACE).lower() for value in values for token in value.split(b","))


def read_request(fields: Fields, version: str) -> Noted | Refusal:
    """What a request's fields say, or why they cannot be trusted to mean one thing."""
    notes = Noted(fields, _REQUEST_RULES)
    noted = notes.noted
    if b"transfer-encoding" in noted or b"content-length" in noted:
        length = _request_length(noted, version)
        if isinstance(length, Refusal):
            return length
        notes.length = length
    if b"expect" in noted and [value.strip(_SPACE).lower() for value in noted[b"expect"]] != [b"100-continue"]:
        return Refusal(417, "expectation_failed", "The only expectation understood is 100-continue.", close=True)
    nominated = notes.cut_nominated()
    if nominated is None:
        return Refusal(400, "bad_connection", "Connection is a list of names.", close=True)
    if not _JUDGED.isdisjoint(nominated):
        return Refusal(400, "bad_connection", "Connection names a field that is needed.", close=True)
    return notes


def _bad_framing(detail: str) -> Refusal:
    return Refusal(400, "bad_framing", detail, close=True)


def _is_chunked(values: Sequence[bytes]) -> bool:
    return len(values) == 1 and values[0].strip(_SPACE).lower() == b"chunked"


def _request_length(noted: Mapping[bytes, list[bytes]], version: str) -> int | Refusal:
    if b"transfer-encoding" in noted:
        if b"content-length" in noted:
            return _bad_framing("Content-Length and Transfer-Encoding exclude each other.")
        if version != "1.1":
            return _bad_framing("Transfer-Encoding needs HTTP/1.1.")
        if not _is_chunked(noted[b"transfer-encoding"]):
            return _bad_framing("The only transfer coding understood is chunked.")
        return CHUNKED
    values = noted[b"content-length"]
    digits = values[0].strip(_SPACE)
    if len(values) != 1 or not digits.isdigit() or len(digits) > 15:
        return _bad_framing("Content-Length must be one decimal number.")
    return int(digits)


def is_persistent(notes: Noted, version: str) -> bool:
    """Whether the connection may serve another exchange (RFC 9112 section 9.3). HTTP/1.0 peers get one."""
    return version == "1.1" and b"close" not in notes.tokens


def request_id(notes: Noted, fresh: bytes) -> bytes:
    """The client's own request id when there is one well-formed value (1 to 128 of `A-Za-z0-9._-`), else `fresh`."""
    given = notes.noted.get(b"x-request-id")
    if given is None or len(given) != 1:
        return fresh
    value = given[0].strip(_SPACE)
    return value if _REQUEST_ID.fullmatch(value) else fresh


def forwarded_lines(notes: Noted, *, host: str, address: bytes, chain: bytes, scheme: bytes) -> bytes:
    """What a request's fields become upstream, as far as they are the same for every request with the same fields.
    `address` is the client's, `chain` the X-Forwarded-For to send (ending in the peer that we saw)."""
    via = b", ".join([*notes.noted[b"via"], VIA]) if b"via" in notes.noted else VIA
    authority = host.encode()
    return (
        b"host: %b\r\n%bx-real-ip: %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n"
        b"via: %b\r\n"
    ) % (authority, notes.lines, address, chain, scheme, authority, via)


def request_head(
    target: Target, lines: bytes, length: int, *, request_id: bytes, identity: bytes = b"", trace: bytes = b""
) -> bytes:
    """The head that goes upstream, framing included. `lines` are those of `forwarded_lines`, `length` is the body's,
    `identity` and `trace` are ready-made field lines."""
    return b"%b %b HTTP/1.1\r\n%b%b%b%bx-request-id: %b\r\n\r\n" % (
        target.method.encode(),
        target.raw,
        lines,
        _framing(length, target.method),
        identity,
        trace,
        request_id,
    )


def _framing(length: int, method: str) -> bytes:
    if length == CHUNKED:
        return b"transfer-encoding: chunked\r\n"
    if length or method in _HAS_CONTENT:
        return b"content-length: %d\r\n" % length
    return b""


_HAS_CONTENT = frozenset(["POST", "PUT", "PATCH"])
"""A request with one of these says how long its body is, even when it has none (RFC 9110 8.6)."""


class BadAnswerError(ValueError):
    """The upstream's answer does not mean one thing."""


def read_response(fields: Fields, status: int, method: str) -> Noted:
    """What an answer's fields say. Raises BadAnswerError when its framing is ambiguous (RFC 9112 section 6.3) or
    its Connection is no list of names."""
    notes = Noted(fields, _RESPONSE_RULES)
    noted = notes.noted
    declared = _response_length(noted)
    if method == "HEAD" or status in (204, 304):
        notes.length = 0
        if declared >= 0 and b"content-length" in noted and status != 204:
            notes.passed.append(b"content-length: %d\r\n" % declared)
    else:
        notes.length = declared
    for name in _cut_nominated(notes):
        noted.pop(name, None)  # the client will not see it: nothing may rest on it
    return notes


def read_interim(fields: Fields) -> Noted:
    """What an interim answer (1xx) may carry on; it has no body, so nothing of framing is believed. Raises
    BadAnswerError when its Connection is no list of names."""
    notes = Noted(fields, _RESPONSE_RULES)
    _cut_nominated(notes)
    return notes


def _cut_nominated(notes: Noted) -> Sequence[bytes]:
    nominated = notes.cut_nominated()
    if nominated is None:
        raise BadAnswerError("bad connection")
    return nominated


def _response_length(noted: Mapping[bytes, list[bytes]]) -> int:
    if b"transfer-encoding" in noted:
        if b"content-length" in noted or not _is_chunked(noted[b"transfer-encoding"]):
            raise BadAnswerError("ambiguous transfer-encoding")
        return CHUNKED
    values = noted.get(b"content-length")
    if values is None:
        return UNTIL_EOF
    digits = values[0].strip(_SPACE)
    if len(set(values)) != 1 or not digits.isdigit() or len(digits) > 15:
        raise BadAnswerError("bad content-length")
    return int(digits)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES: Mapping[int, bytes] = {status: _status_line(status) for status in range(100, 1000)}
