"""The opening of a WebSocket connection (RFC 6455 section 4), judged on both sides: what the client asks, what the app
agrees to, and which pages of other sites may ask at all.

Pure. No extension is passed on (so no frame is compressed and every frame can be judged), and of subprotocols only what
the app picks among those that were offered. Called by `gateway/websocket`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from scopegate.edge.headers import Noted
from scopegate.edge.target import judge_host
from scopegate.edge.verdict import Refusal, RequestHead
from scopegate.policy.policy import Cors
from scopegate.types import Fields

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_VERSION = b"13"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in base64: the last digit of 22 has only two bits to tell."""
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = re.compile(rb"sec[^a-z0-9:]websocket[^a-z0-9:]", re.IGNORECASE)
_SPACE = b" \t"


@dataclass(frozen=True, slots=True)
class Opening:
    """A handshake as asked for: the key, and the subprotocols offered."""

    key: bytes
    protocols: tuple[bytes, ...] = ()

    @property
    def accept(self) -> bytes:
        """The Sec-WebSocket-Accept that proves that the app understood."""
        return base64.b64encode(hashlib.sha1(self.key + _GUID, usedforsecurity=False).digest())

    def lines(self) -> list[bytes]:
        """The field lines with which the app is asked."""
        lines = [
            b"connection: upgrade\r\nupgrade: websocket\r\n",
            b"sec-websocket-key: %b\r\nsec-websocket-version: %b\r\n" % (self.key, _VERSION),
        ]
        if self.protocols:
            lines.append(b"sec-websocket-protocol: %b\r\n" % b", ".join(self.protocols))
        return lines


def asks_for_websocket(notes: Noted) -> bool:
    """Whether `websocket` is among the protocols of Upgrade."""
    tokens = [token.strip(_SPACE).lower() for value in notes.get(b"upgrade") for token in value.split(b",")]
    return b"websocket" in tokens


def judge_opening(head: RequestHead, notes: Noted) -> Opening | Refusal:
    """For a request that `asks_for_websocket`: its opening, or why it is none (RFC 6455 4.2.1)."""
    versions, keys = _values(head.fields, b"sec-websocket-version"), _values(head.fields, b"sec-websocket-key")
    if head.method != b"GET" or head.version != "1.1" or notes.length != 0:
        return _bad("A WebSocket opens with GET in HTTP/1.1, without a body.")
    if len(notes.get(b"upgrade")) != 1 or notes.get(b"upgrade")[0].strip(_SPACE).lower() != b"websocket":
        return _bad("A WebSocket opens with Upgrade: websocket and no other protocol.")
    if b"upgrade" not in notes.tokens:
        return _bad("Connection has to name Upgrade.")
    if versions != [_VERSION]:
        return _OTHER_VERSION
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return _bad("Sec-WebSocket-Key has to be 16 bytes in base64.")
    protocols = _protocols(_values(head.fields, b"sec-websocket-protocol"))
    if protocols is None:
        return _bad("Sec-WebSocket-Protocol has to be a list of different names.")
    return Opening(keys[0], protocols)


def _bad(detail: str) -> Refusal:
    return Refusal(400, "bad_handshake", detail)


_OTHER_VERSION = Refusal(
    426,
    "websocket_version",
    "Speak version 13 of the WebSocket protocol.",
    ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket"), (b"connection", b"upgrade")),
)


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value.strip(_SPACE) for given, value in fields if given.lower() == name]


def _protocols(values: Sequence[bytes]) -> tuple[bytes, ...] | None:
    names = tuple(name.strip(_SPACE) for value in values for name in value.split(b","))
    well_formed = all(_TOKEN.fullmatch(name) for name in names) and len(set(names)) == len(names)
    return names if well_formed else None


def without_handshake(lines: Sequence[bytes]) -> list[bytes]:
    """Field lines without those of a handshake, in every spelling that an app may take for one."""
    return [line for line in lines if not _OURS.match(line)]


def judge_origin(head: RequestHead, host: str, scheme: str, cors: Cors | None) -> Refusal | None:
    """Whether the page that asks may (RFC 6455 10.2). A browser sends cookies along with a handshake from any site and
    lets it read the answer, CORS or not: so a page of another host may ask only where `cors` allows its origin, and
    with cookies or Authorization only where `cors` allows credentials. Who is no browser sends no Origin. `host` and
    `scheme` are what was asked for; http may be https in front of us."""
    origins = _values(head.fields, b"origin")
    if not origins:
        return None
    if len(origins) == 1:
        origin = origins[0].decode("latin-1").lower()
        if _is_own(origin, host, scheme) or (cors is not None and _is_allowed(origin, head.fields, cors)):
            return None
    return Refusal(403, "origin_not_allowed", "Pages of this origin may not open WebSocket connections here.")


def _is_own(origin: str, host: str, scheme: str) -> bool:
    theirs, mark, authority = origin.partition("://")
    if not mark or theirs not in ("https", scheme):
        return False
    return judge_host(authority.encode("latin-1")) == host


def _is_allowed(origin: str, fields: Fields, cors: Cors) -> bool:
    has_credentials = any(name.lower() in (b"cookie", b"authorization") for name, _ in fields)
    return (cors.any_origin or origin in cors.origins) and (cors.credentials or not has_credentials)


def judge_agreement(fields: Fields, opening: Opening) -> str | None:
    """What is wrong with the app's 101, None for nothing (RFC 6455 4.1). That it is a switch of protocols at all was
    judged before."""
    if [value.lower() for value in _values(fields, b"upgrade")] != [b"websocket"]:
        return "switched to another protocol"
    if _values(fields, b"sec-websocket-accept") != [opening.accept]:
        return "wrong Sec-WebSocket-Accept"
    if _values(fields, b"sec-websocket-extensions"):
        return "agreed to an extension that was not offered"
    chosen = _values(fields, b"sec-websocket-protocol")
    if len(chosen) > 1 or not set(chosen) <= set(opening.protocols):
        return "chose a subprotocol that was not offered"
    return None
