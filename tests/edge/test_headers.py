"""Fields in both directions: what is cut, what is kept as it came, what is ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.headers import (
    CHUNKED,
    MAX_ANSWER_FIELDS,
    STATUS_LINES,
    UNTIL_EOF,
    BadAnswerError,
    Noted,
    asks_for_page_data,
    forwarded_lines,
    is_persistent,
    read_interim,
    read_request,
    read_response,
    request_head,
    request_id,
)
from scopegate.edge.lines import lines_of
from scopegate.edge.verdict import Refusal, Target
from tests.edge.test_field_rules import FORGED

Pairs = list[tuple[bytes, bytes]]
TARGET = Target("GET", "/x", b"/x?q", "a.example")


def request(*fields: tuple[bytes, bytes], version: str = "1.1") -> Noted:
    notes = read_request(lines_of(fields), version)
    assert isinstance(notes, Noted)
    return notes


def refused(*fields: tuple[bytes, bytes], version: str = "1.1") -> Refusal:
    notes = read_request(lines_of(fields), version)
    assert isinstance(notes, Refusal)
    assert notes.close
    return notes


OF_US = {"address": b"192.0.2.7", "chain": b"192.0.2.7", "scheme": b"http"}


def lines(notes: Noted, target: Target = TARGET, **more: bytes) -> list[bytes]:
    """The head that goes upstream, in lines."""
    of_us = {name: more.pop(name, value) for name, value in OF_US.items()}
    forwarded = forwarded_lines(
        notes, host=target.host, address=of_us["address"], chain=of_us["chain"], scheme=of_us["scheme"]
    )
    head = request_head(target, forwarded, notes.length, **{"request_id": b"r-1", **more})
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


HOP_BY_HOP: list[tuple[Pairs, list[bytes]]] = [
    ([(b"Connection", b"keep-alive")], []),
    ([(b"Connection", b"close")], []),
    ([(b"connection", b"X-A"), (b"X-A", b"1"), (b"X-B", b"2")], [b"X-B: 2"]),
    ([(b"X-A", b"1"), (b"Connection", b"x-a")], []),
    ([(b"Connection", b"close, X-A"), (b"x-a", b"1"), (b"X-A", b"2")], []),
    ([(b"Connection", b"X-A"), (b"Connection", b"X-B"), (b"X-A", b"1"), (b"X-B", b"2"), (b"X-C", b"3")], [b"X-C: 3"]),
    ([(b"Connection", b" ,, X-A\t,"), (b"X-A", b"1"), (b"X-AB", b"2")], [b"X-AB: 2"]),
    ([(b"Connection", b"host, content-length, x-request-id, via"), (b"X", b"1")], [b"X: 1"]),
    ([(b"CONNECTION", b"x-a"), (b"X-A", b"1")], []),
    ([(b"Keep-Alive", b"timeout=5")], []),
    ([(b"KEEP-ALIVE", b"timeout=5")], []),
    ([(b"Proxy-Connection", b"keep-alive")], []),
    ([(b"TE", b"trailers")], []),
    ([(b"te", b"gzip")], []),
    ([(b"Trailer", b"X-A")], []),
    ([(b"Transfer-Encoding", b"chunked")], []),
    ([(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], []),
    ([(b"HTTP2-Settings", b"AAM")], []),
    ([(b"hTTP2-sETTINGS", b"AAM")], []),
    ([(b"Proxy-Authorization", b"Basic x")], []),
    ([(b"Proxy-Authenticate", b"Basic")], []),
    ([(b"Proxy-Authentication-Info", b"x")], []),
    ([(b"Sec-WebSocket-Key", b"x")], [b"Sec-WebSocket-Key: x"]),
    ([(b"Authorization", b"Bearer x")], [b"Authorization: Bearer x"]),
]


def test_the_table_is_as_large_as_promised() -> None:
    assert len(HOP_BY_HOP) >= 24


@pytest.mark.parametrize(("fields", "kept"), HOP_BY_HOP)
def test_hop_by_hop_fields_end_here_on_the_way_in(fields: Pairs, kept: list[bytes]) -> None:
    notes = request(*fields)
    assert notes.passed == [line + b"\r\n" for line in kept]


@pytest.mark.parametrize(("fields", "kept"), HOP_BY_HOP)
def test_hop_by_hop_fields_end_here_on_the_way_out(fields: Pairs, kept: list[bytes]) -> None:
    assert read_response(fields, 200, "GET").passed == [line + b"\r\n" for line in kept]


@pytest.mark.parametrize("name", [b"Content-Type", b"authorization", b"COOKIE"])
def test_a_field_that_is_judged_cannot_be_named_as_hop_by_hop(name: bytes) -> None:
    assert refused((b"Connection", b"keep-alive, " + name), (name, b"x")).code == "bad_connection"


NO_TOKENS = [
    (b"content-type: application/json;", b"Content-Type", b"application/json;:"),
    (b"cookie: a=b", b"Cookie", b"a=b:c"),
    (b"set-cookie: a=b", b"Set-Cookie", b"a=b:c"),
    (b"x-a:", b"X-A", b"1"), (b"x-a: ", b"X-A", b": 1"), (b'"x-a"', b"X-A", b"1"), (b"x-a;q=1", b"X-A", b"1"),
    (b"x a", b"X-A", b"1"), (b"close, @", b"X-A", b"1"), (b"keep-alive, x-\xe9", b"X-A", b"1"),
    (b"(x-a)", b"X-A", b"1"),
]  # fmt: skip
"""Options of Connection that are no names of fields, and what they were meant to remove."""


@pytest.mark.parametrize(("option", "name", "value"), NO_TOKENS)
def test_an_option_of_connection_that_is_no_name_is_refused(option: bytes, name: bytes, value: bytes) -> None:
    assert refused((b"Connection", option), (name, value)).code == "bad_connection"
    assert refused((b"Connection", b"upgrade"), (b"Connection", option), (name, value)).code == "bad_connection"
    for read in (lambda fields: read_response(fields, 200, "GET"), read_interim):
        with pytest.raises(BadAnswerError):
            read([(name, value), (b"Connection", option)])


@pytest.mark.parametrize(
    "options",
    [
        [b", ".join([b"x-%d" % n for n in range(33)])],
        [b"," * 32 + b"x-a"],
        [b", ".join([b"x-a"] * 16)] * 3,
        [b"close," * 40 + b"close"],
        [b",".join([b"x"] * 16_000)],
        [b"x-a"] * 33,
    ],
)
def test_connection_names_no_more_than_thirty_two(options: list[bytes]) -> None:
    fields = [(b"Connection", value) for value in options]
    assert refused(*fields).code == "bad_connection"
    with pytest.raises(BadAnswerError):
        read_response(fields, 200, "GET")


def test_connection_may_name_thirty_two() -> None:
    names = [b"x-%d" % n for n in range(32)]
    fields = [(b"Connection", b", ".join(names)), *[(name, b"1") for name in names], (b"X-A", b"1")]
    assert request(*fields).passed == [b"X-A: 1\r\n"]


def test_an_answer_has_no_more_than_256_fields() -> None:
    fields = [(b"Set-Cookie", b"a=b")] * MAX_ANSWER_FIELDS
    assert MAX_ANSWER_FIELDS == 256
    assert len(read_response(fields, 200, "GET").passed) == len(read_interim(fields).passed) == 256
    for read in (lambda fields: read_response(fields, 200, "GET"), read_interim):
        with pytest.raises(BadAnswerError):
            read([*fields, (b"X", b"y")])


def test_what_asks_for_the_data_of_a_page_is_known() -> None:
    for name in (b"X-Nextjs-Data", b"x-middleware-prefetch"):
        assert asks_for_page_data(request((name, b"1")))
    assert not asks_for_page_data(request((b"RSC", b"1")))


COOKIES = [
    ([b"a=b"], b"Cookie: a=b\r\n"),
    ([b"a=b", b"c=d"], b"cookie: a=b; c=d\r\n"),
    ([b" a=b;", b"c=d; e=f ; ", b"", b"a=g"], b"cookie: a=b; c=d; e=f; a=g\r\n"),
    ([b"", b""], b"cookie: \r\n"),
]


@pytest.mark.parametrize(("values", "line"), COOKIES)
def test_several_cookie_fields_are_one(values: list[bytes], line: bytes) -> None:
    notes = request((b"X", b"1"), *[(b"Cookie", value) for value in values])
    assert notes.passed == [b"X: 1\r\n", line]
    assert list(notes.get(b"cookie")) == [line.partition(b": ")[2].rstrip()]
    assert notes.lines == b"X: 1\r\n" + line


def test_what_goes_upstream_is_said_by_us() -> None:
    notes = request(
        (b"Host", b"A.example:80"),
        (b"User-Agent", b"x/1"),
        (b"ACCEPT", b"*/*"),
        (b"accept", b"b"),
        (b"X-Real-IP", b"6.6.6.6"),
    )
    assert lines(notes, chain=b"203.0.113.9, 192.0.2.7", scheme=b"https", identity=b"x-scopegate-user: u\r\n") == [
        b"GET /x?q HTTP/1.1",
        b"host: a.example",
        b"User-Agent: x/1",
        b"ACCEPT: */*",
        b"accept: b",
        b"x-real-ip: 192.0.2.7",
        b"x-forwarded-for: 203.0.113.9, 192.0.2.7",
        b"x-forwarded-proto: https",
        b"x-forwarded-host: a.example",
        b"via: 1.1 scopegate",
        b"x-scopegate-user: u",
        b"x-request-id: r-1",
    ]


@pytest.mark.parametrize(
    ("method", "fields", "framing"),
    [
        ("GET", [], []),
        ("GET", [(b"Content-Length", b"0")], []),
        ("DELETE", [], []),
        ("POST", [], [b"content-length: 0"]),
        ("PUT", [], [b"content-length: 0"]),
        ("PATCH", [(b"Content-Length", b"0")], [b"content-length: 0"]),
        ("POST", [(b"Content-Length", b"007")], [b"content-length: 7"]),
        ("GET", [(b"Content-Length", b"3")], [b"content-length: 3"]),
        ("POST", [(b"Transfer-Encoding", b"Chunked")], [b"transfer-encoding: chunked"]),
    ],
)
def test_framing_upstream_is_ours(method: str, fields: Pairs, framing: list[bytes]) -> None:
    head = lines(request(*fields), Target(method, "/x", b"/x", "a.example"))
    assert [line for line in head if line.startswith((b"content-length", b"transfer-encoding"))] == framing


def test_proxies_on_the_way_are_named_in_via() -> None:
    notes = request((b"Via", b"1.0 fred"), (b"Via", b"1.1 b, 1.1 c"))
    assert lines(notes)[-2] == b"via: 1.0 fred, 1.1 b, 1.1 c, 1.1 scopegate"


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([], b"fresh"),
        ([b"a"], b"a"),
        ([b"AZaz09._-"], b"AZaz09._-"),
        ([b"a" * 128], b"a" * 128),
        ([b" a\t"], b"a"),
        ([b"a" * 129], b"fresh"),
        ([b""], b"fresh"),
        ([b"a b"], b"fresh"),
        ([b'a"b'], b"fresh"),
        ([b"a\\b"], b"fresh"),
        ([b"a/b"], b"fresh"),
        ([b"caf\xc3\xa9"], b"fresh"),
        ([b"a", b"b"], b"fresh"),
        ([b"a", b"a"], b"fresh"),
        ([b"a,b"], b"fresh"),
        ([b"a\n"], b"fresh"),
    ],
)
def test_a_request_id_is_kept_when_it_is_one(values: list[bytes], kept: bytes) -> None:
    assert request_id(request(*[(b"X-Request-ID", value) for value in values]), b"fresh") == kept


@pytest.mark.parametrize(
    ("fields", "version", "length"),
    [
        ([], "1.1", 0),
        ([(b"Content-Length", b"12")], "1.1", 12),
        ([(b"Content-Length", b"999999999999999")], "1.1", 999_999_999_999_999),
        ([(b"content-length", b" 12\t")], "1.0", 12),
        ([(b"Transfer-Encoding", b"chunked ")], "1.1", CHUNKED),
    ],
)
def test_a_requests_length(fields: Pairs, version: str, length: int) -> None:
    assert request(*fields, version=version).length == length


BAD_FRAMING: list[tuple[Pairs, str]] = [
    ([(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")], "1.1"),
    ([(b"Content-Length", b"1"), (b"Content-Length", b"1")], "1.1"),
    ([(b"Content-Length", b"1000000000000000")], "1.1"),
    ([(b"Content-Length", b"-1")], "1.1"),
    ([(b"Content-Length", b"")], "1.1"),
    ([(b"Content-Length", b"\xb2")], "1.1"),
    ([(b"Content-Length", b"1 2")], "1.1"),
    ([(b"Transfer-Encoding", b"chunked")], "1.0"),
    ([(b"Transfer-Encoding", b"gzip")], "1.1"),
    ([(b"Transfer-Encoding", b"chunked, chunked")], "1.1"),
    ([(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], "1.1"),
    ([(b"Transfer-Encoding", b"")], "1.1"),
]


@pytest.mark.parametrize(("fields", "version"), BAD_FRAMING)
def test_a_request_of_two_lengths_is_refused(fields: Pairs, version: str) -> None:
    refusal = refused(*fields, version=version)
    assert (refusal.status, refusal.code) == (400, "bad_framing")


@pytest.mark.parametrize("values", [[b"200-ok"], [b"100-continue", b"100-continue"], [b""], [b"100-continue;a=b"]])
def test_an_expectation_that_nobody_knows_is_refused(values: list[bytes]) -> None:
    assert refused(*[(b"Expect", value) for value in values]).status == 417


@pytest.mark.parametrize(
    ("connection", "version", "kept"),
    [
        ([], "1.1", True),
        ([b"close"], "1.1", False),
        ([b"Close"], "1.1", False),
        ([b"keep-alive, CLOSE"], "1.1", False),
        ([b"keep-alive", b"close"], "1.1", False),
        ([b"keep-alive"], "1.1", True),
        ([b"closed"], "1.1", True),
        ([], "1.0", False),
        ([b"keep-alive"], "1.0", False),
    ],
)
def test_persistence(connection: list[bytes], version: str, kept: bool) -> None:
    assert is_persistent(request(*[(b"Connection", value) for value in connection], version=version), version) is kept


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_goes_on_as_the_app_spelt_it() -> None:
    fields = [
        (b"Set-Cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2"), (b"SET-COOKIE", b"c=3"), (b"ETag", b'W/"x"'),
        (b"X-UPPER", b"odd  "), (b"Date", b"Tue, 24 Nov 2026 08:00:00 GMT"), (b"Content-Encoding", b"gzip"),
        (b"Vary", b"a"), (b"Vary", b"b"), (b"Via", b"1.1 inner"),
    ]  # fmt: skip
    notes = read_response(fields, 200, "GET")
    assert notes.passed == [b"%b: %b\r\n" % field for field in fields]
    assert (notes.get(b"content-encoding"), notes.get(b"via")) == ([b"gzip"], [b"1.1 inner"])


@pytest.mark.parametrize(
    "name", [b"Server", b"SERVER", b"X-Powered-By", b"Alt-Svc", b"X-Request-Id", b"X-Scopegate-User", b"x-scopegate-x"]
)
def test_an_answer_does_not_say_what_made_it_nor_speak_for_us(name: bytes) -> None:
    assert read_response([(name, b"x"), (b"X", b"y")], 200, "GET").passed == [b"X: y\r\n"]


@pytest.mark.parametrize(
    ("fields", "status", "method", "length", "passed"),
    [
        ([], 200, "GET", UNTIL_EOF, []),
        ([(b"Content-Length", b"5")], 200, "GET", 5, []),
        ([(b"Content-Length", b" 5 ")], 200, "GET", 5, []),
        ([(b"Content-Length", b"5"), (b"Content-Length", b"5")], 200, "GET", 5, []),
        ([(b"Transfer-Encoding", b"Chunked")], 200, "GET", CHUNKED, []),
        ([(b"Content-Length", b"5")], 200, "HEAD", 0, [b"content-length: 5\r\n"]),
        ([(b"Content-Length", b"0")], 200, "HEAD", 0, [b"content-length: 0\r\n"]),
        ([(b"Content-Length", b"5")], 304, "GET", 0, [b"content-length: 5\r\n"]),
        ([(b"Content-Length", b"5")], 204, "GET", 0, []),
        ([(b"Transfer-Encoding", b"chunked")], 200, "HEAD", 0, []),
        ([], 304, "GET", 0, []),
        ([], 200, "HEAD", 0, []),
        ([(b"Content-Length", b"5"), (b"Connection", b"content-length")], 200, "HEAD", 0, []),
    ],
)
def test_an_answers_length(fields: Pairs, status: int, method: str, length: int, passed: list[bytes]) -> None:
    notes = read_response(fields, status, method)
    assert (notes.length, notes.passed) == (length, passed)


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")],
        [(b"Content-Length", b"5"), (b"Content-Length", b"6")],
        [(b"Content-Length", b"5, 5")],
        [(b"Content-Length", b"-5")],
        [(b"Content-Length", b"")],
        [(b"Content-Length", b"1000000000000000")],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    ],
)
@pytest.mark.parametrize(("status", "method"), [(200, "GET"), (200, "HEAD"), (304, "GET")])
def test_an_answer_of_two_lengths_is_none(fields: Pairs, status: int, method: str) -> None:
    with pytest.raises(BadAnswerError):
        read_response(fields, status, method)


def test_every_status_has_a_line() -> None:
    assert STATUS_LINES[200] == b"HTTP/1.1 200 OK\r\n"
    assert STATUS_LINES[299] == b"HTTP/1.1 299 \r\n"
    assert set(range(100, 1000)) == set(STATUS_LINES)


def test_one_field_can_be_replaced() -> None:
    notes = request((b"Accept-Encoding", b"gzip"), (b"X", b"y"), (b"ACCEPT-ENCODING", b"br"))
    assert notes.replacing(b"accept-encoding", b"identity").passed == [b"X: y\r\n", b"accept-encoding: identity\r\n"]


TOKEN = st.text("abcXYZ019-_.!", min_size=1, max_size=20).map(str.encode)
VALUE = st.binary(max_size=30).map(lambda raw: bytes(byte for byte in raw if byte > 31 and byte != 127).strip())


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=12))
def test_what_passes_is_what_came_in_order(fields: Pairs) -> None:
    notes = read_request(lines_of(fields), "1.1")
    if isinstance(notes, Noted):
        came = [b"%b: %b\r\n" % field for field in fields]
        assert [line for line in came if line in notes.passed] == notes.passed
        assert not any(line.lower().startswith(tuple(n.lower() + b":" for n in FORGED)) for line in notes.passed)
