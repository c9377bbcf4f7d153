"""The answers the gateway makes itself, byte for byte, and the rate-limit fields of every answer."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.verdict import Refusal
from scopegate.gateway import responses
from scopegate.limits.window import Quota, Spent, Window, WindowState

NOW_S = 1_795_507_200.9  # 2026-11-24 08:00:00 and a bit
NOT_FOUND = Refusal(404, "no_route", "Nothing is served here.")


def window(limit: int = 10, span_ms: int = 10_000, name: str = "strict") -> Window:
    return Window(name, "k", Quota(limit, span_ms))


def test_a_problem() -> None:
    body = (
        b'{"type":"about:blank","title":"Not Found","status":404,"detail":"Nothing is served here.",'
        b'"code":"no_route","request_id":"r-1"}'
    )
    assert responses.answer(NOT_FOUND, b"r-1", page=False, now_s=NOW_S, extra=b"a: b\r\n") == (
        b"HTTP/1.1 404 Not Found\r\ndate: Tue, 24 Nov 2026 08:00:00 GMT\r\ncontent-type: application/problem+json\r\n"
        b"content-length: %d\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
        b'proxy-status: scopegate; error=destination_not_found; details="no_route"\r\nx-request-id: r-1\r\n'
        b"a: b\r\n\r\n%b" % (len(body), body)
    )


def test_a_page_escapes_and_names_the_request() -> None:
    refusal = Refusal(400, "x", "a < b & 'c'", ((b"allow", b"GET"),), close=True)
    head, _, body = responses.answer(refusal, b"r-1", page=True, now_s=NOW_S).partition(b"\r\n\r\n")
    assert b"<p>a &lt; b &amp; &#x27;c&#x27;</p>" in body
    assert b"Request r-1" in body
    assert b"content-type: text/html; charset=utf-8" in head
    assert b"content-length: %d" % len(body) in head
    assert head.endswith(b"allow: GET\r\nconnection: close")


def test_head_gets_the_head_of_what_get_would_get() -> None:
    whole = responses.answer(NOT_FOUND, b"r", page=False, now_s=NOW_S)
    assert (
        responses.answer(NOT_FOUND, b"r", page=False, now_s=NOW_S, bodiless=True) + whole.partition(b"\r\n\r\n")[2]
        == whole
    )


OURS = [400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505]


@pytest.mark.parametrize("status", OURS)
def test_every_status_we_answer_with_has_a_title(status: int) -> None:
    made = responses.answer(Refusal(status, "x", "y"), b"r", page=False, now_s=NOW_S)
    title = json.loads(made.partition(b"\r\n\r\n")[2])["title"]
    assert made.startswith(f"HTTP/1.1 {status} {title}\r\n".encode())
    assert title


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ([], False),
        ([b"*/*"], False),
        ([b"text/html"], True),
        ([b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], True),
        ([b"application/json, text/html"], False),
        ([b"application/problem+json"], False),
    ],
)
def test_a_browser_gets_a_page(accept: list[bytes], page: bool) -> None:
    assert responses.wants_page(accept) is page


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        (
            (WindowState(window(), 4, 2_001, 9_001),),
            b"x-ratelimit-limit: 10\r\nx-ratelimit-remaining: 4\r\nx-ratelimit-reset: 1795507210\r\n"
            b'ratelimit-policy: "strict";q=10;w=10\r\nratelimit: "strict";r=4;t=3\r\n',
        ),
        (  # never early: 200.9 and 9.101 seconds are 210.001
            (WindowState(window(), 0, 9_101, 9_101),),
            b"x-ratelimit-limit: 10\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1795507211\r\n"
            b'ratelimit-policy: "strict";q=10;w=10\r\nratelimit: "strict";r=0;t=10\r\n',
        ),
        (
            (WindowState(window(), 4, 500, 9_000), WindowState(window(100, 3_600_000, "strict/2"), 0, 1, 1)),
            b"x-ratelimit-limit: 100\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1795507201\r\n"
            b'ratelimit-policy: "strict";q=10;w=10, "strict/2";q=100;w=3600\r\n'
            b'ratelimit: "strict";r=4;t=1, "strict/2";r=0;t=1\r\n',
        ),
        (  # of two that are equally tight, the one that stays so longer
            (WindowState(window(), 1, 1_000, 1_000), WindowState(window(5, 60_000, "strict/2"), 1, 40_000, 50_000)),
            b"x-ratelimit-limit: 5\r\nx-ratelimit-remaining: 1\r\nx-ratelimit-reset: 1795507251\r\n"
            b'ratelimit-policy: "strict";q=10;w=10, "strict/2";q=5;w=60\r\n'
            b'ratelimit: "strict";r=1;t=1, "strict/2";r=1;t=40\r\n',
        ),
        (
            (WindowState(window(1, 1_500), 1, 1_500, 0),),
            b"x-ratelimit-limit: 1\r\nx-ratelimit-remaining: 1\r\nx-ratelimit-reset: 1795507201\r\n"
            b'ratelimit-policy: "strict";q=1;w=2\r\nratelimit: "strict";r=1;t=2\r\n',
        ),
    ],
)
def test_rate_limit_fields(standings: tuple[WindowState, ...], expected: bytes) -> None:
    made = responses.limit_fields(Spent(True, standings), NOW_S)
    assert sorted(made.splitlines(keepends=True)) == sorted(expected.splitlines(keepends=True))


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 10**7), st.integers(0, 10**7)), min_size=1, max_size=5))
def test_rate_limit_fields_are_field_lines(windows: list[tuple[int, int, int]]) -> None:
    standings = tuple(WindowState(window(limit, span), limit - 1, reset, reset) for limit, span, reset in windows)
    made = responses.limit_fields(Spent(True, standings), NOW_S)
    assert re.fullmatch(rb"([a-z-]+: [\x20-\x7e]+\r\n){5}", made)


@pytest.mark.parametrize(
    ("wait_ms", "field", "detail"),
    [(1, b"1", "1 second."), (1000, b"1", "1 second."), (1001, b"2", "2 seconds."), (0, b"1", "1 second.")],
)
def test_when_to_come_back(wait_ms: int, field: bytes, detail: str) -> None:
    refusal = responses.rate_limited(Spent(False, (), wait_ms))
    assert (refusal.status, refusal.fields, refusal.close) == (429, ((b"retry-after", field),), False)
    assert refusal.detail.endswith(detail)


def test_a_refusal_names_the_limits_that_are_used_up() -> None:
    full, open_ = WindowState(window(), 0, 900, 9_000), WindowState(window(100, 60_000, "strict/2"), 3, 900, 9_000)
    refusal = responses.rate_limited(Spent(False, (full, open_), 900))
    problem = json.loads(responses.answer(refusal, b"r", page=False, now_s=NOW_S).partition(b"\r\n\r\n")[2])
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["violated-policies"] == ["strict"]


def test_a_refusal_for_the_stores_outage_is_one_of_capacity() -> None:
    refusal = Refusal(503, "limit_store_down", "Later.")
    problem = json.loads(responses.answer(refusal, b"r", page=False, now_s=NOW_S).partition(b"\r\n\r\n")[2])
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    assert "violated-policies" not in problem


@given(st.floats(1.7e9, 2e9), st.integers(0, 10**9), st.integers(0, 10**6))
def test_no_moment_that_is_told_is_early(now_s: float, reset_ms: int, wait_ms: int) -> None:
    spent = Spent(False, (WindowState(window(), 0, wait_ms, reset_ms),), wait_ms)
    told = dict(line.split(b": ") for line in responses.limit_fields(spent, now_s).splitlines())
    assert int(told[b"x-ratelimit-reset"]) >= now_s + reset_ms / 1000
    ((_, retry_after),) = responses.rate_limited(spent).fields
    assert int(retry_after) * 1000 >= wait_ms
    assert int(retry_after) >= int(told[b"ratelimit"].rpartition(b"t=")[2])
