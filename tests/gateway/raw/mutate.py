"""Valid requests, and ways to spoil them: by the byte and by the line. The same seed and index give the same."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.gateway.raw.case import HOST, NEXT, asks, chunked, get, post

ABC = b"3\r\nabc\r\n0\r\n\r\n"
VALID = [
    get(),
    get(b"User-Agent: u/1.0", b"Accept: */*", b"Accept-Encoding: gzip, br", b"Cookie: a=b; c=d"),
    asks(b"/a/b/../c?x=1&y=%2F"),
    asks(b"http://a.example/x?y"),
    asks(b"/%61pi/./leads//x"),
    get(line=b"HEAD /x HTTP/1.1"),
    get(line=b"OPTIONS /x HTTP/1.1"),
    get(b"Connection: keep-alive, X-A", b"X-A: 1"),
    get(b"Connection: Upgrade", b"Upgrade: websocket"),
    get(line=b"GET /x HTTP/1.0"),
    get(b"Content-Length: 3") + b"abc",
    post(b"Content-Length: 3", body=b"abc"),
    post(b"Content-Type: application/json", b"Content-Length: 7", body=b'{"a":1}'),
    post(b"Content-Length: %d" % len(NEXT), body=NEXT),
    post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
    post(b"Content-Length: 0", line=b"PUT /x HTTP/1.1"),
    post(b"Content-Length: 1", body=b"a", line=b"DELETE /x?y HTTP/1.1"),
    chunked(ABC),
    chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    chunked(b"A\r\n0123456789\r\n0\r\nX-T: y\r\n\r\n", b"Trailer: X-T"),
    chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEXT), NEXT)),
    get() + NEXT,
    post(b"Content-Length: 3", body=b"abc") + NEXT,
    chunked(ABC) + NEXT,
    get() + chunked(ABC) + post(b"Content-Length: 3", body=b"abc") + NEXT,
]

LINES = [
    b"Content-Length: 0", b"Content-Length: 3", b"Content-Length: 5", b"Content-Length: 03", b"Content-Length: +3",
    b"Content-Length: 3, 3", b"Content-Length:\t3", b"content-length: 40", b"Content-Length : 3", b"Content-Length",
    b"Content-Length: 3\r\n 0", b"Content_Length: 3", b"Content-Length: 4\x00", b"Content-Length: \xef\xbc\x93",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked ", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: x", b"Transfer-Encoding:", b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked",
    b"transfer-encoding: chunked;a", b"Transfer-Encoding\x00: chunked", b"X: y\r\nTransfer-Encoding: chunked",
    b"Host: a.example", b"Host: b.example", b"Host:", b"host: a.example:80", b"Host : a.example",
    b"Connection: close", b"Connection: Content-Length", b"Connection: Transfer-Encoding, Host", b"Connection: upgrade",
    b"Proxy-Connection: close", b"Keep-Alive: timeout=1", b"TE: trailers", b"Trailer: Content-Length",
    b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Expect: 100-continue", b"Expect: x", b"Via: 1.1 x",
    b" folded", b"\tfolded", b"X: y\r\n z", b"X: a\nY: b", b"X: a\rY: b", b"X:", b": y", b"X", b"X: \xff\x80",
    b"X: \x7f", b"X: \x01", b"X[]: y", b"X Y: z", b"", b"\n", b"\r", b"GET /y HTTP/1.1", b"X-Forwarded-For: 6.6.6.6",
    b"x-middleware-subrequest: x", b"X-HTTP-Method-Override: DELETE",
]  # fmt: skip
PIECES = [
    b"/..", b"/.", b"//", b"/%2e%2e", b"%2f", b"%5c", b"\\", b";x", b"?", b"#", b"%00", b"%", b"%61", b"%c3%a9",
    b"@", b"*", b" ", b"\t", b"http://a.example", b"http://b.example", b"\xc3\xa9", b"[", b"|", b":80", b"%25", b"..;/",
]  # fmt: skip
LINE_ENDS = [
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\r\n ",
    b"\r\n\t",
    b" \r\n",
    b"\x00\r\n",
    b"\r\n\r\n",
    b"",
    b"\x0b\r\n",
]
VERSIONS = [
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/1.01",
    b"RTSP/1.0",
    b"",
]
BYTES = b"\r\n\t \x00\x0b\x0c;,:/\\%#?*@\xff\x80\x7f0123456789abcdefABCDEF\"'-+_."
CHUNKS = [
    b"0\r\n", b"3;a=b\r\n", b"3 \r\n", b"0x3\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"003\r\n", b"\r\n", b"3\n",
    b";\r\n", b"X: y\r\n", b"Content-Length: 3\r\n", b"0\r\n\r\n", b"1\r\nx\r\n",
]  # fmt: skip

Op = Callable[[random.Random, bytes], bytes]


def mutation(seed: int, index: int) -> list[bytes]:
    """A spoilt request as the packets in which it comes."""
    picks = random.Random(f"{seed}/{index}")
    raw = picks.choice(VALID)
    for _ in range(picks.choice((1, 1, 1, 2, 2, 3))):
        raw = picks.choice(OPS)(picks, raw)
    cuts = sorted(picks.randrange(len(raw) + 1) for _ in range(picks.choice((0, 0, 1, 1, 3))))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if b > a]


def _flip(picks: random.Random, raw: bytes) -> bytes:
    at = picks.randrange(len(raw)) if raw else 0
    return raw[:at] + bytes([picks.choice((picks.choice(BYTES), picks.randrange(256)))]) + raw[at + 1 :]


def _insert(picks: random.Random, raw: bytes) -> bytes:
    at = picks.randrange(len(raw) + 1)
    return raw[:at] + bytes([picks.choice(BYTES)]) * picks.choice((1, 1, 2)) + raw[at:]


def _delete(picks: random.Random, raw: bytes) -> bytes:
    at = picks.randrange(len(raw) + 1)
    return raw[:at] + raw[at + picks.choice((1, 1, 2, 5)) :]


def _repeat(picks: random.Random, raw: bytes) -> bytes:
    at, size = picks.randrange(len(raw) + 1), picks.choice((1, 2, 4, 16))
    return raw[: at + size] + raw[at:]


def _cut_short(picks: random.Random, raw: bytes) -> bytes:
    return raw[: picks.randrange(len(raw) + 1)]


def _line_added(picks: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(picks.randrange(1, len(lines) + 1), picks.choice(LINES))
    return b"\r\n".join(lines)


def _line_gone(picks: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    del lines[picks.randrange(len(lines))]
    return b"\r\n".join(lines)


def _line_doubled(picks: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(picks.randrange(len(lines)), picks.choice(lines))
    return b"\r\n".join(lines)


def _lines_swapped(picks: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    a, b = picks.randrange(len(lines)), picks.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\r\n".join(lines)


def _line_end(picks: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    at = picks.randrange(1, len(lines) + 1)
    return b"\r\n".join(lines[:at]) + picks.choice(LINE_ENDS) + b"\r\n".join(lines[at:])


def _target(picks: random.Random, raw: bytes) -> bytes:
    parts = raw.split(b" ", 2)
    if len(parts) < 3:
        return raw
    at = picks.randrange(len(parts[1]) + 1)
    parts[1] = parts[1][:at] + picks.choice(PIECES) + parts[1][at:]
    return b" ".join(parts)


def _version(picks: random.Random, raw: bytes) -> bytes:
    return raw.replace(b"HTTP/1.1", picks.choice(VERSIONS), 1)


def _chunk(picks: random.Random, raw: bytes) -> bytes:
    start = raw.find(b"\r\n\r\n") + 4
    at = picks.randrange(start, len(raw) + 1) if start <= len(raw) else len(raw)
    return raw[:at] + picks.choice(CHUNKS) + raw[at:]


def _host(picks: random.Random, raw: bytes) -> bytes:
    return raw.replace(HOST, HOST[:6] + picks.choice(PIECES) + HOST[6:], 1)


def _behind(picks: random.Random, raw: bytes) -> bytes:
    return raw + picks.choice(VALID)


OPS: list[Op] = [
    _flip, _flip, _insert, _insert, _delete, _repeat, _cut_short, _line_added, _line_added, _line_added, _line_gone,
    _line_doubled, _lines_swapped, _line_end, _line_end, _target, _target, _version, _chunk, _chunk, _host, _behind,
]  # fmt: skip
