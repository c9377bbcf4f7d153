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
from urllib.parse import quote, urlsplit

MAX_URL_CHARS: Final = 2048
MAX_PHOTO_BYTES: Final = 32 * 1024 * 1024
"""Phones with 108 and 200 megapixels write some 25 of them."""
MAX_REDIRECTS: Final = 3
MAX_PIXELS: Final = 51_000_000
"""Of a picture as it is unpacked: above it a file is called a bomb. A transparent PNG of that size takes 4 bytes each,
twice, to scale down, and has to fit into the decoder's memory."""
MAX_JPEG_PIXELS: Final = 210_000_000
"""As stored. A JPEG of this size is unpacked at a half, a quarter or an eighth of it, which keeps to MAX_PIXELS."""
MAX_SEEN: Final = 12
"""Photos of one lead that are fetched and shown to the model: the first. The others are `too_many`."""
MAX_SIDE_PX: Final = 1568
"""The longest side the model reads; anything larger is scaled down before it is sent."""
MAX_PARTS: Final = 4
"""Of a panorama: scaled down as one picture it would be a line."""

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


class Unseen(StrEnum):
    """What the model did not see of a photo that it saw."""

    LOWER_END = "lower_end"
    """The file ends before its picture does."""
    DETAIL = "detail"
    """A progressive file ends before its last pass."""
    FRAMES = "frames"
    """All but the first."""


class PhotoType(StrEnum):
    """The media types that are read. The model gets JPEG alone."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    GIF = "image/gif"
    WEBP = "image/webp"
    HEIF = "image/heif"
    AVIF = "image/avif"
    TIFF = "image/tiff"
    BMP = "image/bmp"


@dataclass(frozen=True, slots=True)
class PhotoRefusal:
    """`detail` is one clause for history and never holds the address itself: presigned ones carry credentials."""

    code: PhotoCode
    detail: str


@dataclass(frozen=True, slots=True)
class PhotoUrl:
    """A judged address. `host` is a lower-case name or a canonical IP without brackets; `target` is path and query as
    written, because presigned addresses are signed that way, with what no request line can hold in the encoding that
    browsers give it; `literal` is set when the host is an IP that the policy lists by itself."""

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
class Part:
    """A plain JPEG of at most MAX_SIDE_PX on a side, without metadata."""

    jpeg: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as the model gets it: one part, or the parts of a panorama from left to right or from top to bottom.
    `digest` is the SHA-256 (hex) of the file as downloaded: two photos of a lead with the same one are one."""

    parts: tuple[Part, ...]
    digest: str
    unseen: tuple[Unseen, ...] = ()


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PATH_SAFE: Final = "!$%&'()*+,-./:;=@[]_|~\\"
_QUERY_SAFE: Final = _PATH_SAFE + "?^`{}"
"""What the path and the query percent-encode sets of WHATWG's URL standard (1.3) leave as it is. The apostrophe in a
query is encoded only by browsers; a presigned address never has one."""
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMERIC_END = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")
"""What WHATWG's URL standard calls a host that "ends in a number": it can only be meant as an IPv4 address."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")


# ── what it is ──────────────────────────────────────────────────────────────────────────────────────────────────────
SNIFFED_BYTES: Final = 64

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


def sniff(head: bytes) -> PhotoType | None:
    """The type by its first SNIFFED_BYTES, whatever a name or a Content-Type claims; None when it is none of ours."""
    if head.startswith(b"\xff\xd8\xff"):
        return PhotoType.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PhotoType.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return PhotoType.GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return PhotoType.WEBP
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head.startswith((b"II*\0", b"MM\0*")):
        return PhotoType.TIFF
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return PhotoType.BMP
    return None


def _sniff_brands(head: bytes) -> PhotoType | None:
    """By the brands of an ISO base media file (ISO/IEC 14496-12 section 4.3), the major one first."""
    end = min(int.from_bytes(head[:4], "big"), SNIFFED_BYTES)
    for brand in (head[8:12], *(head[at : at + 4] for at in range(16, end, 4))):
        if brand in _HEIF_BRANDS:
            return PhotoType.HEIF
        if brand in _AVIF_BRANDS:
            return PhotoType.AVIF
    return None


# ── where it may come from ──────────────────────────────────────────────────────────────────────────────────────────
def judge_url(text: str, photo_hosts: Iterable[str]) -> PhotoUrl | PhotoRefusal:
    """May this address be asked at all? `photo_hosts` are the policy's patterns: `*.example.com` (any name below it),
    `*.s3.*.amazonaws.com` (any one label in the middle), an exact name, a literal loopback address; each with an
    optional port.

    https only, on its own port, unless the pattern that matches names a port or a loopback address. Spaces, umlauts and
    emoji in path and query are taken as browsers take them (WHATWG URL, percent-encode sets). User names, backslashes,
    controls, non-ASCII names, trailing dots and odd spellings of an IP are refused, not repaired.
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
    text = text.strip(" ")
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
    path = quote(parts.path if parts.path.startswith("/") else f"/{parts.path}", _PATH_SAFE)
    return PhotoUrl(
        scheme=parts.scheme,
        host=host.strip("[]"),
        port=int(port) if port else _DEFAULT_PORTS[parts.scheme],
        target=f"{path}?{quote(parts.query, _QUERY_SAFE)}" if parts.query else path,
        literal=literal,
    )


def _spelling_fault(text: str) -> str | None:
    if len(text) > MAX_URL_CHARS:
        return f"longer than {MAX_URL_CHARS} characters"
    if not text or _UNWRITABLE.search(text):
        return "empty, or has controls"
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
    if not pattern.startswith("*."):
        return url.host == pattern
    labels, below = pattern[2:].split("."), url.host.split(".")
    same = zip(reversed(labels), reversed(below), strict=False)
    return len(below) > len(labels) and all(wanted in ("*", label) for wanted, label in same)
