"""What may be called a photo, and from where one may be fetched.

Pure: addresses as text and values, no name look-ups, no sockets. `worker/fetch` resolves, asks here about every
address, and connects to exactly the address it asked about. Refusals are values; their codes are the closed set that
history, metrics and PhotoError use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2048
MAX_PHOTO_BYTES: Final = 15 * 1024 * 1024
MAX_REDIRECTS: Final = 3
MAX_PIXELS: Final = 51_000_000
"""Of a picture as stored: above it a file is called a bomb. Phones make 50 million; a transparent PNG of that size
takes 4 bytes each, twice, to scale down, and has to fit into the decoder's memory."""
MAX_SEEN: Final = 12
"""Photos of one lead that are fetched and shown to the model: the first. The others are `too_many`."""
MAX_SIDE_PX: Final = 1568
"""The longest side the model reads; anything larger is scaled down before it is sent."""

IPAddress = IPv4Address | IPv6Address


class PhotoCode(StrEnum):
    """Every way in which a photo can be no use."""

    BAD_URL = "bad_url"
    FORBIDDEN_HOST = "forbidden_host"
    FORBIDDEN_ADDRESS = "forbidden_address"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BAD_STATUS = "bad_status"
    REDIRECTS = "redirects"
    ENCODED = "encoded"
    TOO_LARGE = "too_large"
    NOT_A_PICTURE = "not_a_picture"
    DAMAGED = "damaged"
    BOMB = "bomb"
    DECODER_FAILED = "decoder_failed"
    DUPLICATE = "duplicate"
    TOO_MANY = "too_many"


