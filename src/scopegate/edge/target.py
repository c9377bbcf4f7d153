"""A request's method, target and Host, judged once: what passes is forwarded byte for byte.

No I/O, no policy beyond the set of hosts served. Called by the gateway on every request, before routing, which asks
what servers may read in the path (`readings`) and refuses one that may be read as two things.
Every refusal here closes the connection, except 421. The length of a target is the protocol's business (414).
From the wire, authority-form and most illegal bytes do not come so far: the parser takes no such head (`bad_syntax`).

| spelling                                                         | what happens                                    |
| ---------------------------------------------------------------- | ----------------------------------------------- |
| `/path?query` (origin-form)                                      | judged as below                                 |
| `http://host/path` (absolute-form) that agrees with Host         | judged and forwarded as origin-form             |
| absolute-form with another host, another scheme, or userinfo     | 400                                             |
| `*`, `host:port` (asterisk-form, authority-form), empty          | 400 `bad_target`                                |
| fragment, space, control, NUL or non-ASCII byte, anywhere        | 400 `bad_target`                                |
| `%` without two hex digits, invalid or overlong UTF-8 in a path  | 400 `bad_path`                                  |
| any other escape, `;`, `\\`, dot segments, `//`, quotes, brackets | kept; `routes` decides                          |
| trailing slash, letter case                                      | kept; `routes` decides                          |
| query                                                            | kept byte for byte                              |
| Host missing, repeated, not a name or an address, port not 1-65535 | 400 `bad_host`                                |
| Host in capitals, with a final dot, port empty, 80 or 443        | lower-cased; dot and such a port dropped        |
| Host not among those served (a port that is not 80 or 443 counts) | 421 `misdirected_request`                      |
| method that is no token, or longer than 24 bytes                 | 400 `bad_method`                                |
| any other method outside `METHODS`: CONNECT, TRACE, `get`, ...   | 501 `method_not_implemented`                    |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import unquote_to_bytes

from scopegate.edge.verdict import Refusal, Target

_HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"})
_LOCKS_AND_COPIES = frozenset({"COPY", "MOVE", "LOCK", "UNLOCK", "ACL", "BIND", "UNBIND", "REBIND", "LINK", "UNLINK"})
_COLLECTIONS = frozenset({"PROPFIND", "PROPPATCH", "MKCOL", "MKCALENDAR", "REPORT", "SEARCH", "ORDERPATCH"})
_VERSIONS = frozenset({"CHECKIN", "CHECKOUT", "UNCHECKOUT", "VERSION-CONTROL", "MERGE", "LABEL", "UPDATE"})

METHODS = _HTTP_METHODS | _LOCKS_AND_COPIES | _COLLECTIONS | _VERSIONS
"""Registered methods (RFC 9110 16.1.1, WebDAV). Not among them: CONNECT (a tunnel) and TRACE (echoes credentials)."""

_METHOD_TEXT = {method.encode(): method for method in METHODS}
_METHOD_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,24}")

# The common case in one match: printable ASCII from a slash on, and no escape in the path.
_CLEAN = re.compile(rb"(/[!\"$&->@-~]*)(?:\?[!\"$-~]*)?")
_TARGET = re.compile(rb"[!\"$-~]+")  # printable ASCII without `#`
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE | re.DOTALL)

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\[([0-9a-f:.]+)\]|((?:{_LABEL}\.)*{_LABEL})\.?)(?::([0-9]{{0,5}}))?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = frozenset((80, 443))


def _refused(code: str, detail: str, status: int = 400) -> Refusal:
    return Refusal(status, code, detail, close=True)


_BAD_METHOD = _refused("bad_method", "The method is not a valid token.")
_UNKNOWN_METHOD = _refused("method_not_implemented", "This method is not supported.", 501)
_NO_HOST = _refused("bad_host", "The request has no Host field.")
_TWO_HOSTS = _refused("bad_host", "The request has more than one Host field.")
_BAD_HOST = _refused("bad_host", "The Host field is not a valid host.")
_OTHER_HOST = _refused("bad_host", "The request target and the Host field name different hosts.")
NOT_SERVED = Refusal(421, "misdirected_request", "This host is not served here.")
_BAD_FORM = _refused("bad_target", "The request target must be a path.")
_BAD_CHARACTER = _refused("bad_target", "The request target holds a character that is not allowed there.")
_FRAGMENT = _refused("bad_target", "The request target must not hold a fragment.")
_USERINFO = _refused("bad_target", "The request target must not hold credentials.")
_BAD_ESCAPE = _refused("bad_path", "The path holds an invalid percent escape.")
_BAD_UTF8 = _refused("bad_path", "The path is not valid UTF-8.")


def judge_target(method: bytes, raw: bytes, hosts: Sequence[bytes], served: frozenset[str] | None) -> Target | Refusal:
    """What a request asks for, or why it is refused (see the table above).

    `raw` is the request target as received, `hosts` the values of every Host field; `served` holds canonical hosts
    (`leads.example.com`, `leads.example.com:8080`), None serves any valid one. Idempotent: the `raw` and `host` of a
    Target are judged to themselves. RFC 9112 3.2.
    """
    if len(hosts) != 1:
        return _TWO_HOSTS if hosts else _NO_HOST
    judged = _judge(method, raw, hosts[0])
    if served is not None and isinstance(judged, Target) and judged.host not in served:
        return NOT_SERVED
    return judged


def _judge(method: bytes, raw: bytes, host: bytes) -> Target | Refusal:
    known = _METHOD_TEXT.get(method)
    if known is None:
        return _UNKNOWN_METHOD if _METHOD_TOKEN.fullmatch(method) else _BAD_METHOD
    authority = judge_host(host)
    if authority is None:
        return _BAD_HOST
    clean = _CLEAN.fullmatch(raw)
    if clean is not None:
        return Target(known, clean[1].decode("ascii"), raw, authority)
    origin = _origin_form(raw, authority)
    if isinstance(origin, Refusal):
        return origin
    path = origin.partition(b"?")[0]
    return _fault(path) or Target(known, path.decode("ascii"), origin, authority)


def _origin_form(raw: bytes, authority: str) -> bytes | Refusal:
    """The target from its path on. `authority` is the judged Host, which an absolute-form target must repeat."""
    if not _TARGET.fullmatch(raw):
        return _FRAGMENT if b"#" in raw else _BAD_CHARACTER if raw else _BAD_FORM
    if raw[0] == 0x2F:
        return raw
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is None:
        return _BAD_FORM
    if b"@" in absolute[2]:
        return _USERINFO
    if judge_host(absolute[2]) != authority:
        return _OTHER_HOST
    return (absolute[3] or b"/") + (absolute[4] or b"")


def _fault(path: bytes) -> Refusal | None:
    """Why nobody can say what a path is. It is printable ASCII."""
    if _BROKEN_ESCAPE.search(path):
        return _BAD_ESCAPE
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return _BAD_UTF8
    return None


@lru_cache(512)
def _host_remembered(field: bytes) -> str | None:
    return _canonical_host(field)


def judge_host(field: bytes) -> str | None:
    """The canonical authority of a Host field's value, or None when it is not one.

    Lower case; no final dot; IPv6 compressed, in brackets, without a zone; the port only when it is not 80 or 443.
    Names are letters, digits, hyphens, underscores and dots; a name whose last label is a number must be a dotted
    IPv4 address, as browsers have it, so `127.1` and `0x7f.1` are refused. RFC 3986 3.2.2, RFC 9110 7.2.
    """
    return _host_remembered(field) if len(field) <= 255 else _canonical_host(field)


def _canonical_host(field: bytes) -> str | None:
    try:
        parts = _HOST.fullmatch(field.strip(b" \t").decode("ascii").lower())
    except UnicodeDecodeError:
        return None
    if parts is None:
        return None
    address, name, digits = parts.groups()
    port = int(digits) if digits else 80
    host = _ipv6(address) if address is not None else _name(name)
    if host is None or not 1 <= port <= 65535:
        return None
    return host if port in _DEFAULT_PORTS else f"{host}:{port}"


def _ipv6(text: str) -> str | None:
    try:
        return f"[{IPv6Address(text)}]"
    except AddressValueError:
        return None


def _name(name: str) -> str | None:
    if len(name) > 253:
        return None
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except AddressValueError:
            return None
    return name
