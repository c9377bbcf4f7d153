"""Several requests on one connection, and what a request may ask of the connection: close, expect, upgrade."""

from __future__ import annotations

from tests.gateway.raw.case import HOST, Answered, Case, Passed, Refused, chunked, get, last, passed, post, refused

X = Passed(b"GET", b"/x")
A = get(line=b"GET /a HTTP/1.1")
TO_A = Passed(b"GET", b"/a")
POSTED = Passed(b"POST", b"/x", "length", b"abc")
POST = post(b"Content-Length: 3", body=b"abc")
CHUNKED = chunked(b"3\r\nabc\r\n0\r\n\r\n")
SYNTAX, FRAMING = Refused(400, "bad_syntax"), Refused(400, "bad_framing")

CASES: list[Case] = [
    Case("two in one packet", A + get(), (TO_A, X)),
    Case("five in one packet", A * 4 + get(), (TO_A, TO_A, TO_A, TO_A, X)),
    Case("a body between two", A + POST + get(), (TO_A, POSTED, X)),
    Case("a chunked body between two", A + CHUNKED + get(), (TO_A, POSTED, X)),
    Case("two bodies", POST + CHUNKED, (POSTED, POSTED)),
    Case("empty lines between two", A + b"\r\n\r\n" + get(), (TO_A, X)),
    Case("an empty line behind a body", POST + b"\r\n" + get(), (POSTED, X)),
    Case("HEAD and GET", get(line=b"HEAD /x HTTP/1.1") + get(), (Passed(b"HEAD", b"/x"), X)),
    Case("one that is not served between two", A + get(host=b"Host: b.example\r\n") + get(),
         (TO_A, Answered(421, "misdirected_request"), X)),
    Case("good, then a bare LF", A + b"GET /y HTTP/1.1\n" + HOST + b"\r\n", (TO_A, SYNTAX)),
    Case("good, then a bare LF before the next", A + b"\n" + get(), (TO_A, SYNTAX)),
    Case("good, then a bare CR before the next", A + b"\r" + get(), (TO_A, SYNTAX)),
    Case("good, then two spaces", A + get(line=b"GET  /x HTTP/1.1"), (TO_A, SYNTAX)),
    Case("good, then no Host", A + get(host=b""), (TO_A, Refused(400, "bad_host"))),
    Case("good, then two Hosts", A + get(host=HOST + HOST), (TO_A, Refused(400, "bad_host"))),
    Case("good, then both lengths", A + post(b"Content-Length: 3", b"Transfer-Encoding: chunked"), (TO_A, SYNTAX)),
    Case("good, then a bad chunk", A + chunked(b"x\r\n"), (TO_A, FRAMING)),
    Case("good, then half an escape", A + get(line=b"GET /x%2 HTTP/1.1"), (TO_A, Refused(400, "bad_path"))),
    Case("good, then CONNECT", A + b"CONNECT b:1 HTTP/1.1\r\n" + HOST + b"\r\n",
         (TO_A, Refused(501, "method_not_implemented"))),
    Case("good, then garbage", A + b"\x00\x01\x02\r\n\r\n", (TO_A, SYNTAX)),
    Case("good, then too large a body", A + post(b"Content-Length: 2000"), (TO_A, Refused(413, "body_too_large"))),
    Case("good, then too large a head", A + get(b"X: " + b"y" * 5000), (TO_A, Refused(431, "head_too_large"))),
    Case("good, bad, good", A + get(b"X : y") + get(), (TO_A, SYNTAX)),
    Case("two good, bad, good", A + POST + get(b"foo") + get(), (TO_A, POSTED, SYNTAX)),
    Case("a body with bytes left over", post(b"Content-Length: 3", body=b"abcdef\r\n\r\n"), (POSTED, SYNTAX)),
    Case("a chunked body with bytes left over", chunked(b"3\r\nabc\r\n0\r\n\r\n0\r\n\r\n"), (POSTED, SYNTAX)),
    Case("a length too short for its request", post(b"Content-Length: 3", body=b"abcGET /y HTTP/1.1\r\n\r\n"),
         (POSTED, Refused(400, "bad_host"))),
    Case("GET with a body that was not announced", get() + b"abc\r\n\r\n", (X, SYNTAX)),
    # ── close ───────────────────────────────────────────────────────────────────────────────────────────────────────
    *last({
        "close": (get(b"Connection: close"), X),
        "close in capitals": (get(b"Connection: CLOSE"), X),
        "close among others": (get(b"Connection: keep-alive, close"), X),
        "close in a second line": (get(b"Connection: keep-alive", b"Connection: close"), X),
        "close, and one more request": (get(b"Connection: close") + A, X),
        "close, and a bad request": (get(b"Connection: close") + b"x\r\n\r\n", X),
        "HTTP/1.0, and one more request": (get(line=b"GET /x HTTP/1.0") + A, X),
    }),
    # ── expect ──────────────────────────────────────────────────────────────────────────────────────────────────────
    *refused(417, "expectation_failed", {
        "an expectation unknown": post(b"Expect: 200-ok", b"Content-Length: 3", body=b"abc"),
        "two expectations": post(b"Expect: 100-continue, x", b"Content-Length: 3", body=b"abc"),
        "two lines of expectations": post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 0"),
        "an empty expectation": get(b"Expect:"),
        "an expectation with a value": get(b"Expect: 100-continue=1"),
    }),
    *passed({
        "expected and sent at once": (post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), POSTED),
        "expected in capitals": (post(b"EXPECT: 100-CONTINUE", b"Content-Length: 3", body=b"abc"), POSTED),
        "expected without a body": (get(b"Expect: 100-continue"), X),
        "keep-alive said aloud": (get(b"Connection: keep-alive"), X),
        # ── upgrade: no route of this policy lets any pass ──────────────────────────────────────────────────────────
        "upgrade to h2c": (
            get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
            X,
        ),
        "upgrade to h2c with a body": (
            post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A", b"Content-Length: 3",
                 body=b"abc"),
            POSTED,
        ),
        "upgrade to TLS": (get(b"Connection: upgrade", b"Upgrade: TLS/1.3"), X),
        "upgrade to several": (get(b"Connection: Upgrade", b"Upgrade: h2c, websocket"), X),
        "upgrade without Connection": (get(b"Upgrade: websocket"), X),
        "upgrade in Connection only": (get(b"Connection: Upgrade"), X),
        "upgrade with a body": (post(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 3", body=b"abc"), POSTED),
        "upgrade with a chunked body": (
            post(b"Connection: Upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
            POSTED,
        ),
        "upgrade to websocket": (
            get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
            X,
        ),
    }),
]  # fmt: skip
