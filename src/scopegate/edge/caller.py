"""Who is asking: the client's address through trusted proxies, and the group that limits count.

Pure. X-Forwarded-For, or Forwarded, is read from the right, one trusted hop at a time, so a client cannot choose its
address; nothing is trusted unless the policy names it. Called by the gateway on every request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network
from typing import NamedTuple

from scopegate.edge.proxy_protocol import Told
from scopegate.policy.policy import Network

MAX_HOPS = 32
"""How many entries of the field are read, from the right: a longer chain of trusted proxies is a loop or a forgery."""

UNKNOWN = "unknown"
"""The address of a peer that has none (a Unix socket): one identity for all of them (the word is RFC 7239's)."""

_MAX_ENTRY_BYTES = 64
_MAX_FORWARDED_BYTES = 4096
_FORWARDED_PAIR = re.compile(
    rb"""[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]+)))?[ \t]*(;|,|\Z)""", re.ASCII | re.DOTALL
)
_EMPTY_ENTRIES = re.compile(rb",[ \t,]*,")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_V4_PORT = re.compile(r"([0-9.]+)(?::([0-9]{1,5}))?")
_V6 = re.compile(r"([0-9a-f:.]+)(?:%[^\]\[]*)?", re.IGNORECASE)
_V6_PORT = re.compile(r"\[([0-9a-f]*:[0-9a-f:.]*)(?:%[^\]\[]*)?\](?::([0-9]{1,5}))?", re.IGNORECASE)


class _Hop:
    """One address of the chain, with its canonical text, and what one set of networks says of it: parsing and asking is
    what costs, and the same hops come again."""

    __slots__ = ("_answer", "_asked", "address", "text")

    def __init__(self, address: IPv4Address | IPv6Address) -> None:
        self.address = address
        self.text = str(address)
        self._asked: Sequence[Network] = ()
        self._answer = False

    def is_in(self, networks: Sequence[Network]) -> bool:
        if networks is not self._asked:
            self._asked = networks
            self._answer = any(self.address in network for network in networks)
        return self._answer


def canonical_peer(peer: str) -> str:
    """A connection's other end as canonical IP text: IPv4-mapped IPv6 (a client of a socket for both) is its IPv4
    address, a zone dropped. What is no address stays as it is."""
    hop = _hop(peer)
    return peer if hop is None else hop.text


def client_address(peer: str, forwarded: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """The client's canonical IP text.

    `peer` is the connection's other end; `forwarded` are the values of every X-Forwarded-For line in order. An
    untrusted peer is the client and the field is ignored. Behind trusted hops the first untrusted entry from the right
    is the client; an entry that is no address ends the walk, and so does `MAX_HOPS`: the last trusted hop counts then.
    IPv4-mapped IPv6 is its IPv4 address; ports and zones are dropped. `UNKNOWN` for a peer without an address.
    """
    current = _hop(peer)
    if current is None:
        return UNKNOWN
    if trusted and forwarded and current.is_in(trusted):
        for entry in _from_the_right(forwarded):
            hop = _entry(entry)
            if hop is None:
                break
            current = hop
            if not hop.is_in(trusted):
                break
    return current.text


@lru_cache(8192)
def limit_group(address: str, ipv6_prefix: int = 64) -> str:
    """What limits count: an IPv4 address itself, an IPv6 address' /64 (one subscriber owns all of it) or wider."""
    hop = _hop(address)
    if hop is None:
        return address
    return str(IPv6Network((hop.address, ipv6_prefix), strict=False)) if hop.address.version == 6 else hop.text


def is_https(values: Sequence[bytes]) -> bool:
    """Whether X-Forwarded-Proto, as trusted proxies sent it, says https: every value of every line does. Of proxies
    that append, one that was reached without TLS is enough to say no."""
    return bool(values) and all(each.strip(b" \t").lower() == b"https" for line in values for each in line.split(b","))


def is_introduced_by_https(told: Told | None, said: Sequence[bytes]) -> bool:
    """Whether the visitor whom a trusted proxy introduced by the PROXY protocol came by https: as its header says, and
    where that says nothing, as X-Forwarded-Proto (`said`). None: nobody trusted introduced this connection."""
    if told is None:
        return False
    return is_https(said) if told.is_tls is None else told.is_tls


class Element(NamedTuple):
    """What one proxy says of who came to it (RFC 7239 4): the `for` node, and whether `proto` was https."""

    node: bytes
    is_https: bool


_SAYS_NOTHING = Element(UNKNOWN.encode(), False)


def forwarded_client(peer: str, fields: Sequence[bytes], trusted: Sequence[Network]) -> tuple[str, bool]:
    """As `client_address`, by Forwarded in place of X-Forwarded-For: the address, and whether the visitor came by
    https.

    Take one field or the other as the proxies in front write it, never both: a proxy that adds to one lets the
    client's copy of the other through. Elements are read from the right while the hop that wrote them is trusted; the
    `proto` of the last one read counts, also when its node is hidden (`_name`, `unknown`) and ends the walk.
    """
    current = _hop(peer)
    if current is None:
        return UNKNOWN, False
    came_by_https = False
    if trusted and fields and current.is_in(trusted):
        for element in _elements_from_the_right(fields):
            came_by_https = element.is_https
            hop = _entry(element.node)
            if hop is None:
                break
            current = hop
            if not hop.is_in(trusted):
                break
    return current.text, came_by_https


def _elements_from_the_right(fields: Sequence[bytes]) -> Iterator[Element]:
    """At most MAX_HOPS elements, last line first. A line is parsed whole, for a quoted string cannot be read backwards;
    one that is malformed, or goes beyond 4 KiB together with those after it, says nothing and is the last."""
    left, room = MAX_HOPS, _MAX_FORWARDED_BYTES
    for field in reversed(fields):
        room -= len(field)
        found = _elements(field) if room >= 0 else None
        if found is None:
            yield _SAYS_NOTHING
            return
        yield from found[: -left - 1 : -1]
        left -= len(found)
        if left <= 0:
            return


def _elements(field: bytes) -> list[Element] | None:
    """The elements of one line, without empty ones (RFC 9110 5.6.1.2); None when the line does not parse. An element
    without one clear `for` is `unknown`; one with two `proto` says neither."""
    elements: list[Element] = []
    pairs: list[tuple[bytes, bytes]] = []
    position = 0
    while True:
        match = _FORWARDED_PAIR.match(field, position)
        if match is None:
            return None
        name, quoted, bare, separator = match.groups()
        if name is not None:
            pairs.append((name.lower(), bare if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)))
        if separator != b";" and pairs:
            elements.append(_element(pairs))
            pairs = []
        if not separator:
            return elements
        position = match.end()


def _element(pairs: Sequence[tuple[bytes, bytes]]) -> Element:
    nodes = [value for name, value in pairs if name == b"for"]
    protos = [value.lower() for name, value in pairs if name == b"proto"]
    node = nodes[0] if len(nodes) == 1 and b"," not in nodes[0] else UNKNOWN.encode()
    return Element(node, protos == [b"https"])


def _from_the_right(lines: Sequence[bytes]) -> Sequence[bytes]:
    """At most MAX_HOPS entries, last line first: several lines are one list (RFC 9110 5.3). Empty ones name nobody and
    are passed over (5.6.1.2), however many."""
    if len(lines) == 1 and b"," not in lines[0]:  # the usual case
        return () if not lines[0].strip(b" \t") else lines
    found: list[bytes] = []
    for line in reversed(lines):
        left = MAX_HOPS - len(found)
        entries = _EMPTY_ENTRIES.sub(b",", line).strip(b" \t,").rsplit(b",", left)
        if len(entries) > left:
            del entries[0]  # the unread rest
        found += [entry for entry in reversed(entries) if entry]
    return found


def _entry(entry: bytes) -> _Hop | None:
    """The address an entry names; None for what is none: `unknown`, empty, a name, a wildcard, a group address."""
    return _parsed_entry(entry) if len(entry) <= _MAX_ENTRY_BYTES else None


@lru_cache(8192)
def _parsed_entry(entry: bytes) -> _Hop | None:
    try:
        text = entry.strip(b" \t").decode("ascii")
    except UnicodeDecodeError:
        return None
    with_port = _V4_PORT.fullmatch(text) or _V6_PORT.fullmatch(text)
    if with_port is not None and int(with_port[2] or 1) not in range(1, 65536):
        return None
    hop = _hop(with_port[1] if with_port is not None else text)
    return None if hop is None or hop.address.is_unspecified or hop.address.is_multicast else hop


@lru_cache(8192)
def _hop(text: str) -> _Hop | None:
    """The address of a text without port, IPv4-mapped IPv6 unwrapped, a zone dropped; None when it is none."""
    bare = _V6.fullmatch(text)
    try:
        address = IPv6Address(bare[1]) if bare is not None and ":" in text else IPv4Address(text)
    except AddressValueError:
        return None
    plain = (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
    return _Hop(plain)


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether a connection's other end is in one of these networks. A peer without an address is in none."""
    hop = _hop(peer)
    return hop is not None and hop.is_in(trusted)
