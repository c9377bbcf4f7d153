"""Lines of access logs, as each of their writers has them, and lines that are none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.replay.entries import BadLine, LogEntry, LogReading, parse_line

AT_US = 1_795_827_723_500_000  # 2026-11-28T01:02:03.5Z
OURS = (
    b'{"ts":"2026-11-28T01:02:03.750Z","level":"info","source":"gateway","event":"request","request_id":"r","client":'
    b'"192.0.2.1","method":"POST","path":"/api/leads","route":"leads","status":200,"bytes_in":70,"bytes_out":2,'
    b'"seconds":0.250000,"note":""}'
)
CADDY = {
    "level": "info",
    "ts": 1795827723.75,
    "logger": "http.log.access",
    "msg": "handled request",
    "request": {
        "remote_ip": "10.0.0.1",
        "client_ip": "192.0.2.1",
        "host": "a.example",
        "proto": "HTTP/1.1",
        "method": "POST",
        "uri": "/api/leads?a=b",
    },
    "bytes_read": 70,
    "duration": 0.25,
    "status": 200,
}
NGINX = {
    "msec": "1795827723.750",
    "remote_addr": "192.0.2.1",
    "request": "POST /api/leads HTTP/1.1",
    "status": "200",
    "request_time": "0.250",
}
NGINX_PARTS = {
    "time_iso8601": "2026-11-28T02:02:03+01:00",
    "remote_addr": "192.0.2.1",
    "request_method": "POST",
    "request_uri": "/api/leads",
    "status": 200,
}
COMBINED = b'192.0.2.1 - anna [28/Nov/2026:02:02:03 +0100] "POST /api/leads HTTP/1.1" 200 2 "-" "curl \\"8\\""'


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (OURS, LogEntry(AT_US, "192.0.2.1", "POST", "/api/leads", 200, 70, "leads")),
        (json.dumps(CADDY).encode(), LogEntry(AT_US, "192.0.2.1", "POST", "/api/leads?a=b", 200, 70, host="a.example")),
        (json.dumps(NGINX).encode(), LogEntry(AT_US, "192.0.2.1", "POST", "/api/leads", 200)),
        (json.dumps(NGINX_PARTS).encode(), LogEntry(AT_US - 500_000, "192.0.2.1", "POST", "/api/leads", 200)),
        (COMBINED, LogEntry(AT_US - 500_000, "192.0.2.1", "POST", "/api/leads", 200)),
        (
            COMBINED.replace(b"192.0.2.1", b"2001:DB8::1"),
            LogEntry(AT_US - 500_000, "2001:db8::1", "POST", "/api/leads", 200),
        ),
        (COMBINED.partition(b' "-"')[0], LogEntry(AT_US - 500_000, "192.0.2.1", "POST", "/api/leads", 200)),
    ],
)
def test_a_line_of_each_writer(line: bytes, entry: LogEntry) -> None:
    assert parse_line(line) == entry


@pytest.mark.parametrize("line", [b"", b"\n", b'{"source": "gateway", "event": "limit_store.up", "ts": "x"}'])
def test_a_line_that_is_no_request_is_none(line: bytes) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello", "neither JSON nor the combined format"),
        (b"{", "neither JSON nor the combined format"),
        (b"{}", "has no request_method"),
        (OURS.replace(b"192.0.2.1", b"unix"), "its client is no address"),
        (OURS.replace(b"T01:02", b"T91:02"), "its time is none"),
        (OURS.replace(b".750Z", b""), "its time has no zone"),
        (OURS.replace(b"0.250000", b"-1"), "its seconds is no number"),
        (OURS.replace(b'"path":"/api/leads",', b""), "has no path"),
        (OURS.replace(b":200", b':"x"'), "its status is no number"),
        (OURS.replace(b":200", b":2000"), "its status is none"),
        (COMBINED.replace(b"Nov", b"nov"), "its time is none"),
        (COMBINED.replace(b"Nov", b"ovD"), "its time is none"),
        (COMBINED.replace(b"POST /api/leads HTTP/1.1", b"-"), "its request line is none"),
        (b"x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_a_bad_line_says_why_and_quotes_nothing(line: bytes, why: str) -> None:
    with pytest.raises(BadLine) as caught:
        parse_line(line)
    assert str(caught.value) == why


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps({"request": text}).encode()))
def test_no_line_breaks_the_reading(line: bytes) -> None:
    list(LogReading().entries([line]))


def test_bad_lines_are_counted_and_the_first_ones_named() -> None:
    reading = LogReading()
    found = list(reading.entries([b"x\n", OURS, *[b"{}\n"] * 9]))
    assert (len(found), reading.lines, reading.bad) == (1, 11, 10)
    assert reading.named[:2] == [(1, "neither JSON nor the combined format"), (3, "has no request_method")]
    assert len(reading.named) == 5


def test_requests_come_in_the_order_of_their_begins() -> None:
    slow = OURS.replace(b"0.250000", b"3.000000").replace(b"/api/leads", b"/slow")
    assert [entry.target for entry in LogReading().entries([OURS, slow])] == ["/slow", "/api/leads"]