class PhotoType(StrEnum):
    """The media types the model takes."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    GIF = "image/gif"
    WEBP = "image/webp"


@dataclass(frozen=True, slots=True)
class PhotoRefusal:
    """`detail` is one clause for history and never holds the address itself: presigned ones carry credentials."""

    code: PhotoCode
    detail: str


@dataclass(frozen=True, slots=True)
class PhotoUrl:
    """A judged address. `host` is a lower-case name or a canonical IP without brackets; `target` is path and query
    byte for byte as written, because presigned addresses are signed that way; `literal` is set when the host is an
    IP that the policy lists by itself."""

    scheme: str
    host: str
    port: int
    target: str
    literal: IPAddress | None = None

    @property
    def authority(self) -> str:
        """The Host field (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as the model gets it: a plain JPEG of at most MAX_SIDE_PX on a side, without metadata. `digest` is the
    SHA-256 (hex) of the file as downloaded: two photos of a lead with the same one are one."""

    jpeg: bytes
    width_px: int
    height_px: int
    digest: str


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMERIC_END = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")
"""What WHATWG's URL standard calls a host that "ends in a number": it can only be meant as an IPv4 address."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")


# ── what it is ──────────────────────────────────────────────────────────────────────────────────────────────────────
def sniff(head: bytes) -> PhotoType | None:
    """The type by its first 12 bytes, whatever a name or a Content-Type claims; None when it is none of ours."""
    if head.startswith(b"\xff\xd8\xff"):
        return PhotoType.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PhotoType.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return PhotoType.GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return PhotoType.WEBP
    return None


# ── where it may come from ──────────────────────────────────────────────────────────────────────────────────────────
def judge_url(text: str, photo_hosts: Iterable[str]) -> PhotoUrl | PhotoRefusal:
    """May this address be asked at all? `photo_hosts` are the policy's patterns: `*.example.com` (any name below it),
    an exact name, a literal loopback address; each with an optional port.

    https only, on its own port, unless the pattern that matches names a port or a loopback address. User names,
    backslashes, spaces, controls, non-ASCII names, trailing dots and odd spellings of an IP are refused, not repaired.
    """
    parsed = _parse(text)
    if isinstance(parsed, PhotoRefusal):
        return parsed
    pattern = next((pattern for pattern in photo_hosts if _matches(pattern.lower(), parsed)), None)
    if pattern is None:
        return PhotoRefusal(PhotoCode.FORBIDDEN_HOST, "host is not in photo_hosts")
    if parsed.literal and not parsed.literal.is_loopback:
        return PhotoRefusal(PhotoCode.FORBIDDEN_ADDRESS, "only a loopback address may be named by number")
    if parsed.scheme == "http" and not parsed.literal and _split_port(pattern.lower())[1] is None:
        return PhotoRefusal(PhotoCode.BAD_URL, "not https")
    return parsed


def may_connect(url: PhotoUrl, address: IPAddress) -> bool:
    """May a connection for this URL go to this address? Asked for every answer of the resolver."""
    return address == url.literal if url.literal else is_public(address)


def is_public(address: IPAddress) -> bool:
    """Is this an address of the public Internet? Decided by a list of our own, from IANA's special-purpose registries
    (RFC 6890): `is_global` of the standard library says yes to NAT64, 6to4 and mapped forms of private addresses, to
    multicast, and to cloud metadata outside the private ranges."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address in _UNICAST_V6 and not any(address in network for network in _CLOSED_V6)


_CLOSED_V4: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, Google at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_UNICAST_V6: Final = ip_network("2000::/3")
"""The only global unicast there is: outside it lie loopback, mapped, NAT64, unique-local, link-local, multicast."""
_CLOSED_V6: Final = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries any IPv4 address inside
        "3fff::/20",  # documentation
    )
)


def _parse(text: str) -> PhotoUrl | PhotoRefusal:
    bad = _spelling_fault(text)
    if bad:
        return PhotoRefusal(PhotoCode.BAD_URL, bad)
    try:
        parts = urlsplit(text)
    except ValueError:  # an open bracket
        return PhotoRefusal(PhotoCode.BAD_URL, "not a URL")
    if parts.scheme not in _DEFAULT_PORTS or not text[len(parts.scheme) :].startswith("://"):
        return PhotoRefusal(PhotoCode.BAD_URL, "neither http nor https")
    if "@" in parts.netloc:
        return PhotoRefusal(PhotoCode.BAD_URL, "has a user name")
    host, port = _split_port(parts.netloc.lower())
    literal = _canonical_ip(host)
    if literal is None and not _is_name(host):
        return PhotoRefusal(PhotoCode.BAD_URL, "host is neither a name nor a plainly written address")
    if port is not None and not (_PORT.fullmatch(port) and int(port) < 65536):
        return PhotoRefusal(PhotoCode.BAD_URL, "not a port")
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    return PhotoUrl(
        scheme=parts.scheme,
        host=host.strip("[]"),
        port=int(port) if port else _DEFAULT_PORTS[parts.scheme],
        target=f"{path}?{parts.query}" if parts.query else path,
        literal=literal,
    )


def _spelling_fault(text: str) -> str | None:
    if len(text) > MAX_URL_CHARS:
        return f"longer than {MAX_URL_CHARS} characters"
    if not _VISIBLE_ASCII.fullmatch(text):
        return "empty, or has spaces, controls or characters outside ASCII"
    if "\\" in text:
        return "has a backslash"
    return None


def _split_port(authority: str) -> tuple[str, str | None]:
    """Host and port text; brackets stay on an IPv6 host. The port is None when there is no colon."""
    closing = authority.rfind("]")
    colon = authority.find(":", closing + 1)
    return (authority, None) if colon < 0 else (authority[:colon], authority[colon + 1 :])


def _is_name(host: str) -> bool:
    return bool(_NAME.fullmatch(host)) and not _NUMERIC_END.search(host)


def _canonical_ip(host: str) -> IPAddress | None:
    """The address when `host` is one in its one canonical spelling; None for a name and for every odd spelling."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in bare:  # a zone names an interface of this machine
        return None
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    written = f"[{address}]" if address.version == 6 else str(address)
    return address if written == host else None


def _matches(pattern: str, url: PhotoUrl) -> bool:
    """A pattern without a port means the scheme's own port, except for a loopback address: that means any."""
    host_pattern, port = _split_port(pattern)
    if not _host_matches(host_pattern, url):
        return False
    if port is None:
        return url.literal is not None or url.port == _DEFAULT_PORTS[url.scheme]
    return port == str(url.port)


def _host_matches(pattern: str, url: PhotoUrl) -> bool:
    if url.literal is not None:
        return _canonical_ip(pattern) == url.literal
    if pattern.startswith("*."):
        return url.host.endswith(pattern[1:])  # a name never starts with a dot: something stands before it
    return url.host == pattern
