"""Fields in, fields out: what a request and an answer may carry across the gateway, in both directions.

Pure. One pass over the fields of a message decides framing (RFC 9112 section 6), cuts hop-by-hop fields (RFC 9110
section 7.6.1, those named by Connection too) and every name that the gateway itself speaks for (forwarded address,
identity, request id) or that an app's framework trusts as its own. What is left goes on as received; framing is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from scopegate.edge.field_rules import CUT, JUDGED, NOTE_AND_CUT, PASS, REQUEST_RULES, RESPONSE_RULES, Rules
from scopegate.edge.lines import SPACE, lines_of
from scopegate.edge.public_host import PublicHost
from scopegate.edge.verdict import Refusal, Target
from scopegate.types import Fields

CHUNKED = -1
"""In place of a length: the body is chunked."""
UNTIL_EOF = -2
"""In place of a length: the response body ends with the connection."""

VIA = b"1.1 scopegate"

MAX_ANSWER_FIELDS = 256
"""Header fields of one answer. Many cookies are set by some apps; thousands of fields mean a fault or an attack."""
MAX_CONNECTION_OPTIONS = 32

_NONE: tuple[bytes, ...] = ()
_BLANK = 0x20
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
    """One pass over a message's field lines. `passed` are those that go on, spelt as received; `noted` holds the values
    that were asked after, by lower-case name; `length` is the body's length in bytes, or CHUNKED, or UNTIL_EOF;
    `tokens` are Connection's, in lower case. Once read it never changes: it may be kept for the next message with the
    same fields. `kept` is a place for what a reader made of it, with the reader's key."""

    __slots__ = ("_lines", "kept", "length", "noted", "passed", "tokens")

    def __init__(self, lines: list[bytes], rules: Rules) -> None:
        self._lines: bytes | None = None
        self.kept: tuple[object, bytes] | None = None
        self.passed: list[bytes] = []
        self.noted: dict[bytes, list[bytes]] = {}
        self.length = 0
        passed, noted, known = self.passed, self.noted, rules.known
        for line in lines:
            colon = line.index(b":")
            name = line[:colon]
            rule, lower = known.get(name) or rules.of(name)
            if rule == CUT:
                continue
            if line[colon + 1] != _BLANK or line[colon + 2] <= _BLANK:  # what stands before a value is one space
                line = b"%b: %b\r\n" % (name, line[colon + 1 : -2].lstrip(SPACE))
            if rule != PASS:
                value = line[colon + 2 : -2]
                if lower in noted:
                    noted[lower].append(value)
                else:
                    noted[lower] = [value]
                if rule == NOTE_AND_CUT:
                    continue
            passed.append(line)
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
        other = Noted([], REQUEST_RULES)
        other.noted, other.length, other.tokens = self.noted, self.length, self.tokens
        other.passed = passed
        return other

    def replacing(self, name: bytes, value: bytes) -> Noted:
        """The same, but one field of this name goes on, with this value."""
        return self.passing([*_lines_without(self.passed, (name,)), b"%b: %b\r\n" % (name, value)])

    def without(self, names: Sequence[bytes]) -> Noted:
        """The same without these fields, which must be among those noted."""
        if self.noted.keys().isdisjoint(names):
            return self
        return self.passing(_lines_without(self.passed, names))

    def join_cookies(self) -> None:
        """One Cookie field in place of several, as HTTP/2 has it (RFC 9113 8.2.3): apps that know of one line alone
        take the first or the last."""
        value = b"; ".join(filter(None, (each.strip(b" \t;") for each in self.noted[b"cookie"])))
        self.noted[b"cookie"] = [value]
        self.passed = [*_lines_without(self.passed, (b"cookie",)), b"cookie: %b\r\n" % value]

    def cut_nominated(self) -> Sequence[bytes] | None:
        """Remove the fields that Connection names as its own, and tell the names. None, and nothing is removed, when
        an option is no token (RFC 9110 5.6.2, 7.6.1), or there are too many."""
        if not self.tokens or _TOKENS_THAT_NEED_NO_CUT.issuperset(self.tokens):
            return _NONE
        nominated = [token for token in self.tokens if token]
        if len(self.tokens) > MAX_CONNECTION_OPTIONS or not all(map(_TOKEN.fullmatch, nominated)):
            return None
        self.passed = _lines_without(self.passed, nominated)
        return nominated


