"""The app's side: hostile and broken answers, dead and stale connections, slow readers and writers.

Whatever the app does, the client gets a whole answer, a 502 or 504, or a transfer it can see is broken; and no client
ever gets what was meant for another.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
import pytest_asyncio

from scopegate.errors import UpstreamError
from scopegate.gateway.forwarding import Forwarding
from scopegate.gateway.health import Question
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.upstream import MAX_ANSWER_HEAD_BYTES, MAX_INTERIM_ANSWERS, UpstreamConnection
from scopegate.policy.policy import Origin, Upstream, UpstreamTimeouts
from tests.gateway.app import OK, Answer, App, End, IgnoredFaults, body_of
from tests.gateway.client import BrokenTransferError
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(rigs: Rigs) -> Rig:
    return await rigs.start()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(house: Rig) -> AsyncIterator[Rig]:
    house.app.requests.clear()
    house.app.answers.clear()
    house.app.default = OK
    for server in house.servers:
        server.expire(float("inf"))
    await eventually(lambda: house.servers[0].open == 0)
    yield house
    await house.settled()


# ── no answer at all ────────────────────────────────────────────────────────────────────────────────────────────────

CLOSE, RESET = End.CLOSE, End.RESET
NO_ANSWER: dict[str, tuple[list[bytes | float | asyncio.Event | End], str]] = {
    "nothing, closed": ([CLOSE], "upstream_reset"),
    "nothing, reset": ([RESET], "upstream_reset"),
    "half a status line": ([b"HTTP/1.", CLOSE], "upstream_reset"),
    "half a head": ([b"HTTP/1.1 200 OK\r\nX: y\r\n", CLOSE], "upstream_reset"),
    "half a head, reset": ([b"HTTP/1.1 200 OK\r\nX: y\r\n", RESET], "upstream_reset"),
    "only interim answers": ([head(status=b"100 Continue"), CLOSE], "upstream_reset"),
    "garbage": ([b"hello\r\n\r\n"], "upstream_protocol"),
    "binary garbage": ([bytes(range(256)) + b"\r\n\r\n"], "upstream_protocol"),
    "HTTP/0.9": ([b"<html>\r\n\r\n</html>"], "upstream_protocol"),
    "version 0.9": ([b"HTTP/0.9 200 OK\r\n\r\n"], "upstream_protocol"),
    "version 1.2": ([b"HTTP/1.2 200 OK\r\n\r\n"], "upstream_protocol"),
    "version 2.0": ([b"HTTP/2.0 200 OK\r\n\r\n"], "upstream_protocol"),
    "RTSP": ([b"RTSP/1.0 200 OK\r\n\r\n"], "upstream_protocol"),
    "ICE": ([b"ICE/1.0 200 OK\r\n\r\n"], "upstream_protocol"),
    "a request": ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], "upstream_protocol"),
    "status 000": ([head(status=b"000 X")], "upstream_protocol"),
    "status 099": ([head(status=b"099 X")], "upstream_protocol"),
    "status 20": ([head(status=b"20 X")], "upstream_protocol"),
    "status 2000": ([head(status=b"2000 X")], "upstream_protocol"),
    "status OK": ([head(status=b"OK")], "upstream_protocol"),
    "status -200": ([head(status=b"-200 OK")], "upstream_protocol"),
    "unasked switch": (
        [head(b"Upgrade: x", b"Connection: upgrade", status=b"101 Switching Protocols")],
        "upstream_protocol",
    ),
    "both lengths": ([head(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"], "upstream_protocol"),
    "both lengths, other order": ([head(b"Transfer-Encoding: chunked", b"Content-Length: 2")], "upstream_protocol"),
    "two lengths": ([head(b"Content-Length: 2", b"Content-Length: 3") + b"abc"], "upstream_protocol"),
    "two lengths in one": ([head(b"Content-Length: 2, 3") + b"abc"], "upstream_protocol"),
    "negative length": ([head(b"Content-Length: -2")], "upstream_protocol"),
    "empty length": ([head(b"Content-Length:")], "upstream_protocol"),
    "length in hex": ([head(b"Content-Length: 0x2") + b"ok"], "upstream_protocol"),
    "length beyond 64 bits": ([head(b"Content-Length: 18446744073709551618") + b"ok"], "upstream_protocol"),
    "length of 16 digits": ([head(b"Content-Length: 1000000000000000")], "upstream_protocol"),
    "coding gzip": ([head(b"Transfer-Encoding: gzip") + b"x"], "upstream_protocol"),
    "coding gzip, chunked": ([head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"], "upstream_protocol"),
    "coding twice": ([head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")], "upstream_protocol"),
    "bare LF in the head": ([b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n"], "upstream_protocol"),
    "bare LF after a field": ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\nok\r\n\r\n"], "upstream_protocol"),
    "folded field": ([head(b"X: a", b" b", b"Content-Length: 0")], "upstream_protocol"),
    "NUL in a field": ([head(b"X: a\x00b", b"Content-Length: 0")], "upstream_protocol"),
    "control in a field": ([head(b"X: a\x1bb", b"Content-Length: 0")], "upstream_protocol"),
    "CR in a field": ([head(b"X: a\rSet-Cookie: b", b"Content-Length: 0")], "upstream_protocol"),
    "space before the colon": ([head(b"Content-Length : 2") + b"ok"], "upstream_protocol"),
    "no colon": ([head(b"X")], "upstream_protocol"),
    "huge head": ([b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"], "upstream_protocol"),
    "endless head": ([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 80], "upstream_protocol"),
    "Connection that names a whole line": (
        [head(b"Set-Cookie: a=b:c", b"Connection: set-cookie: a=b", b"Content-Length: 0")],
        "upstream_protocol",
    ),
    "the same in an interim answer": (
        [head(b"Link: </a>", b"Connection: link: <", status=b"103 Early Hints") + OK],
        "upstream_protocol",
    ),
    "flood of interim answers": ([head(status=b"100 Continue") * 3000 + OK], "upstream_protocol"),
    "flood of early hints": (
        [head(b"Link: </a>", status=b"103 Early Hints") * (MAX_INTERIM_ANSWERS + 1) + OK],
        "upstream_protocol",
    ),
    "bad first chunk": ([head(b"Transfer-Encoding: chunked") + b"zz\r\n"], "upstream_protocol"),
}


@pytest.mark.parametrize("name", NO_ANSWER)
@pytest.mark.parametrize("request_head", [GET, POST], ids=["GET", "POST"])
async def test_what_is_no_answer_is_502_and_the_next_client_gets_its_own(
    rig: Rig, name: str, request_head: bytes
) -> None:
    steps, code = NO_ANSWER[name]
    rig.app.answers.append(Answer(steps))
    client = await rig.connect()
    reply = await client.ask(request_head)
    assert (reply.status, reply.code, reply.get(b"connection")) == (502, code, [])
    assert len(rig.app.requests) == 1
    assert (await client.ask(GET)).body == b"ok"
    assert len({each.connection for each in rig.app.requests}) == 2


# ── a broken transfer ───────────────────────────────────────────────────────────────────────────────────────────────

BROKEN: dict[str, list[bytes | End]] = {
    "short length, closed": [head(b"Content-Length: 10") + b"abc", CLOSE],
    "short length, reset": [head(b"Content-Length: 10") + b"abc", RESET],
    "no body, closed": [head(b"Content-Length: 10"), CLOSE],
    "chunk cut short": [head(b"Transfer-Encoding: chunked") + b"a\r\nabc", CLOSE],
    "chunks without an end": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", CLOSE],
    "chunks cut in the last": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n", CLOSE],
    "chunked, no chunk": [head(b"Transfer-Encoding: chunked"), CLOSE],
    "chunked, reset": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", RESET],
    "bad chunk size": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"x\r\n"],
    "chunk extension": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"3;a\r\nabc\r\n0\r\n\r\n"],
    "chunk too long": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n"],
    "bad trailer": [head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"0\r\n X: y\r\n\r\n"],
    "until the end, reset": [head() + b"abc", RESET],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_is_seen_to_be_broken(rig: Rig, name: str) -> None:
    first, *rest = BROKEN[name]
    begun = asyncio.Event()
    rig.app.answers.append(Answer([first, begun, *rest]))
    client = await rig.connect()
    client.send(GET)
    got = await client._take_until(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK")
    begun.set()
    with pytest.raises(BrokenTransferError):
        await client.ends()
    other = await rig.connect()
    assert (await other.ask(GET)).body == b"ok"


async def test_a_broken_answer_to_http_1_0_is_no_clean_end_either(rig: Rig) -> None:
    begun = asyncio.Event()
    rig.app.answers.append(Answer([head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n", begun, CLOSE]))
    client = await rig.connect()
    client.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    await client._take_until(b"abc")
    begun.set()
    with pytest.raises(BrokenTransferError):
        await client.ends()


# ── whole answers in odd dress ──────────────────────────────────────────────────────────────────────────────────────

WHOLE: dict[str, tuple[list[bytes | End], int, bytes, bool]] = {
    "length": ([OK], 200, b"ok", True),
    "no reason": ([b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"], 200, b"ok", True),
    "status 299": ([head(b"Content-Length: 2", status=b"299 Odd") + b"ok"], 299, b"ok", True),
    "status 599": ([head(b"Content-Length: 2", status=b"599 X") + b"ok"], 599, b"ok", True),
    "status 999": ([head(b"Content-Length: 2", status=b"999 X") + b"ok"], 999, b"ok", True),
    "chunked": ([head(b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"], 200, b"ok", True),
    "chunked, with trailer fields": (
        [head(b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\nServer-Timing: x\r\nContent-Length: 9\r\n\r\n"],
        200,
        b"ok",
        True,
    ),
    "chunked, in pieces": (
        [head(b"Transfer-Encoding: chunked"), b"1\r", b"\no", b"\r\n1\r\nk\r\n0", b"\r\n\r\n"],
        200,
        b"ok",
        True,
    ),
    "byte by byte": ([OK[i : i + 1] for i in range(len(OK))], 200, b"ok", True),
    "the same length twice in one value": ([head(b"Content-Length:  2 ") + b"ok"], 200, b"ok", True),
    "length 0": ([head(b"Content-Length: 0")], 200, b"", True),
    "until the end": ([head() + b"ok", CLOSE], 200, b"ok", False),
    "until the end, nothing": ([head(), CLOSE], 200, b"", False),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\nok", CLOSE], 200, b"ok", False),
    "HTTP/1.0 with a length": (
        [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"],
        200,
        b"ok",
        False,
    ),
    "close": ([head(b"Content-Length: 2", b"Connection: close") + b"ok", CLOSE], 200, b"ok", False),
    "close in capitals": ([head(b"Content-Length: 2", b"Connection: X, CLOSE") + b"ok"], 200, b"ok", False),
    "interim first": (
        [head(status=b"100 Continue") + head(b"Link: </a>", status=b"103 Early Hints") + OK],
        200,
        b"ok",
        True,
    ),
    "interim in its own packet": ([head(status=b"102 Processing"), OK], 200, b"ok", True),
    "extra bytes": ([OK + b"extra"], 200, b"ok", False),
    "a second answer": ([OK + body_of(b"for another")], 200, b"ok", False),
    "extra after the last chunk": (
        [head(b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"],
        200,
        b"ok",
        False,
    ),
    "body on 204": ([head(status=b"204 No Content") + b"HTTP/1.1 200 OK\r\n\r\nfor another"], 204, b"", False),
    "body on 304": ([head(b"Content-Length: 5", status=b"304 Not Modified") + b"hello"], 304, b"", False),
    "large head": (
        [head(b"Content-Length: 2", b"X: " + b"a" * (MAX_ANSWER_HEAD_BYTES - 1000)) + b"ok"],
        200,
        b"ok",
        True,
    ),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_answer_goes_through_and_the_next_client_gets_its_own(rig: Rig, name: str) -> None:
    steps, status, payload, is_reused = WHOLE[name]
    rig.app.answers.append(Answer(steps))
    client = await rig.connect()
    reply = await client.ask(GET)
    assert (reply.status, reply.body) == (status, payload)
    other = await rig.connect()
    assert (await other.ask(GET)).body == b"ok"
    assert (await client.ask(GET)).body == b"ok"
    first, second = rig.app.requests[:2]
    assert (first.connection == second.connection) is is_reused


async def test_a_body_after_head_is_not_the_next_answer(rig: Rig) -> None:
    rig.app.answers.append(body_of(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"))
    client = await rig.connect()
    client.send(HEAD)
    assert (await client.answer("HEAD")).status == 200
    assert (await client.ask(GET)).body == b"ok"


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(rig: Rig) -> None:
    said = asyncio.Event()
    rig.app.answers.append(Answer([OK, said, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"]))
    client = await rig.connect()
    assert (await client.ask(GET)).body == b"ok"
    lost = rig.app.lost
    said.set()
    await rig.app.until(lambda: rig.app.lost > lost)
    assert (await client.ask(GET)).body == b"ok"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_apps_time_is_limited(gates: Rigs) -> None:
    rig = await gates.start(upstream={"response": "300ms", "idle": "300ms"})
    for ask in (_hang, _stall, _interim_for_ever):
        await ask(rig)


async def _hang(rig: Rig) -> None:
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    reply = await client.ask(GET)
    assert (reply.status, reply.code) == (504, "upstream_timeout")
    assert (await client.ask(GET)).body == b"ok"


async def _stall(rig: Rig) -> None:
    rig.app.answers.append(Answer([head(b"Content-Length: 10") + b"abc", End.HANG]))
    client = await rig.connect()
    with pytest.raises(BrokenTransferError) as broken:
        await client.ask(GET)
    assert broken.value.got in (b"", b"abc")


async def _interim_for_ever(rig: Rig) -> None:
    """Interim answers do not buy time."""
    drip = [part for _ in range(20) for part in (head(status=b"102 Processing"), 0.05)]
    rig.app.answers.append(Answer([*drip, End.HANG]))
    client = await rig.connect()
    assert (await client.ask(POST)).status == 504


async def test_an_answer_that_drips_is_no_stall(gates: Rigs) -> None:
    rig = await gates.start(upstream={"response": "400ms", "idle": "400ms"})
    drip = [part for _ in range(8) for part in (b"a", 0.1)]
    rig.app.answers.append(Answer([head(b"Content-Length: 8"), *drip]))
    assert (await (await rig.connect()).ask(GET)).body == b"a" * 8


async def test_connections_that_idle_too_long_are_closed(gates: Rigs) -> None:
    rig = await gates.start(upstream={"idle": "200ms"})
    assert (await (await rig.connect()).ask(GET)).body == b"ok"
    assert rig.servers[0].idle == 1
    await rig.app.until(lambda: rig.app.lost == 1)
    await eventually(lambda: rig.servers[0].open == 0)


# ── stale connections ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_safe_request_on_a_stale_connection_is_sent_once_more(rig: Rig, method: bytes, end: End) -> None:
    client = await rig.connect()
    await client.ask(GET)
    rig.app.answers.append(Answer([end]))
    reply = await client.ask(GET.replace(b"GET", method))
    assert reply.status == 200
    assert [request.method for request in rig.app.requests] == [b"GET", method, method]


@pytest.mark.parametrize(
    "raw",
    [
        POST,
        GET.replace(b"GET", b"DELETE"),
        b"POST / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_may_have_been_done_is_never_done_twice(rig: Rig, raw: bytes) -> None:
    client = await rig.connect()
    await client.ask(GET)
    rig.app.answers.append(Answer([CLOSE]))
    assert (await client.ask(raw)).code == "upstream_reset"
    assert len(rig.app.requests) == 2


async def test_a_safe_request_is_sent_no_third_time(rig: Rig) -> None:
    client = await rig.connect()
    await client.ask(GET)
    rig.app.answers.extend([Answer([CLOSE]), Answer([CLOSE])])
    assert (await client.ask(GET)).code == "upstream_reset"
    assert len(rig.app.requests) == 3


async def test_a_first_use_of_a_connection_is_not_repeated(gates: Rigs) -> None:
    rig = await gates.start()
    rig.app.answers.append(Answer([CLOSE]))
    assert (await (await rig.connect()).ask(GET)).status == 502
    assert len(rig.app.requests) == 1


async def test_an_answer_that_began_is_not_asked_for_again(rig: Rig) -> None:
    client = await rig.connect()
    await client.ask(GET)
    rig.app.answers.append(Answer([head(b"Content-Length: 5"), CLOSE]))
    with pytest.raises(BrokenTransferError):
        await client.ask(GET)
    assert len(rig.app.requests) == 2


async def test_a_repeat_that_has_to_connect_first_works_too(gates: Rigs) -> None:
    """The app was restarted: its old connections are dead and a new one has to be made."""
    app = App()
    rig = await gates.start(app=app)
    client = await rig.connect()
    await client.ask(GET)
    await app.stop()
    await app.start()
    assert (await client.ask(GET)).body == b"ok"


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _dead_url() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_an_app_that_is_not_there_is_502(gates: Rigs) -> None:
    rig = await gates.start(servers=[_dead_url()])
    client = await rig.connect()
    for raw in (GET, POST):
        reply = await client.ask(raw)
        assert (reply.status, reply.code) == (502, "upstream_connect")
    assert rig.servers[0].open == 0


async def test_an_app_that_does_not_take_connections_is_502(gates: Rigs) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        rig = await gates.start(servers=[f"http://127.0.0.1:{address[1]}"], upstream={"connect": "200ms"})
        assert (await (await rig.connect()).ask(GET)).code == "upstream_connect"
        for sock in waiting:
            sock.close()


async def test_an_app_that_speaks_no_tls_is_502(gates: Rigs) -> None:
    app = App()
    await app.start()
    app.faults = IgnoredFaults()
    rig = await gates.start(app=app, servers=[app.url.replace("http:", "https:")], upstream={"connect": "500ms"})
    assert (await (await rig.connect()).ask(GET)).code == "upstream_connect"
    assert app.requests == []


async def test_a_dead_server_is_skipped(gates: Rigs) -> None:
    app = App()
    await app.start()
    rig = await gates.start(app=app, servers=[_dead_url(), app.url, _dead_url()])
    client = await rig.connect()
    for raw in (GET, POST, GET, POST):
        assert (await client.ask(raw)).status == 200
    assert len(app.requests) == 4


async def test_when_every_server_is_dead_each_is_tried_once(gates: Rigs) -> None:
    rig = await gates.start(servers=[_dead_url(), _dead_url()])
    assert (await (await rig.connect()).ask(GET)).code == "upstream_connect"
    assert all(server.down_until > 0 for server in rig.servers)


async def test_the_least_busy_server_serves_next(gates: Rigs) -> None:
    apps = [App(), App()]
    for app in apps:
        await app.start()
    wait = asyncio.Event()
    for app in apps:
        app.default = Answer([wait, OK])
    rig = await gates.start(app=apps[0], servers=[app.url for app in apps])
    clients = [await rig.connect() for _ in range(6)]
    for n, client in enumerate(clients, 1):
        client.send(GET)
        await eventually(lambda n=n: sum(len(app.requests) for app in apps) == n)
    assert [len(app.requests) for app in apps] == [3, 3]
    wait.set()
    for client in clients:
        assert (await client.answer()).status == 200
    assert apps[1].faults == []
    await apps[1].stop()


# ── the pool by itself ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_more_requests_than_connections_wait_their_turn_and_not_for_ever() -> None:
    async with App() as app:
        origin = Origin("http", "127.0.0.1", app.port)
        upstream = Upstream("web", (origin,), UpstreamTimeouts(2.0, 5.0, 5.0, 0.3), None, connections=1, waiting=2)
        [server] = UpstreamPool(upstream, asyncio.get_running_loop()).servers
        held = await server.connect().future
        second, third = server.connect().future, server.connect().future
        with pytest.raises(UpstreamError, match="too many requests wait") as refused:
            await server.connect().future
        assert refused.value.sent is False
        held.give_back()
        assert await second is held
        with pytest.raises(UpstreamError, match="no free connection in time"):
            await third
        fourth, fifth = server.connect().future, server.connect().future
        fourth.cancel()
        await asyncio.sleep(0)
        held.abort()  # a place is free: whoever still waits gets a new one
        fresh = await fifth
        assert fresh is not held
        fresh.give_back()
        assert (server.open, server.idle, server.take_idle()) == (1, 1, fresh)
        fresh.abort()
        fresh.give_back()
        assert server.take_idle() is None
        await eventually(lambda: server.open == 0)
        last = server.connect().future
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(UpstreamError, match="given up"):
            await last
        assert server.open == 0


# ── the client leaves ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "raw", [GET, POST, b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nabc"], ids=["GET", "POST", "half"]
)
async def test_when_the_client_leaves_the_app_is_told(rig: Rig, raw: bytes) -> None:
    rig.app.answers.append(Answer([End.HANG], early=True))
    began, lost = rig.app.began, rig.app.lost
    client = await rig.connect()
    client.send(raw)
    await rig.app.until(lambda: rig.app.began > began)
    await client.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    await eventually(lambda: rig.servers[0].in_use == 0)
    for writer in rig.app.open:
        writer.transport.abort()
    rig.app.lost = lost


async def test_when_the_client_leaves_in_the_middle_of_an_answer_the_app_is_told(rig: Rig) -> None:
    lost = rig.app.lost
    begun = asyncio.Event()
    rig.app.answers.append(Answer([head(b"Content-Length: 10") + b"abc", begun, b"d", 0.05, b"e", 0.05, b"f", CLOSE]))
    client = await rig.connect()
    client.send(GET)
    await client._take_until(b"abc")
    await client.close()
    await eventually(lambda: rig.servers[0].in_use == 0)
    begun.set()
    await rig.app.until(lambda: rig.app.lost > lost)


async def test_when_the_client_leaves_while_a_connection_is_made_it_is_kept_for_the_next(gates: Rigs) -> None:
    rig = await gates.start()
    client = await rig.connect()
    client.send(GET)
    await eventually(lambda: rig.servers[0].open == 1)
    await client.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    await eventually(lambda: rig.servers[0].in_use == 0)
    assert (await (await rig.connect()).ask(GET)).body == b"ok"


# ── early answers ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [body_of(b"no", "413 No"), body_of(b"n" * 100_000, "413 No")], ids=["short", "long"])
async def test_an_early_answer_survives_the_hanging_up_after_it(answer: bytes) -> None:
    """The app closes over what it has not read, which is a reset: writing fails before the answer has been read."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        question = Question(loop)
        connection = UpstreamConnection(question)
        await loop.create_connection(lambda: connection, *listening.getsockname())
        app, _ = listening.accept()
        connection.start(question, "POST", b"POST /x HTTP/1.1\r\ncontent-length: 9\r\n\r\n", False)
        app.setblocking(False)
        assert await loop.sock_recv(app, 65536)
        app.send(answer)
        app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        app.close()
        connection.send(b"x", False)  # before the loop has looked for the answer
        assert await question.status == 413
        await eventually(lambda: connection.transport is None)


