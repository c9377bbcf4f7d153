"""PROXY protocol headers: every form of both versions, at every split; what is none is never taken for one."""

from __future__ import annotations

import socket
import struct

import pytest

from scopegate.edge.proxy_protocol import MAX_V1_BYTES, MAX_V2_BYTES, Told, Unread, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 40000, 443)
V6_TEXT = "2001:db8::7"
V6 = socket.inet_pton(socket.AF_INET6, V6_TEXT) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + b"\x9c\x40\x01\xbb"
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + b"\x9c\x40\x01\xbb"
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
ALPN, NOTHING = b"\x01\x00\x08http/1.1", b"\x04\x00\x03abc"


def ssl_of(client: int, rest: bytes = b"\x21\x00\x07TLSv1.3") -> bytes:
    """The extension that says how the visitor came: bits of `client`, a verdict, extensions inside."""
    return struct.pack("!BHBI", 0x20, 5 + len(rest), client, 0) + rest


TLVS = NOTHING + ssl_of(1)


def v2(rest: bytes = V4, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    length = len(rest) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, length) + rest


LONGEST_V1 = (
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
)

GOOD: dict[str, tuple[bytes, str | None]] = {
    "v1 TCP4": (b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n", "203.0.113.7"),
    "v1 ports 0 and 65535": (b"PROXY TCP4 203.0.113.7 192.0.2.1 0 65535\r\n", "203.0.113.7"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", V6_TEXT),
    "v1 TCP6 in capitals and long": (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 40000 443\r\n", V6_TEXT),
    "v1 TCP6, IPv4-mapped": (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 40000 443\r\n", "203.0.113.7"),
    "v1 TCP6, the longest": (LONGEST_V1, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN and more": (b"PROXY UNKNOWN ffff::1 whatever \xff 1\r\n", None),
    "v1 UNKNOWN, 107 bytes": (b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n", None),
    "v2 TCP4": (v2(), "203.0.113.7"),
    "v2 TCP4 with TLVs": (v2(V4 + TLVS), "203.0.113.7"),
    "v2 TCP6": (v2(V6, family=0x21), V6_TEXT),
    "v2 TCP6, IPv4-mapped": (v2(MAPPED, family=0x21), "203.0.113.7"),
    "v2 TCP6 with TLVs": (v2(V6 + TLVS, family=0x21), V6_TEXT),
    "v2 UNIX": (v2(UNIX, family=0x31), None),
    "v2 UNIX with TLVs": (v2(UNIX + TLVS, family=0x31), None),
    "v2 TCP4 by SSL alone": (v2(V4 + ssl_of(1, b"")), "203.0.113.7"),
    "v2 TCP4 not by SSL": (v2(V4 + ALPN + ssl_of(0)), "203.0.113.7"),
    "v2 TCP4 with a certificate, not by SSL": (v2(V4 + ssl_of(6)), "203.0.113.7"),
    "v2 TCP4 of two minds": (v2(V4 + ssl_of(1) + ssl_of(0)), "203.0.113.7"),
    "v2 TCP4 of two minds, the other way": (v2(V4 + ssl_of(0) + ssl_of(1)), "203.0.113.7"),
    "v2 TCP4 of other extensions": (v2(V4 + ALPN + NOTHING + b"\x04\x00\x00"), "203.0.113.7"),
    "v2 LOCAL with an SSL extension": (v2(V4 + ssl_of(1), command=0x20), None),
    "v2 UNSPEC with an SSL extension": (v2(ssl_of(1), family=0), None),
    "v2 UNSPEC": (v2(b"", family=0), None),
    "v2 UNSPEC with bytes": (v2(b"\x01\x02\x03", family=0), None),
    "v2 LOCAL": (v2(b"", command=0x20, family=0), None),
    "v2 LOCAL with an address": (v2(command=0x20), None),
    "v2 LOCAL of an odd family": (v2(b"xyz", command=0x20, family=0x77), None),
    "v2, the longest": (v2(V4 + b"\x04\x07\xe1" + b"x" * (MAX_V2_BYTES - 16 - 12 - 3)), "203.0.113.7"),
}

BY_TLS: dict[str, bool] = {
    "v2 TCP4 with TLVs": True,
    "v2 TCP6 with TLVs": True,
    "v2 UNIX with TLVs": True,
    "v2 TCP4 by SSL alone": True,
    "v2 TCP4 not by SSL": False,
    "v2 TCP4 with a certificate, not by SSL": False,
    "v2 TCP4 of two minds": False,
    "v2 TCP4 of two minds, the other way": False,
}
"""Whether the header says that the visitor came by TLS; those that are not here say nothing of it."""

BAD: dict[str, bytes] = {
    "a request": b"GET / HTTP/1.1\r\n",
    "an empty line": b"\r\nGET / HTTP/1.1\r\n",
    "two empty lines": b"\r\n\r\nGET / HTTP/1.1\r\n",
    "small letters": b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    "a tab": b"PROXY\tTCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    "two spaces": b"PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n",
    "a space at the end": b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n",
    "no family": b"PROXY \r\n",
    "only its name": b"PROXY\r\n",
    "UDP4": b"PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
    "UNKNOWNS": b"PROXY UNKNOWNS\r\n",
    "no ports": b"PROXY TCP4 203.0.113.7 192.0.2.1\r\n",
    "one port": b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
    "three ports": b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
    "port 65536": b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 2\r\n",
    "the other port 65536": b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
    "port -1": b"PROXY TCP4 203.0.113.7 192.0.2.1 -1 2\r\n",
    "port 080": b"PROXY TCP4 203.0.113.7 192.0.2.1 080 2\r\n",
    "port in other digits": "PROXY TCP4 203.0.113.7 192.0.2.1 ٣ 2\r\n".encode(),
    "leading zeros": b"PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
    "three numbers": b"PROXY TCP4 203.0.113 192.0.2.1 1 2\r\n",
    "256": b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
    "a bad destination": b"PROXY TCP4 203.0.113.7 192.0.2 1 2\r\n",
    "IPv6 as TCP4": b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
    "brackets": b"PROXY TCP6 [2001:db8::7] [2001:db8::1] 1 2\r\n",
    "a name": b"PROXY TCP4 a.example 192.0.2.1 1 2\r\n",
    "a bare LF": b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\nGET / HTTP/1.1\r\n",
    "a NUL": b"PROXY TCP4 203.0.113.7\x00 192.0.2.1 1 2\r\n",
    "no end in 107 bytes": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "an end after 107 bytes": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "v2 of version 1": v2(command=0x11),
    "v2 of version 3": v2(command=0x31),
    "v2 of version 0": v2(command=0x01),
    "v2 of another command": v2(command=0x22),
    "v2 of another family": v2(family=0x41),
    "v2 UDP4": v2(family=0x12),
    "v2 UDP6": v2(V6, family=0x22),
    "v2 of a Unix datagram": v2(UNIX, family=0x32),
    "v2 TCP4 without its transport": v2(family=0x10),
    "v2 TCP4 too short": v2(V4[:11]),
    "v2 TCP6 too short": v2(V6[:35], family=0x21),
    "v2 UNIX too short": v2(UNIX[:215], family=0x31),
    "v2 too long": v2(V4 + b"x" * 3000),
    "v2 LOCAL too long": v2(b"x" * 3000, command=0x20),
    "v2 that claims 65535": v2(b"", length=65535),
    "v2, an extension without a length": v2(V4 + b"\x04\x00"),
    "v2, an extension cut short": v2(V4 + b"\x04\x00\x04abc"),
    "v2, bytes behind the last extension": v2(V4 + ssl_of(1) + b"\x00"),
    "v2, an SSL extension without its verdict": v2(V4 + b"\x20\x00\x04\x01\x00\x00\x00"),
    "v2, an empty SSL extension": v2(V4 + b"\x20\x00\x00"),
    "v2 TCP6, an extension cut short": v2(V6 + b"\x20\x00\x05\x01", family=0x21),
    "another signature": b"\r\n\r\n\x00\r\nQUIT\r" + v2()[12:],
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("after", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"\x00" * 200])
def test_a_header_tells_an_address_and_needs_all_of_itself(name: str, after: bytes) -> None:
    header, address = GOOD[name]
    assert read_header(header + after) == Told(address, len(header), BY_TLS.get(name))
    for cut in range(len(header)):
        assert read_header(header[:cut]) is Unread.MORE, header[:cut]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_bad_and_never_told(name: str) -> None:
    assert read_header(BAD[name]) is Unread.BAD
    for cut in range(len(BAD[name])):
        assert isinstance(read_header(BAD[name][:cut]), Unread), BAD[name][:cut]


def test_nobody_is_waited_for_beyond_the_bounds() -> None:
    assert len(LONGEST_V1) <= MAX_V1_BYTES
    assert read_header(b"PROXY " + b"x" * (MAX_V1_BYTES - 6)) is Unread.BAD
    assert read_header(v2(b"", length=MAX_V2_BYTES - 15)) is Unread.BAD
