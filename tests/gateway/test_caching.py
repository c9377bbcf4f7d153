"""The cache through a real gateway: what the app is asked, what visitors get, and how many of them at once."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import Any

import pytest

from scopegate.clock import ManualClock
from scopegate.edge.framing import LAST_CHUNK, as_chunk
from scopegate.metrics import catalogue as metrics
from tests.gateway.app import Answer, End, body_of
from tests.gateway.client import BrokenTransferError, Client, Reply
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

START_MS = 1_795_507_200_000
RULE: dict[str, Any] = {"max_object": "100KiB"}
MINUTE = b"cache-control: max-age=60\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n"


class Gate:
    """A rig with a clock of its own."""

    def __init__(self, rig: Rig, clock: ManualClock) -> None:
        self.rig = rig
        self.app = rig.app
        self.clock = clock

    async def client(self) -> Client:
        return await self.rig.connect()

    async def get(self, path: str = "/x", fields: str = "", method: str = "GET", body: bytes = b"") -> Reply:
        return await (await self.client()).ask(request(path, fields, method, body))

    def answers(self, fields: bytes = MINUTE, body: bytes = b"one", status: str = "200 OK") -> None:
        self.app.answers.append(body_of(body, status, fields))

    @property
    def asked(self) -> int:
        return len(self.app.requests)


def request(path: str = "/x", fields: str = "", method: str = "GET", body: bytes = b"") -> bytes:
    more = "".join(f"{line}\r\n" for line in fields.splitlines()) + (f"content-length: {len(body)}\r\n" if body else "")
    return f"{method} {path} HTTP/1.1\r\nHost: a.example\r\n{more}\r\n".encode() + body


async def gate(gates: Rigs, rule: dict[str, Any] | None = RULE, **policy: Any) -> Gate:
    clock = ManualClock(START_MS)
    routes = [{"name": "kept", "match": "ANY /**", "tier": "none", "cache": rule}]
    rig = await gates.start(clock=clock, **{"routes": routes, **policy})
    return Gate(rig, clock)


def told(reply: Reply) -> str:
    [status] = reply.get(b"cache-status")
    return status.decode()


def http_date(ahead_s: float) -> bytes:
    return formatdate(START_MS / 1000 + ahead_s, usegmt=True).encode()


# ── hits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_second_visitor_gets_what_the_first_brought(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b"x-app: 1\r\n")
    first = await one.get()
    one.clock.advance(7)
    second = await one.get()
    assert (first.status, first.body, told(first)) == (200, b"one", "scopegate; fwd=uri-miss; stored; ttl=60")
    assert (second.status, second.body, told(second)) == (200, b"one", "scopegate; hit; ttl=53")
    assert (first.get(b"age"), second.get(b"age"), second.get(b"x-app")) == ([b"0"], [b"7"], [b"1"])
    assert second.get(b"date") == [http_date(0)]
    assert second.get(b"x-request-id") != first.get(b"x-request-id")
    assert second.get(b"x-content-type-options") == [b"nosniff"]
    assert one.asked == 1
    one.clock.advance(53)
    await one.get()
    assert one.asked == 2


async def test_a_route_without_cache_keeps_nothing(gates: Rigs) -> None:
    one = await gate(gates, routes=[{"name": "all", "match": "ANY /**", "tier": "none"}])
    for _ in range(2):
        one.answers()
        assert (await one.get()).get(b"cache-status") == []
    assert one.asked == 2


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"cache-control: no-store, max-age=60\r\n",
        b"cache-control: private, max-age=60\r\n",
        MINUTE + b"set-cookie: a=b\r\n",
        MINUTE + b"vary: *\r\n",
        b"cache-control: max-age=60; no-store\r\n",
    ],
)
async def test_what_is_for_one_reaches_nobody_else(gates: Rigs, fields: bytes) -> None:
    one = await gate(gates)
    for body in (b"one", b"two"):
        one.answers(fields, body)
        reply = await one.get()
        assert (reply.body, told(reply)) == (body, "scopegate; fwd=uri-miss")
    assert one.asked == 2


async def test_where_the_app_says_nothing_the_policy_does(gates: Rigs) -> None:
    one = await gate(gates, {"ttl": "30s"})
    one.answers(b"")
    await one.get()
    assert told(await one.get()) == "scopegate; hit; ttl=30"
    one.answers(b"", b"mine")
    assert (await one.get(fields="Cookie: session=1")).body == b"mine"
    assert (await one.get()).body == b"one"


async def test_head_and_ranges_are_served_from_what_is_whole(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\ncontent-type: text/plain\r\n', b"0123456789")
    await one.get()
    head = await one.get(method="HEAD")
    assert (head.status, head.get(b"content-length"), head.body) == (200, [b"10"], b"")
    part = await one.get(fields="Range: bytes=2-4")
    assert (part.status, part.body, part.get(b"content-range")) == (206, b"234", [b"bytes 2-4/10"])
    parts = await one.get(fields="Range: bytes=0-0,-1")
    assert parts.status == 206
    assert parts.get(b"content-type")[0].startswith(b"multipart/byteranges; boundary=")
    assert b"content-range: bytes 9-9/10\r\n\r\n9\r\n--" in parts.body
    assert len(parts.get(b"content-type")) == 1
    beyond = await one.get(fields="Range: bytes=10-")
    assert (beyond.status, beyond.get(b"content-range")) == (416, [b"bytes */10"])
    assert (await one.get(fields='Range: bytes=2-4\nIf-Range: "b"')).status == 200
    assert one.asked == 1


async def test_a_part_of_what_is_not_kept_is_asked_of_the_app(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b"content-range: bytes 2-4/10\r\n", b"234", "206 Partial Content")
    reply = await one.get(fields="Range: bytes=2-4")
    assert (reply.status, told(reply)) == (206, "scopegate; fwd=partial")
    assert one.app.requests[0].get(b"range") == [b"bytes=2-4"]
    one.answers(MINUTE, b"0123456789")
    assert (await one.get()).body == b"0123456789"


async def test_who_has_it_already_is_told_so(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\nlast-modified: %b\r\ncontent-type: text/plain\r\n' % http_date(-9))
    first = await one.get(fields='If-None-Match: "a"')
    assert (first.status, first.get(b"etag"), first.get(b"content-type")) == (304, [b'"a"'], [])
    assert one.app.requests[0].get(b"if-none-match") == []
    assert (await one.get(fields='If-None-Match: "a"')).status == 304
    assert (await one.get(fields='If-None-Match: "b"')).body == b"one"
    assert (await one.get(fields=f"If-Modified-Since: {http_date(0).decode()}")).status == 304
    assert one.asked == 1


async def test_conditions_of_changes_are_the_apps(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers()
    await one.get()
    one.answers(b"", b"", "412 Precondition Failed")
    reply = await one.get(fields='If-Match: "z"')
    assert (reply.status, told(reply)) == (412, "scopegate; fwd=bypass")


# ── asking again ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stale_answer_is_confirmed_by_the_app(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\nx-a: 1\r\nx-b: 1\r\n')
    await one.get()
    one.clock.advance(61)
    one.answers(b'cache-control: max-age=30\r\netag: "a"\r\nx-a: 2\r\n', b"", "304 Not Modified")
    reply = await one.get()
    assert (reply.status, reply.body, reply.get(b"x-a"), reply.get(b"x-b")) == (200, b"one", [b"2"], [b"1"])
    assert told(reply) == "scopegate; fwd=stale; fwd-status=304; stored; ttl=30"
    assert one.app.requests[1].get(b"if-none-match") == [b'"a"']
    again = await one.get()
    assert (again.body, again.get(b"x-a"), told(again)) == (b"one", [b"2"], "scopegate; hit; ttl=30")


async def test_a_visitor_with_conditions_of_their_own_is_answered_by_them(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\n')
    await one.get()
    one.clock.advance(61)
    one.answers(MINUTE + b'etag: "a"\r\n', b"", "304 Not Modified")
    assert (await one.get(fields='If-None-Match: "a"')).status == 304
    one.clock.advance(61)
    one.answers(MINUTE, b"", "304 Not Modified")
    assert (await one.get(fields='If-None-Match: "z"')).body == b"one"
    assert [each.get(b"if-none-match") for each in one.app.requests[1:]] == [[b'"a"']] * 2


async def test_a_304_that_is_about_something_else_is_asked_again(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\n')
    await one.get()
    one.clock.advance(61)
    one.answers(MINUTE + b'etag: "b"\r\n', b"", "304 Not Modified")
    one.answers(MINUTE + b'etag: "b"\r\n', b"two")
    assert (await one.get()).body == b"two"
    assert one.app.requests[2].get(b"if-none-match") == []
    assert (await one.get()).body == b"two"


async def test_a_confirmed_answer_that_became_private_is_kept_no_longer(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE + b'etag: "a"\r\n')
    await one.get()
    one.clock.advance(61)
    one.answers(b"cache-control: private\r\n", b"", "304 Not Modified")
    assert (await one.get()).body == b"one"
    one.answers(MINUTE, b"two")
    assert (await one.get()).body == b"two"
    assert one.app.requests[2].get(b"if-none-match") == []


async def test_visitors_may_ask_for_a_newer_answer_unless_the_policy_says_no(gates: Rigs) -> None:
    one = await gate(gates)
    deaf = await gate(gates, {"ignore_client_no_cache": True})
    for each in (one, deaf):
        each.answers(MINUTE + b'etag: "a"\r\n')
        await each.get()
        each.answers(MINUTE, b"two")
    newer = await one.get(fields="Cache-Control: no-cache")
    assert (newer.body, told(newer)) == (b"two", "scopegate; fwd=request; stored; ttl=60")
    assert (await deaf.get(fields="Cache-Control: no-cache")).body == b"one"
    assert (await one.get(fields="Cache-Control: only-if-cached")).body == b"two"
    nothing = await one.get("/y", "Cache-Control: only-if-cached")
    assert (nothing.status, nothing.code) == (504, "only_if_cached")


# ── stale answers ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stale_answer_is_given_while_a_newer_one_is_fetched(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(b'cache-control: max-age=60, stale-while-revalidate=30\r\netag: "a"\r\n')
    await one.get(fields="X-Mine: 1")
    one.clock.advance(70)
    go_on = asyncio.Event()
    one.app.answers.append(Answer([go_on, body_of(b"two", fields=MINUTE)]))
    replies = [await one.get() for _ in range(3)]
    assert [(reply.body, told(reply)) for reply in replies] == [(b"one", "scopegate; hit; ttl=-10")] * 3
    await one.app.until(lambda: one.asked == 2)
    assert one.app.requests[1].get(b"if-none-match") == [b'"a"']
    go_on.set()
    await eventually(lambda: one.rig.gateway.shared.in_flight == 0)
    assert (await one.get()).body == b"two"
    assert one.asked == 2


async def test_after_its_window_a_stale_answer_is_given_to_nobody(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(b"cache-control: max-age=60, stale-while-revalidate=30\r\n")
    await one.get()
    one.clock.advance(90)
    one.answers(MINUTE, b"two")
    assert (await one.get()).body == b"two"


@pytest.mark.parametrize("failure", ["status", "reset", "refused"])
async def test_a_stale_answer_stands_in_for_an_app_that_fails(gates: Rigs, failure: str) -> None:
    one = await gate(gates)
    one.answers(b"cache-control: max-age=60, stale-if-error=30\r\n")
    await one.get()
    one.clock.advance(70)
    if failure == "status":
        one.answers(b"", b"broken", "503 Service Unavailable")
    elif failure == "reset":
        one.app.answers += [Answer([End.RESET]), Answer([End.RESET])]
    else:
        await one.app.stop()
    reply = await one.get()
    assert (reply.status, reply.body) == (200, b"one")
    assert "fwd=stale" in told(reply)
    assert told(reply).endswith("detail=stale-if-error")
    asked = one.asked
    assert (await one.get()).body == b"one"
    assert one.asked == asked, "an app that failed is left in peace for a moment"
    one.clock.advance(30)
    if failure == "refused":
        assert (await one.get()).code == "upstream_connect"
    else:
        one.answers(b"", b"still", "503 Service Unavailable")
        assert (await one.get()).body == b"still"


@pytest.mark.parametrize("control", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=60"])
async def test_what_must_be_confirmed_stands_in_for_nobody(gates: Rigs, control: str) -> None:
    one = await gate(gates, {"stale_if_error": "1h", "stale_while_revalidate": "1h"})
    one.answers(f'cache-control: max-age=60, {control}\r\netag: "a"\r\n'.encode())
    await one.get()
    one.clock.advance(70)
    one.answers(b"", b"broken", "503 Service Unavailable")
    assert (await one.get()).status == 503


# ── one request for all ─────────────────────────────────────────────────────────────────────────────────────────────


async def crowd(one: Gate, count: int, path: str = "/x", fields: str = "") -> list[Client]:
    clients = [await one.client() for _ in range(count)]
    for client in clients:
        client.send(request(path, fields))
    await eventually(lambda: one.rig.gateway.shared.in_flight == count)
    return clients


async def test_a_crowd_is_one_request_and_gets_the_answer_as_it_comes(gates: Rigs) -> None:
    one = await gate(gates)
    begin, go_on = asyncio.Event(), asyncio.Event()
    head = CHUNKED_HEAD % MINUTE
    one.app.answers.append(Answer([begin, head + as_chunk(b"first"), go_on, as_chunk(b"second"), LAST_CHUNK]))
    clients = await crowd(one, 20)
    begin.set()
    for client in clients:
        await client._take_until(b"first")
    late = await one.client()
    late.send(request())
    await late._take_until(b"first")
    go_on.set()
    for client in [*clients, late]:
        assert b"second" in await client._take_until(b"0\r\n\r\n")
    assert one.asked == 1
    again = await one.get()
    assert (again.body, told(again)) == (b"firstsecond", "scopegate; hit; ttl=60")


async def test_who_waits_is_told_so(gates: Rigs, capsys: pytest.CaptureFixture[str]) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    one.app.answers.append(Answer([begin, body_of(b"one", fields=MINUTE)]))
    clients = await crowd(one, 3)
    begin.set()
    replies = [await client.answer() for client in clients]
    assert sorted(told(reply) for reply in replies) == [
        *["scopegate; fwd=uri-miss; collapsed; ttl=60"] * 2,
        "scopegate; fwd=uri-miss; stored; ttl=60",
    ]
    await one.get()
    one.rig.gateway.shared.access.flush()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["note"] for line in lines if line.get("event") == "request"] == [
        "miss",
        "collapsed",
        "collapsed",
        "hit",
    ]


async def test_an_answer_for_one_lets_all_go_at_once_and_is_remembered(gates: Rigs) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    private = body_of(b"mine", fields=b"cache-control: private\r\n")
    one.app.answers.append(Answer([begin, private]))
    one.app.default = private
    clients = await crowd(one, 5)
    await one.app.until(lambda: one.asked == 1)
    begin.set()
    assert [(await client.answer()).body for client in clients] == [b"mine"] * 5
    assert one.asked == 5
    hang = asyncio.Event()
    one.app.answers += [Answer([hang, private]), Answer([hang, private])]
    clients = await crowd(one, 2)
    await one.app.until(lambda: one.asked == 7)
    hang.set()
    assert [(await client.answer()).body for client in clients] == [b"mine"] * 2


async def test_who_waited_long_enough_goes_alone(gates: Rigs) -> None:
    one = await gate(gates, cache={"wait": "300ms"})
    hang = asyncio.Event()
    one.app.answers += [Answer([hang, body_of(b"slow", fields=MINUTE)]), body_of(b"quick", fields=MINUTE)]
    first, second = await crowd(one, 2)
    assert (await second.answer()).body == b"quick"
    hang.set()
    assert (await first.answer()).body == b"slow"


async def test_an_app_that_fails_fails_for_all_who_wait(gates: Rigs) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    one.app.answers += [Answer([begin, b"nonsense\r\n\r\n", End.CLOSE])]
    clients = await crowd(one, 5)
    begin.set()
    assert {(await client.answer()).code for client in clients} == {"upstream_protocol"}
    assert one.asked == 1


async def test_who_waits_gets_no_answer_of_other_fields(gates: Rigs) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    varied = MINUTE + b"vary: accept-language\r\n"
    one.app.answers += [Answer([begin, body_of(b"deutsch", fields=varied)]), body_of(b"english", fields=varied)]
    german, english = await one.client(), await one.client()
    german.send(request(fields="Accept-Language: de"))
    await one.app.until(lambda: one.asked == 1)
    english.send(request(fields="Accept-Language: en"))
    await eventually(lambda: one.rig.gateway.shared.in_flight == 2)
    begin.set()
    assert ((await german.answer()).body, (await english.answer()).body) == (b"deutsch", b"english")


async def test_a_visitor_who_leaves_takes_nothing_from_the_others(gates: Rigs) -> None:
    one = await gate(gates)
    begin, go_on = asyncio.Event(), asyncio.Event()
    one.app.answers.append(Answer([begin, CHUNKED_HEAD % MINUTE + as_chunk(b"a"), go_on, as_chunk(b"b"), LAST_CHUNK]))
    first, second, third = await crowd(one, 3)
    await first.close()
    begin.set()
    await second._take_until(b"a")
    await second.close()
    go_on.set()
    assert (await third.answer()).body == b"ab"
    assert (await one.get()).body == b"ab"
    assert one.asked == 1


async def test_a_slow_visitor_keeps_nobody_waiting(gates: Rigs) -> None:
    one = await gate(gates, {"max_object": "8MiB"})
    body = b"x" * (6 << 20)
    begin = asyncio.Event()
    one.app.answers.append(Answer([begin, body_of(body, fields=MINUTE)]))
    slow = await one.rig.connect(kernel_bytes=4096, read_ahead_bytes=4096)
    slow.send(request())
    await one.app.until(lambda: one.asked == 1)
    slow.stop_reading()
    quick = await one.client()
    quick.send(request())
    await eventually(lambda: one.rig.gateway.shared.in_flight == 2)
    begin.set()
    assert (await quick.answer()).body == body
    assert (await one.get()).body == body
    assert one.asked == 1


async def test_what_is_too_large_goes_through_at_the_pace_of_the_slowest(gates: Rigs) -> None:
    one = await gate(gates, {"max_object": "64KiB"})
    chunk = b"x" * 50_000
    begin = asyncio.Event()
    one.app.answers.append(Answer([begin, CHUNKED_HEAD % MINUTE, *[as_chunk(chunk)] * 40, LAST_CHUNK]))
    clients = await crowd(one, 3)
    begin.set()
    bodies = await asyncio.gather(*(client.answer() for client in clients))
    assert [reply.body for reply in bodies] == [chunk * 40] * 3
    one.answers(MINUTE, b"small")
    assert (await one.get()).body == b"small"
    assert one.asked == 2


# ── what is never kept ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "steps",
    [
        [b"HTTP/1.1 200 OK\r\n" + MINUTE + b"content-length: 10\r\n\r\nhalf", End.CLOSE],
        [CHUNKED_HEAD % MINUTE + as_chunk(b"half"), End.CLOSE],
        [CHUNKED_HEAD % MINUTE + as_chunk(b"half"), End.RESET],
        [CHUNKED_HEAD % MINUTE + as_chunk(b"half"), 0.02, b"zz\r\n"],
    ],
)
async def test_an_answer_that_was_cut_is_never_a_whole_one(gates: Rigs, steps: list[Any]) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    one.app.answers.append(Answer([begin, *steps]))
    clients = await crowd(one, 3)
    begin.set()
    for client in clients:
        with pytest.raises(BrokenTransferError):
            await client.answer()
    one.answers(MINUTE, b"whole")
    assert (await one.get()).body == b"whole"


async def test_an_answer_that_ends_with_its_connection_is_not_kept(gates: Rigs) -> None:
    one = await gate(gates)
    for body in (b"one", b"two"):
        one.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\n" + MINUTE + b"\r\n" + body, End.CLOSE]))
        assert (await one.get()).body == body


async def test_a_body_that_is_larger_than_was_said_is_cut_and_kept_as_said(gates: Rigs) -> None:
    one = await gate(gates)
    one.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\n" + MINUTE + b"content-length: 3\r\n\r\nonemore"]))
    assert (await one.get()).body == b"one"
    assert (await one.get()).body == b"one"


async def test_authorization_and_drafts_go_past_what_is_kept(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE, b"hers")
    assert (await one.get(fields="Authorization: Bearer a")).body == b"hers"
    one.answers(MINUTE, b"all")
    assert (await one.get()).body == b"all"
    one.answers(MINUTE, b"his")
    assert (await one.get(fields="Authorization: Bearer b")).body == b"his"
    one.answers(MINUTE, b"draft")
    assert (await one.get(fields="Cookie: __prerender_bypass=z")).body == b"draft"
    assert (await one.get()).body == b"all"
    one.answers(b"cache-control: public, max-age=60\r\n", b"public")
    assert (await one.get("/y", "Authorization: Bearer a")).body == b"public"
    assert (await one.get("/y", "Authorization: Bearer b")).body == b"public"
    assert (await one.get("/y")).body == b"public"


async def test_a_body_goes_past_it(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers(MINUTE, b"fat")
    assert (await one.get(body=b"x")).body == b"fat"
    one.answers(MINUTE, b"thin")
    assert (await one.get()).body == b"thin"


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_change_ends_what_was_kept_of_its_url(gates: Rigs, method: str) -> None:
    one = await gate(gates)
    for body in (b"one", b"two"):
        one.answers(MINUTE, body)
        assert (await one.get()).body == body
        one.answers(b"", b"", "500 Internal Server Error")
        await one.get(method=method, body=b"z")
        assert (await one.get()).body == body
        one.answers(b"", b"", "200 OK")
        await one.get(method=method, body=b"z")


async def test_a_change_ends_what_is_being_fetched(gates: Rigs) -> None:
    one = await gate(gates)
    begin = asyncio.Event()
    one.app.answers.append(Answer([begin, body_of(b"old", fields=MINUTE)]))
    [client] = await crowd(one, 1)
    await one.app.until(lambda: one.asked == 1)
    one.answers(b"location: /y\r\n", b"", "201 Created")
    await one.get(method="POST", body=b"z")
    begin.set()
    assert (await client.answer()).body == b"old"
    one.answers(MINUTE, b"new")
    assert (await one.get()).body == b"new"


async def test_a_change_on_another_route_counts_too(gates: Rigs) -> None:
    kept = {"name": "kept", "match": "GET /**", "tier": "none", "cache": {}}
    one = await gate(gates, routes=[kept, {"name": "changes", "match": "POST /**", "tier": "none"}])
    one.answers(MINUTE, b"one")
    await one.get()
    one.answers(b"", b"", "200 OK")
    await one.get(method="POST", body=b"z")
    one.answers(MINUTE, b"two")
    assert (await one.get()).body == b"two"


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_app_sees_of_the_query_what_counts(gates: Rigs) -> None:
    one = await gate(gates, {"key": {"query": ["page"]}})
    one.answers()
    await one.get("/x?utm=evil&page=2")
    assert one.app.requests[0].target == b"/x?page=2"
    assert told(await one.get("/x?page=2&other")).startswith("scopegate; hit")
    await one.get("/x?page=3")
    assert one.asked == 2


@pytest.mark.parametrize(
    "fields",
    [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 1",
        "X-Host: evil.example",
        "X-Original-URL: /admin",
        "X-Http-Method-Override: POST",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: host=evil.example",
        "X-Middleware-Prefetch: 1",
    ],
)
async def test_nothing_that_a_visitor_says_of_hosts_reaches_the_app_unkeyed(gates: Rigs, fields: str) -> None:
    one = await gate(gates)
    await one.get(fields=fields)
    got = one.app.requests[0]
    assert not [value for _, value in got.fields if b"evil" in value or value in (b"https", b"/admin", b"POST")]
    assert got.target == b"/x"


async def test_hosts_and_nexts_own_fields_have_keys_of_their_own(gates: Rigs) -> None:
    one = await gate(gates)
    one.app.default = lambda got: body_of(b"%b %b" % (got.get(b"host")[0], b",".join(got.get(b"rsc"))), fields=MINUTE)
    client = await one.client()
    asks = [request(), request(fields="RSC: 1"), request().replace(b"a.example", b"b.example")]
    bodies = [(await client.ask(ask)).body for ask in asks * 2]
    assert bodies == [b"a.example ", b"a.example 1", b"b.example "] * 2
    assert one.asked == 3


# ── watching, counting ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_start_page_leads_each_visitor_to_their_language(gates: Rigs) -> None:
    """Next.js with `i18n` says so in no Vary, and marks the page for a year."""
    one = await gate(gates)
    one.answers(b"cache-control: s-maxage=31536000\r\n", b"Start")
    assert (await one.get("/", "Accept-Language: en-US,en;q=0.9")).body == b"Start"
    for fields in ("Accept-Language: de", "Accept-Language: en-US,en;q=0.9\nCookie: NEXT_LOCALE=de"):
        one.answers(b"location: /de\r\n", b"", "307 Temporary Redirect")
        assert (await one.get("/", fields)).status == 307
    assert told(await one.get("/", "Accept-Language: en;q=0.9, en-us")) == "scopegate; hit; ttl=31536000"


async def test_watch_mode_counts_and_asks_the_app(gates: Rigs) -> None:
    route = {"name": "watched-cache", "match": "ANY /**", "tier": "none", "mode": "watch", "cache": {}}
    one = await gate(gates, routes=[route])
    for body in (b"one", b"two", b"three"):
        one.answers(MINUTE, body)
        assert (await one.get()).body == body
    one.rig.gateway.flush()
    assert counted("watched-cache") == {"miss": 1.0, "would_hit": 2.0}


def counted(route: str) -> dict[str, float]:
    """After a flush, outcomes that happened."""
    return {
        sample.labels["outcome"]: sample.value
        for metric in metrics.CACHE_REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["route"] == route and sample.value
    }


async def test_it_is_counted(gates: Rigs) -> None:
    route = {"name": "counted-cache", "match": "ANY /**", "tier": "none", "cache": {}}
    one = await gate(gates, routes=[route])
    one.answers()
    one.answers(b"cache-control: private\r\n")
    for path in ("/x", "/x", "/y"):
        await one.get(path)
    one.rig.gateway.flush()
    assert counted("counted-cache") == {"miss": 2.0, "hit": 1.0}
    assert metrics.CACHE_UNSTORABLE.labels("counted-cache", "private")._value.get() == 1
    assert one.rig.gateway.cache.shelf.count == 1


async def test_another_policy_keeps_what_is_kept(gates: Rigs) -> None:
    one = await gate(gates)
    one.answers()
    await one.get()
    await one.rig.gateway.adopt(one.rig.gateway.shared.rules.policy)
    assert told(await one.get()).startswith("scopegate; hit")