async def test_an_answer_before_the_body_is_whole_ends_the_connection(rig: Rig) -> None:
    rig.app.answers.append(Answer([body_of(b"no", "403 No"), End.HANG], early=True))
    client = await rig.connect()
    client.send(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + b"a" * 1000)
    reply = await client.answer()
    assert (reply.status, reply.body, reply.get(b"connection")) == (403, b"no", [b"close"])
    assert await client.ends() == b""
    for writer in rig.app.open:
        writer.transport.abort()


# ── back-pressure ───────────────────────────────────────────────────────────────────────────────────────────────────

MIB = 1024 * 1024


async def test_a_slow_reader_slows_the_app_down(gates: Rigs) -> None:
    """50 MiB for a client that does not read yet: they stay with the app."""
    written = 0

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(b"Content-Length: %d" % (50 * MIB)))
        for _ in range(50):
            writer.write(b"x" * MIB)
            await writer.drain()
            written += 1
        writer.close()

    with closing(await asyncio.start_server(write, "127.0.0.1", 0)) as server:
        slow = await gates.start(servers=[f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        client = await slow.connect(read_ahead_bytes=1024)
        client.stop_reading()
        client.send(GET)
        seen = -1
        while seen != written or written == 0:
            seen = written
            await asyncio.sleep(0.15)
        (connection,) = slow.connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < MIB
        assert written < 40
        client.go_on_reading()
        assert len((await client.answer()).body) == 50 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_slow_app_slows_the_client_down(gates: Rigs, framing: str) -> None:
    """50 MiB for an app that does not read yet: they stay with the client, and nobody calls it slow for that."""
    app = App()
    app.keep_bodies, app.kernel_bytes = False, 4096
    rig = await gates.start(app=app, limits={"body": "64MiB"}, timeouts={"body_idle": "300ms"})
    reading = asyncio.Event()
    rig.app.answers.append(Answer([OK], read_after=reading))
    client = await rig.connect()
    length = b"Content-Length: %d" % (50 * MIB) if framing == "length" else b"Transfer-Encoding: chunked"
    client.send(b"POST /x HTTP/1.1\r\n" + HOST + length + b"\r\n\r\n")
    for _ in range(50):
        client.send(b"x" * MIB if framing == "length" else b"100000\r\n" + b"x" * MIB + b"\r\n")
    client.send(b"" if framing == "length" else b"0\r\n\r\n")
    seen = -1
    while seen != client.writer.transport.get_write_buffer_size():
        seen = client.writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.3)
    assert seen > 30 * MIB
    assert _unsent_to_app(rig) < 4 * MIB
    reading.set()
    assert (await client.answer()).status == 200
    assert rig.app.requests[0].body_bytes == 50 * MIB


def _unsent_to_app(rig: Rig) -> int:
    """Bytes that wait in this process for the app."""
    held = [connection._exchange for connection in rig.connections]
    sides = [exchange.forwarding for exchange in held if exchange is not None]
    uses = [side._connection for side in sides if isinstance(side, Forwarding) and side._connection is not None]
    return sum(use.transport.get_write_buffer_size() for use in uses if use.transport is not None)


async def test_an_app_that_stops_reading_is_to_blame_itself(gates: Rigs) -> None:
    rig = await gates.start(limits={"body": "64MiB"}, timeouts={"body_idle": "200ms"}, upstream={"response": "400ms"})
    never = asyncio.Event()
    rig.app.answers.append(Answer([OK], read_after=never))
    client = await rig.connect()
    client.send(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (50 * MIB))
    for _ in range(50):
        client.send(b"x" * MIB)
    assert (await client.answer()).code == "upstream_timeout"
    never.set()


async def test_a_large_body_streams_both_ways(gates: Rigs) -> None:
    rig = await gates.start(limits={"body": "64MiB"})
    rig.app.default = lambda received: body_of(received.body)
    client = await rig.connect()
    payload = bytes(range(256)) * (8 * 4096)
    client.send(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(payload) + payload)
    assert (await client.answer()).body == payload
    chunks = b"".join(b"%x\r\n%b\r\n" % (65536, payload[i : i + 65536]) for i in range(0, len(payload), 65536))
    client.send(b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (await client.answer()).body == payload
    assert [request.framing for request in rig.app.requests] == ["length", "chunked"]


# ── interim answers ─────────────────────────────────────────────────────────────────────────────────────────────────

HINTS = head(b"Link: </a.css>; rel=preload", b"Server: x", b"Keep-Alive: 5", status=b"103 Early Hints")


async def test_early_hints_go_on_without_what_is_not_for_the_client(rig: Rig) -> None:
    rig.app.answers.append(Answer([head(status=b"100 Continue"), HINTS, head(status=b"102 Processing"), OK]))
    client = await rig.connect()
    client.send(GET)
    hints, processing = await client.interim(), await client.interim()
    assert (hints.status, hints.fields) == (103, ((b"Link", b"</a.css>; rel=preload"),))
    assert (processing.status, processing.fields) == (102, ())
    assert (await client.answer()).body == b"ok"
    assert (await client.ask(GET)).body == b"ok"


async def test_http_1_0_knows_no_interim_answer(rig: Rig) -> None:
    rig.app.answers.append(Answer([HINTS, OK]))
    client = await rig.connect()
    client.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
    assert (await client.ends()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_after_an_interim_answer_nothing_is_sent_again(rig: Rig) -> None:
    client = await rig.connect()
    await client.ask(GET)
    rig.app.answers.append(Answer([HINTS, CLOSE]))
    assert (await client.ask(GET)).code == "upstream_reset"
    assert len(rig.app.requests) == 2
