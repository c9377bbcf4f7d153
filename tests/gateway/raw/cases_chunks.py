"""Chunked bodies: sizes, extensions, line ends, limits, and the 17 trailers."""

from __future__ import annotations

from tests.gateway.raw.case import Case, Passed, chunked, get, passed, refused

NONE = b"0\r\n\r\n"
ABC = b"3\r\nabc\r\n"


def body(payload: bytes) -> Passed:
    return Passed(b"POST", b"/x", "length", payload)


def size(text: bytes) -> bytes:
    """A chunk of `abc` whose size is written so."""
    return chunked(text + b"\r\nabc\r\n" + NONE)


def trailer(*lines: bytes) -> bytes:
    return chunked(ABC + b"0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


TRAILERS: list[Case] = [
    *passed({  # dropped: the recording app wants none, and nothing of them among the fields
        "a trailer": (trailer(b"X: y"), body(b"abc")),
        "a trailer that was announced": (
            chunked(b"0\r\nX: y\r\n\r\n", b"Trailer: X"),
            body(b""),
        ),
        "a trailer X-Forwarded-For": (trailer(b"X-Forwarded-For: 6.6.6.6"), body(b"abc")),
        "a trailer Host": (trailer(b"Host: b.example"), body(b"abc")),
        "a trailer Content-Length": (trailer(b"Content-Length: 5"), body(b"abc")),
        "a trailer Transfer-Encoding": (trailer(b"Transfer-Encoding: chunked"), body(b"abc")),
        "a trailer Authorization": (trailer(b"Authorization: Bearer x"), body(b"abc")),
        "a trailer of a framework's own": (trailer(b"x-middleware-subrequest: x"), body(b"abc")),
        "two trailers": (trailer(b"X: y", b"X:"), body(b"abc")),
    }),
    *refused(400, "bad_framing", {
        "a trailer without a colon": trailer(b"GET /y HTTP/1.1"[:3]),
        "a trailer that is a request": trailer(b"GET /y HTTP/1.1", b"Host: a.example"),
        "a trailer folded": trailer(b"X: y", b" z"),
        "a trailer with a space before its colon": trailer(b"X : y"),
        "a trailer with a NUL": trailer(b"X: \x00"),
        "a trailer ended by LF": chunked(b"0\r\nX: y\n\r\n\r\n"),
        "a trailer with a bare CR": trailer(b"X: y\rz"),
        "trailers too large": trailer(*[b"X: " + b"y" * 100] * 45),
    }),
]  # fmt: skip

CASES: list[Case] = [
    *TRAILERS,
    *refused(400, "bad_framing", {
        # ── extensions ──────────────────────────────────────────────────────────────────────────────────────────────
        "extension": size(b"3;a=b"),
        "extension without a value": size(b"3;a"),
        "extension in quotes": size(b'3;a="b"'),
        "extension in quotes that hide a line end": size(b'3;a="\r\n'),
        "extension with a bare LF": size(b"3;a\nb"),
        "extension with a bare CR": size(b"3;a\rb"),
        "extension with a NUL": size(b"3;\x00"),
        "extension of a semicolon": size(b"3;"),
        "extension of a space": size(b"3 "),
        "extension of a tab": size(b"3\t"),
        "extension on the last chunk": chunked(b"0;a\r\n\r\n"),
        "extension of 3,000 bytes": size(b"3;" + b"a" * 3000),
        # ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────
        "size 0x3": size(b"0x3"),
        "size -3": size(b"-3"),
        "size +3": size(b"+3"),
        "size -0": chunked(b"-0\r\n\r\n"),
        "size 3.0": size(b"3.0"),
        "size 3_0": size(b"3_0"),
        "size 3h": size(b"3h"),
        "size g": size(b"g"),
        "size in quotes": size(b'"3"'),
        "size in full-width digits": size("３".encode()),
        "size with a space before it": size(b" 3"),
        "size with a tab before it": size(b"\t3"),
        "size with a line end before it": size(b"\r\n3"),
        "size of 17 digits": size(b"10000000000000003"),
        "size of 16 digits": size(b"0000000000000003"),
        "size that overflows 64 bits": size(b"fffffffffffffffd"),
        "size missing": size(b""),
        "size of a hundred zeros": chunked(b"0" * 100 + b"\r\n\r\n"),
        "a request for a size": chunked(b"GET /y HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        # ── line ends ───────────────────────────────────────────────────────────────────────────────────────────────
        "size ended by LF": chunked(b"3\nabc\r\n" + NONE),
        "size ended by CR": chunked(b"3\rabc\r\n" + NONE),
        "size ended by CR CR LF": chunked(b"3\r\r\nabc\r\n" + NONE),
        "chunk ended by LF": chunked(b"3\r\nabc\n" + NONE),
        "chunk ended by CR": chunked(b"3\r\nabc\r" + NONE),
        "chunk ended by two bytes": chunked(b"3\r\nabcXX" + NONE),
        "chunk not ended": chunked(b"3\r\nabc" + NONE),
        "last size ended by LF": chunked(ABC + b"0\n\r\n"),
        "body ended by LF": chunked(ABC + b"0\r\n\nGET / HTTP/1.1\r\n\r\n"),
        "body ended by CR CR LF": chunked(ABC + b"0\r\n\r\r\n"),
        "bare LFs only": chunked(b"3\nabc\n0\n\n"),
        "chunk longer than its size": chunked(b"3\r\nabcd\r\n" + NONE),
        "chunk shorter than its size": chunked(b"5\r\nabc\r\n" + NONE),
        "no chunk at all": chunked(b"abc\r\n\r\n\r\n\r\n"[3:]),
    }),
    *refused(413, "body_too_large", {
        "too large": chunked(b"401\r\n" + b"a" * 1025 + b"\r\n" + NONE),
        "too large in chunks": chunked(b"100\r\n%b\r\n" % (b"a" * 256) * 5 + NONE),
        "too large in tiny chunks": chunked(b"1\r\na\r\n" * 1025 + NONE),
    }),
    *passed({
        "empty": (chunked(NONE), body(b"")),
        "two chunks": (chunked(ABC + ABC + NONE), body(b"abcabc")),
        "a hundred chunks": (chunked(b"1\r\na\r\n" * 100 + NONE), body(b"a" * 100)),
        "zeros before a size": (size(b"003"), body(b"abc")),
        "15 digits of size": (size(b"000000000000003"), body(b"abc")),
        "the last size in many zeros": (chunked(ABC + b"000\r\n\r\n"), body(b"abc")),
        "size in capitals": (chunked(b"A\r\n0123456789\r\n" + NONE), body(b"0123456789")),
        "size in small letters": (chunked(b"a\r\n0123456789\r\n" + NONE), body(b"0123456789")),
        "a chunk of line ends": (chunked(b"2\r\n\r\n\r\n" + NONE), body(b"\r\n")),
        "a chunk that looks like the last": (chunked(b"5\r\n0\r\n\r\n\r\n" + NONE), body(b"0\r\n\r\n")),
        "a chunk that is a request": (chunked(b"%x\r\n%b\r\n" % (len(get()), get()) + NONE), body(get())),
        "at the limit": (chunked(b"400\r\n" + b"a" * 1024 + b"\r\n" + NONE), body(b"a" * 1024)),
        "with Trailer, without one": (chunked(NONE, b"Trailer: X"), body(b"")),
    }),
]  # fmt: skip
