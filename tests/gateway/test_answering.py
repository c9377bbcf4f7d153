"""The bytes of answers, from what is known of the request alone."""

from __future__ import annotations

import asyncio

import pytest

from scopegate.clock import ManualClock
from scopegate.edge.field_rules import REQUEST_RULES
from scopegate.edge.headers import CHUNKED, UNTIL_EOF, Noted, read_response
from scopegate.edge.lines import lines_of
from scopegate.edge.verdict import Refusal, Reply, RequestHead
from scopegate.gateway import answering
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.ruleset import RoutePlan, Ruleset
from scopegate.gateway.shared import Shared
from scopegate.limits.window import Spent
from tests.gateway.rig import policy_of


class Asked:
    """A request as far as an answer has to know it."""

    def __init__(self, method: bytes = b"GET", *, keep_alive: bool = True, accept: bytes = b"") -> None:
        self.head = RequestHead(method, b"/", "1.1", [])
        self.notes = Noted(lines_of([(b"accept", accept)] if accept else []), REQUEST_RULES)
        self.scheme = b"http"
        self.spent: Spent | None = None
        self.request_id = b"r-1"
        self.keep_alive = keep_alive


@pytest.fixture
async def shared() -> Shared:
    loop = asyncio.get_running_loop()
    rules = Ruleset(policy_of(["http://127.0.0.1:1"]), lambda upstream: UpstreamPool(upstream, loop))
    return Shared(rules, ManualClock(1_795_507_200_000))


def plan_of(shared: Shared) -> RoutePlan:
    [plan] = shared.rules.plans()
    return plan


@pytest.mark.parametrize(
    ("method", "status", "length", "framing"),
    [
        (b"GET", 200, 5, b"content-length: 5\r\n"),
        (b"GET", 200, 0, b"content-length: 0\r\n"),
        (b"GET", 204, 0, b""),
        (b"GET", 304, 0, b""),
        (b"HEAD", 200, 0, b""),
        (b"GET", 200, CHUNKED, b"transfer-encoding: chunked\r\n"),
        (b"GET", 200, UNTIL_EOF, b""),
    ],
)
async def test_the_head_of_the_apps_answer_frames_its_body(
    shared: Shared, method: bytes, status: int, length: int, framing: bytes
) -> None:
    notes = read_response([(b"x-own", b"1")], status, method.decode())
    head = answering.app_head(Asked(method), plan_of(shared), status, notes, length, shared)
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert b"x-own: 1" in lines
    assert b"".join(line + b"\r\n" for line in lines if line.startswith((b"content-l", b"transfer-e"))) == framing
    assert lines[-4:] == [b"x-request-id: r-1", b"via: 1.1 scopegate", b"", b""]


async def test_an_answer_without_a_date_gets_one_and_the_end_of_the_connection_is_told(shared: Shared) -> None:
    notes = read_response([], 200, "GET")
    head = answering.app_head(Asked(keep_alive=False), plan_of(shared), 200, notes, 0, shared)
    assert b"\r\ndate: Tue, 24 Nov 2026 08:00:00 GMT\r\nconnection: close\r\n" in head
    dated = read_response([(b"date", b"Mon, 23 Nov 2026 08:00:00 GMT")], 200, "GET")
    head = answering.app_head(Asked(), plan_of(shared), 200, dated, 0, shared)
    assert head.lower().count(b"date:") == 1
    assert b"connection" not in head


async def test_a_refusal_is_a_page_for_who_asks_for_one_and_has_no_body_after_head(shared: Shared) -> None:
    refusal = Refusal(404, "no_route", "Nothing is served here.")
    stray, now_s = shared.rules.stray, shared.now_s()
    assert b"application/problem+json" in answering.refused(Asked(), stray, refusal, now_s)
    assert b"<h1>" in answering.refused(Asked(accept=b"text/html"), stray, refusal, now_s)
    assert answering.refused(Asked(b"HEAD"), stray, refusal, now_s).endswith(b"\r\n\r\n")


def test_a_reply_is_whole() -> None:
    reply = answering.replied(Asked(), Reply(204, b"allow: GET\r\n"), b"today")
    assert reply == b"HTTP/1.1 204 No Content\r\ndate: today\r\nallow: GET\r\nx-request-id: r-1\r\n\r\n"