def _lines_without(lines: Sequence[bytes], names: Sequence[bytes]) -> list[bytes]:
    return [line for line in lines if line[: line.index(b":")].lower() not in names]


def _tokens(values: Sequence[bytes]) -> tuple[bytes, ...]:
    usual = _USUAL_TOKENS.get(values[0]) if len(values) == 1 else None
    most = MAX_CONNECTION_OPTIONS  # the unread rest has a comma in it, and is no token
    return usual or tuple(token.strip(SPACE).lower() for value in values for token in value.split(b",", most))


def read_request(lines: list[bytes], version: str, rules: Rules = REQUEST_RULES) -> Noted | Refusal:
    """What a request's fields say, or why they cannot be trusted to mean one thing."""
    notes = Noted(lines, rules)
    noted = notes.noted
    cookies = noted.get(b"cookie")
    if cookies is not None and len(cookies) > 1:
        notes.join_cookies()
    if b"transfer-encoding" in noted or b"content-length" in noted:
        length = _request_length(noted, version)
        if isinstance(length, Refusal):
            return length
        notes.length = length
    if b"expect" in noted and [value.strip(SPACE).lower() for value in noted[b"expect"]] != [b"100-continue"]:
        return Refusal(417, "expectation_failed", "The only expectation understood is 100-continue.", close=True)
    nominated = notes.cut_nominated()
    if nominated is None:
        return Refusal(400, "bad_connection", "Connection is a short list of names.", close=True)
    if not JUDGED.isdisjoint(nominated):
        return Refusal(400, "bad_connection", "Connection names a field that is needed.", close=True)
    return notes


def _bad_framing(detail: str) -> Refusal:
    return Refusal(400, "bad_framing", detail, close=True)


def _is_chunked(values: Sequence[bytes]) -> bool:
    return len(values) == 1 and values[0].strip(SPACE).lower() == b"chunked"


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
    digits = values[0].strip(SPACE)
    if len(values) != 1 or not digits.isdigit() or len(digits) > 15:
        return _bad_framing("Content-Length must be one decimal number.")
    return int(digits)


def is_persistent(notes: Noted, version: str) -> bool:
    """Whether the connection may serve another exchange (RFC 9112 section 9.3). HTTP/1.0 peers get one."""
    return version == "1.1" and b"close" not in notes.tokens


def asks_for_page_data(notes: Noted) -> bool:
    """Whether one of PAGE_DATA_FIELDS is there, which may go on to PAGE_DATA alone."""
    return b"x-nextjs-data" in notes.noted or b"x-middleware-prefetch" in notes.noted


def request_id(notes: Noted, fresh: bytes) -> bytes:
    """The client's own request id when there is one well-formed value (1 to 128 of `A-Za-z0-9._-`), else `fresh`."""
    given = notes.noted.get(b"x-request-id")
    if given is None or len(given) != 1:
        return fresh
    value = given[0].strip(SPACE)
    return value if _REQUEST_ID.fullmatch(value) else fresh


def forwarded_lines(
    notes: Noted, *, host: str, address: bytes, chain: bytes, scheme: bytes, public: PublicHost | None = None
) -> bytes:
    """What a request's fields become upstream, as far as they are the same for every request with the same fields.
    `address` is the client's, `chain` the X-Forwarded-For to send (ending in the peer that we saw); `public` is what
    the app is told of the host besides Host, where that is another."""
    via = b", ".join([*notes.noted[b"via"], VIA]) if b"via" in notes.noted else VIA
    authority = public_host = host.encode()
    port = b""
    if public is not None:
        public_host = public.host.encode() or authority
        port = b"x-forwarded-port: %b\r\n" % public.port if public.port else b""
    return (
        b"host: %b\r\n%bx-real-ip: %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n"
        b"%bvia: %b\r\n"
    ) % (authority, notes.lines, address, chain, scheme, public_host, port, via)


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
    """What an answer's fields say. Raises BadAnswerError when there are too many, its framing is ambiguous (RFC 9112
    section 6.3) or its Connection is no list of names."""
    notes = _noted_of_answer(fields)
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
    BadAnswerError when there are too many fields or its Connection is no list of names."""
    notes = _noted_of_answer(fields)
    _cut_nominated(notes)
    return notes


def _noted_of_answer(fields: Fields) -> Noted:
    if len(fields) > MAX_ANSWER_FIELDS:
        raise BadAnswerError("too many fields")
    return Noted(lines_of(fields), RESPONSE_RULES)


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
    digits = values[0].strip(SPACE)
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
