"""The header with which a proxy opens a connection to tell whose it is: PROXY protocol, versions 1 and 2.

Pure and incremental: the bytes so far go in, and out comes whom they tell, or that more is needed, or that they are no
header. Source: HAProxy's proxy-protocol.txt. Only the gateway's protocol calls it, and only for peers it trusts: from
anybody else such a header is a forgery.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address

MAX_V1_BYTES = 107
"""The longest line of version 1, its CRLF included."""
MAX_V2_BYTES = 2048
"""The longest header of version 2 that is waited for: 16 bytes, the addresses, and room for extensions (TLVs)."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length of the rest
_ADDRESS_BYTES = {0x11: 12, 0x21: 36, 0x31: 216}
"""By family and transport (TCP over IPv4, IPv6, a Unix stream): what the addresses take, ports included."""
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED = 0x00
_TLV = struct.Struct("!BH")  # type, length of the value
_SSL_TYPE = 0x20
_SSL_MIN_BYTES = 5
"""What an SSL extension begins with: one byte of flags and four of the certificate's verdict."""
_CAME_BY_SSL = 0x01
_PORT = r"(?:0|[1-9][0-9]{0,4})"
_V1 = re.compile(rf"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ({_PORT}) ({_PORT})")


class Unread(Enum):
    """Why there is no header: not all of it is here yet, or it is none."""

    MORE = "more"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Told:
    """A header. `address` is the visitor's canonical IP text, IPv4-mapped IPv6 unwrapped, or None where the header
    names nobody (LOCAL, UNKNOWN, a Unix socket): the connection is the proxy's own. `size` is its length in bytes.
    `is_tls` is whether the visitor came by TLS, None where the header does not say."""

    address: str | None
    size: int
    is_tls: bool | None = None


def read_header(data: bytes) -> Told | Unread:
    """The header at the start of `data`. Trailing bytes are the connection's, untouched."""
    if data.startswith(b"PROXY "):
        return _read_v1(data)
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    is_begun = b"PROXY ".startswith(data) or _SIGNATURE.startswith(data)
    return Unread.MORE if is_begun else Unread.BAD


def _read_v1(data: bytes) -> Told | Unread:
    line, end, _ = data[:MAX_V1_BYTES].partition(b"\r\n")
    if not end:
        return Unread.MORE if len(data) < MAX_V1_BYTES else Unread.BAD
    size = len(line) + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):  # the rest of the line says nothing
        return Told(None, size)
    try:
        told = _V1.fullmatch(line.decode("ascii"))
    except UnicodeDecodeError:
        return Unread.BAD
    if told is None or max(int(told[4]), int(told[5])) > 65535:
        return Unread.BAD
    kind = IPv4Address if told[1] == "TCP4" else IPv6Address
    try:
        source, _destination = kind(told[2]), kind(told[3])
    except AddressValueError:
        return Unread.BAD
    return Told(_text(source), size)


def _read_v2(data: bytes) -> Told | Unread:
    if len(data) < _FIXED.size:
        return Unread.MORE
    _, command, family, length = _FIXED.unpack_from(data)
    size = _FIXED.size + length
    if command not in (_LOCAL, _PROXY) or size > MAX_V2_BYTES:
        return Unread.BAD
    if command == _PROXY and family != _UNSPECIFIED and length < _ADDRESS_BYTES.get(family, length + 1):
        return Unread.BAD
    if len(data) < size:
        return Unread.MORE
    if command == _LOCAL:  # the rest is skipped, whatever it says
        return Told(None, size)
    if family == _UNSPECIFIED:
        return Told(None, size)
    is_tls = _read_extensions(data[_FIXED.size + _ADDRESS_BYTES[family] : size])
    return is_tls if isinstance(is_tls, Unread) else Told(_source(family, data[_FIXED.size :]), size, is_tls)


def _read_extensions(data: bytes) -> bool | Unread | None:
    """What the SSL extensions say of the visitor, None without one; BAD when the extensions are not whole."""
    is_tls: bool | None = None
    while data:
        if len(data) < _TLV.size:
            return Unread.BAD
        kind, length = _TLV.unpack_from(data)
        value, data = data[_TLV.size : _TLV.size + length], data[_TLV.size + length :]
        if len(value) < length or (kind == _SSL_TYPE and length < _SSL_MIN_BYTES):
            return Unread.BAD
        if kind == _SSL_TYPE:
            is_tls = is_tls is not False and bool(value[0] & _CAME_BY_SSL)
    return is_tls


def _source(family: int, addresses: bytes) -> str | None:
    if family == 0x11:
        return _text(IPv4Address(addresses[:4]))
    if family == 0x21:
        return _text(IPv6Address(addresses[:16]))
    return None


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
