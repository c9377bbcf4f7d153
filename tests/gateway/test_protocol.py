"""Order, time, caps and ends on the public port. What becomes of which bytes is in `raw/`."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.app import OK, Answer, App, body_of
from tests.gateway.client import BrokenTransferError, Client
from tests.gateway.raw.case import LIMITS, NEXT, chunked, get, post
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = NEXT
UNCOUNTED = {"trusted_proxies": ["127.0.0.0/8"]}
"""Visitors of these tests have one address: else its share would be the bound that they meet."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(rigs: Rigs) -> Rig:
    return await rigs.start(limits=LIMITS)


@pytest_asyncio.fixture(loop_scope="module")
async def rig(house: Rig) -> AsyncIterator[Rig]:
    """The module's gateway, seen fresh."""
    house.app.requests.clear()
    yield house
    await house.settled()


# ── the shape of the connection ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_host_that_is_not_served_is_421_and_the_connection_goes_on(gates: Rigs) -> None:
    rig = await gates.start(server={"hosts": ["a.example"]})
    client = await rig.connect()
    for method in (b"GET", b"HEAD"):
        reply = await client.ask(b"%b / HTTP/1.1\r\nHost: b.example\r\n\r\n" % method)
        assert (reply.status, reply.get(b"connection")) == (421, [])
    assert (await client.ask(GET)).status == 200
    assert len(rig.app.requests) == 1


# ── the answer's shape ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_http_1_0_gets_one_answer_that_ends_with_the_connection(rig: Rig) -> None:
    begun = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    rig.app.answers.append(Answer([head, b"1\r\na\r\n", begun, b"2\r\nbc\r\n0\r\n\r\n"]))
    client = await rig.connect()
    asyncio.get_running_loop().call_later(0.02, begun.set)
    reply = await client.ask(b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n")
    assert (reply.body, reply.framing, reply.get(b"transfer-encoding")) == (b"abc", "close", [])


async def test_http_1_0_is_never_told_to_continue(rig: Rig) -> None:
    client, began = await rig.connect(), rig.app.began
    client.send(b"POST / HTTP/1.0\r\nHost: a.example\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    await rig.app.until(lambda: rig.app.began > began)
    client.send(b"abc")
    assert (await client._answer("POST")).status == 200


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200),
        (b"HEAD", b"HTTP/1.1 404 No\r\n\r\n", 404),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: x\r\n\r\n", 304),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204),
    ],
)
async def test_answers_without_a_body_end_with_their_head(rig: Rig, method: bytes, answer: bytes, status: int) -> None:
    rig.app.answers.append(answer)
    client = await rig.connect()
    reply = await client.ask(get(line=b"%b /x HTTP/1.1" % method))
    assert reply.status == status
    assert reply.get(b"transfer-encoding") == []
    assert (await client.ask(GET)).status == 200
    assert len({request.connection for request in rig.app.requests}) == 1


async def test_the_client_is_told_to_continue_when_its_body_is_wanted(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
    assert (await client.interim()).status == 100
    client.send(b"abc")
    assert (await client.answer()).status == 200
    assert rig.app.requests[0].body == b"abc"


async def test_a_chunked_client_is_told_to_continue(rig: Rig) -> None:
    client = await rig.connect()
    client.send(chunked(b"", b"Expect: 100-continue"))
    assert (await client.interim()).status == 100
    client.send(b"3\r\nabc\r\n0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert (await client.ask(GET)).status == 200


async def test_a_client_that_went_on_already_is_not_told_to(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"))
    assert (await client._answer("POST")).status == 200


async def test_the_client_is_not_told_to_continue_into_a_refusal(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post(b"Expect: 100-continue", b"Content-Length: 5000"))
    assert (await client._answer("POST")).status == 413


async def test_close_is_kept(rig: Rig) -> None:
    client = await rig.connect()
    client.send(get(b"Connection: close") + GET)
    reply = await client.answer()
    assert (reply.status, reply.get(b"connection")) == (200, [b"close"])
    assert await client.ends() == b""
    assert len(rig.app.requests) == 1


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pipelined_requests_are_served_one_at_a_time_in_order(rig: Rig) -> None:
    first = asyncio.Event()
    rig.app.answers.extend([Answer([first, body_of(b"one")]), body_of(b"two"), body_of(b"three")])
    client = await rig.connect()
    client.send(get(line=b"GET /1 HTTP/1.1") + post(b"Content-Length: 3", body=b"abc") + get(line=b"GET /3 HTTP/1.1"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    assert rig.gateway.shared.in_flight == 1
    first.set()
    assert [(await client.answer()).body for _ in range(3)] == [b"one", b"two", b"three"]
    assert [request.target for request in rig.app.requests] == [b"/1", b"/x", b"/3"]


async def test_a_flood_of_pipelined_requests_waits_in_the_clients_own_kernel(rig: Rig) -> None:
    """20 MiB of requests behind one that waits: the gateway stops reading instead of keeping them."""
    wait = asyncio.Event()
    rig.app.answers.append(Answer([wait, OK]))
    client = await rig.connect()
    before = _peak_kib()
    client.send(GET * (20 * 1024 * 1024 // len(GET)))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    (connection,) = rig.connections
    await eventually(lambda: connection._reading_paused)
    await _still(lambda: client.writer.transport.get_write_buffer_size())
    assert client.writer.transport.get_write_buffer_size() > 10 * 1024 * 1024
    assert len(connection._buffer) < 1024 * 1024
    assert _peak_kib() - before < 48 * 1024  # the client's own copies are here too
    await client.close()
    wait.set()


async def test_a_client_that_does_not_read_is_not_served_on(rig: Rig) -> None:
    """Answers to pipelined requests must not gather for a client that never takes them."""
    rig.app.default = body_of(b"x" * 65536)
    try:
        client = await rig.connect(read_ahead_bytes=1024)
        client.stop_reading()
        client.send(GET * 2000)
        await eventually(lambda: len(rig.app.requests) > 4)
        await _still(lambda: len(rig.app.requests))
        (connection,) = rig.connections
        assert len(rig.app.requests) < 400
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 1024 * 1024
        client.go_on_reading()
        for _ in range(2000):
            assert len((await client.answer()).body) == 65536
        assert await client.is_open()
    finally:
        rig.app.default = OK


async def test_a_client_that_asks_on_without_reading_is_not_served_on(rig: Rig) -> None:
    """The same, when every request comes in a packet of its own."""
    rig.app.default = body_of(b"x" * 65536)
    try:
        client = await rig.connect(read_ahead_bytes=1024, kernel_bytes=4096)
        client.stop_reading()
        for _ in range(60):
            client.send(GET)
            await asyncio.sleep(0.004)
        await _still(lambda: len(rig.app.requests))
        served = len(rig.app.requests)
        for _ in range(60):
            client.send(GET)
            await asyncio.sleep(0.001)
        assert len(rig.app.requests) == served < 60
        client.go_on_reading()
        for _ in range(120):
            assert len((await client.answer()).body) == 65536
        assert await client.is_open()
    finally:
        rig.app.default = OK


async def _still(number: Any) -> None:
    """Wait until a number has not moved for a while."""
    seen = -1
    while seen != number():
        seen = number()
        await asyncio.sleep(0.15)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SHORT = {"head": "200ms", "body_idle": "300ms", "body": "1s", "keep_alive": "300ms"}


async def test_times(gates: Rigs) -> None:
    """Every deadline of the public port, side by side: they pass in parallel."""
    rig = await gates.start(timeouts=SHORT, app=_waiting_app())
    await asyncio.gather(
        _a_head_that_does_not_end(rig),
        _a_head_that_drips(rig),
        _nothing_at_all(rig),
        _empty_lines_for_ever(rig),
        _nothing_after_an_answer(rig),
        _half_a_request_after_an_answer(rig),
        _a_body_that_stops(rig),
        _a_chunked_body_that_stops(rig),
        _a_body_that_drips(rig),
        _a_body_that_never_ends(rig),
    )


def _waiting_app() -> App:
    app = App()
    app.default = OK
    return app


async def _a_head_that_does_not_end(rig: Rig) -> None:
    client = await rig.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a")
    assert (await client.answer()).code == "head_timeout"
    assert await client.ends() == b""


async def _a_head_that_drips(rig: Rig) -> None:
    client = await rig.connect()
    began = asyncio.get_running_loop().time()
    for byte in GET * 3:
        if client.writer.is_closing() or asyncio.get_running_loop().time() - began > 2:
            break
        client.send(bytes([byte]))
        await asyncio.sleep(0.04)
    assert (await client.answer()).status == 408


async def _nothing_at_all(rig: Rig) -> None:
    client = await rig.connect()
    assert await client.ends() == b""


async def _empty_lines_for_ever(rig: Rig) -> None:
    client = await rig.connect()

    async def send() -> None:
        while True:
            client.send(b"\r\n")
            await asyncio.sleep(0.05)

    sending = asyncio.create_task(send())
    with suppress(BrokenTransferError):  # a line that crosses the close is answered with a reset
        assert await client.ends() == b""
    sending.cancel()


async def _nothing_after_an_answer(rig: Rig) -> None:
    client = await rig.connect()
    assert (await client.ask(GET)).status == 200
    assert await client.ends() == b""


async def _half_a_request_after_an_answer(rig: Rig) -> None:
    client = await rig.connect()
    client.send(GET + b"GET / HT")
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 408
    assert await client.ends() == b""


async def _a_body_that_stops(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post(b"Content-Length: 10", body=b"abc"))
    assert (await client.answer()).code == "body_timeout"
    assert await client.ends() == b""


async def _a_chunked_body_that_stops(rig: Rig) -> None:
    client = await rig.connect()
    client.send(chunked(b"a\r\nabc"))
    assert (await client.answer()).code == "body_timeout"
    assert await client.ends() == b""


async def _a_body_that_drips(rig: Rig) -> None:
    """Never idle for long, and still an attack: less than the minimum rate."""
    client = await rig.connect()
    client.send(post(b"Content-Length: 1000"))
    for sent in range(100):  # noqa: B007 (how far it came is looked at below)
        if client.reader._buffer or client.reader.at_eof():  # type: ignore[attr-defined]
            break
        client.send(b"a")
        await asyncio.sleep(0.02)
    assert sent < 80
    assert (await client.answer()).code == "body_timeout"


async def _a_body_that_never_ends(rig: Rig) -> None:
    """Never idle and never slow: what it takes in all is bounded too."""
    client = await rig.connect()
    began = asyncio.get_running_loop().time()
    client.send(post(b"Content-Length: 1000000"))
    await _until_told(client, b"a" * 100)
    assert (await client.answer()).code == "body_timeout"
    assert asyncio.get_running_loop().time() - began > 0.9


async def _until_told(client: Client, piece: bytes) -> None:
    for _ in range(200):
        if client.reader._buffer or client.reader.at_eof() or client.writer.is_closing():  # type: ignore[attr-defined]
            return
        client.send(piece)
        await asyncio.sleep(0.02)


async def test_a_body_that_outlives_its_time_under_an_answer_breaks_the_transfer(gates: Rigs) -> None:
    rig = await gates.start(timeouts={"body": "400ms", "body_idle": "300ms"})
    rig.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"], early=True))
    client = await rig.connect()
    client.send(post(b"Content-Length: 1000000"))
    sending = asyncio.create_task(_until_told(client, b"a" * 100))
    began = asyncio.get_running_loop().time()
    with pytest.raises(BrokenTransferError):
        await client.answer()
    assert asyncio.get_running_loop().time() - began > 0.3
    await sending
    assert rig.app.requests == []


async def test_a_body_that_the_app_keeps_waiting_is_not_the_clients_to_answer_for(gates: Rigs) -> None:
    app = App()
    app.kernel_bytes = 4096
    read = asyncio.Event()
    app.answers.append(Answer([OK], read_after=read))
    rig = await gates.start(app=app, timeouts={"body": "500ms", "body_idle": "400ms"}, limits={"body": "32MiB"})
    client = await rig.connect()
    client.send(post(b"Content-Length: %d" % (16 << 20), body=b"a" * (16 << 20)))
    (connection,) = rig.connections
    await eventually(lambda: connection._reading_paused)
    await asyncio.sleep(0.8)
    read.set()
    assert (await client.answer()).status == 200


async def test_a_request_begun_late_has_its_whole_time(gates: Rigs) -> None:
    """The keep-alive time ends with the next request's first byte; from there the head's own time counts."""
    rig = await gates.start(timeouts={"head": "5s", "keep_alive": "400ms"})
    client = await rig.connect()
    assert (await client.ask(GET)).status == 200
    await asyncio.sleep(0.2)
    client.send(GET[:10])
    await asyncio.sleep(0.7)
    client.send(GET[10:])
    assert (await client.answer()).status == 200


async def test_a_client_that_never_takes_its_answer_is_let_go(gates: Rigs) -> None:
    """Closing waits for what is unsent, but not for ever."""
    rig = await gates.start(timeouts={"keep_alive": "300ms"}, upstream={"idle": "300ms"})
    rig.app.default = body_of(b"x" * 8_000_000)
    client = await rig.connect(read_ahead_bytes=1024)
    client.stop_reading()
    client.send(get(b"Connection: close"))
    other = await rig.connect(read_ahead_bytes=1024)
    other.stop_reading()
    rig.app.answers.append(body_of(b"y" * 8_000_000))
    other.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 2)
    await eventually(lambda: not rig.gateway.connections.open)


async def test_a_last_answer_that_nobody_takes_is_let_go(gates: Rigs) -> None:
    """The gateway has done its part and closed; what it could not send must not keep the connection for ever."""
    rig = await gates.start(timeouts={"keep_alive": "300ms"}, kernel_bytes=2048)
    rig.app.default = body_of(b"x" * 60_000)
    client = await rig.connect(read_ahead_bytes=1024, kernel_bytes=2048)
    client.stop_reading()
    client.send(get(b"Connection: close"))
    await eventually(lambda: bool(rig.gateway.connections.open))
    await eventually(lambda: not rig.gateway.connections.open)


async def test_a_client_that_reads_slowly_has_its_whole_answer(gates: Rigs) -> None:
    """Slower than every deadline, at a fair rate: that is no reason to cut it off."""
    rig = await gates.start(timeouts={"keep_alive": "200ms"}, upstream={"idle": "200ms", "response": "200ms"})
    rig.app.default = body_of(b"x" * 400_000)
    client = await rig.connect(read_ahead_bytes=4096, kernel_bytes=4096)
    client.send(get(b"Connection: close"))
    got = b""
    while part := await client.reader.read(8192):
        got += part
        await asyncio.sleep(0.02)
    assert len(got.partition(b"\r\n\r\n")[2]) == 400_000


async def test_a_small_answer_that_nobody_takes_is_let_go(gates: Rigs) -> None:
    rig = await gates.start(timeouts={"keep_alive": "300ms"})
    rig.app.default = body_of(b"x" * 200_000)
    client = await rig.connect(read_ahead_bytes=1024)
    client.stop_reading()
    client.send(GET * 200)
    await eventually(lambda: bool(rig.gateway.connections.open))
    await eventually(lambda: not rig.gateway.connections.open)


# ── caps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def busy(rig: Rig) -> Client:
    """A client whose request the app has, and does not answer."""
    client, before = await rig.connect(), len(rig.app.requests)
    rig.app.answers.append(Answer([asyncio.Event()]))
    client.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) > before)
    return client


async def is_served(rig: Rig) -> Client:
    client = await rig.connect()
    assert (await client.ask(GET)).status == 200
    return client


async def test_more_connections_than_allowed_are_turned_away_while_all_have_requests(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 2}, server=UNCOUNTED)
    first, _ = await busy(rig), await busy(rig)
    third = await rig.connect()
    reply = await third.answer()
    assert (reply.code, reply.get(b"retry-after"), reply.status) == ("overloaded", [b"1"], 503)
    assert await third.ends() == b""
    await first.close()
    await eventually(lambda: len(rig.gateway.connections.open) == 1)
    await is_served(rig)


async def test_an_idle_connection_gives_way_to_a_newcomer_the_longest_idle_first(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 4}, server=UNCOUNTED)
    first, second, third = [await is_served(rig) for _ in range(3)]
    assert (await first.ask(GET)).status == 200
    working = await busy(rig)
    await is_served(rig)
    assert await second.ends() == b""
    await is_served(rig)
    assert await third.ends() == b""
    assert (await first.ask(GET)).status == 200
    assert len(rig.gateway.connections.open) == 4
    for _ in range(8):
        await is_served(rig)
    assert await first.ends() == b""
    await working.close()


async def test_half_a_head_is_no_request_but_begins_its_time_anew(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 3}, server=UNCOUNTED)
    half, silent = await is_served(rig), await rig.connect()
    await eventually(lambda: len(rig.gateway.connections.open) == 2)
    kept = await is_served(rig)
    half.send(b"GET / HT")
    await asyncio.sleep(0.01)
    half.send(b"TP/1.1\r\n")
    for oldest in (silent, kept, half):
        await is_served(rig)
        assert await oldest.ends() == b""


async def test_empty_lines_are_no_request(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 2}, server=UNCOUNTED)
    for lines in (b"\r\n", b"\r\n\r", b"\r"):
        clients = [await rig.connect() for _ in range(2)]
        for client in clients:
            client.send(GET + lines)
            assert (await client.answer()).status == 200
        await is_served(rig)
        await is_served(rig)
        assert [await client.ends() for client in clients] == [b"", b""]


async def test_who_was_refused_and_goes_on_sending_gives_way(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 1, "body": "1KiB"}, server=UNCOUNTED)
    client = await rig.connect()
    client.send(post(b"Content-Length: 5000000"))
    assert (await client.answer("POST")).status == 413
    await is_served(rig)


async def test_who_does_not_take_its_answer_gives_way(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 1}, server=UNCOUNTED, kernel_bytes=4096)
    rig.app.answers.append(body_of(b"x" * 60_000))
    client = await rig.connect(read_ahead_bytes=1024, kernel_bytes=4096)
    client.stop_reading()
    client.send(GET)
    await eventually(lambda: rig.app.requests and rig.gateway.shared.in_flight == 0)
    await is_served(rig)
    client.go_on_reading()
    with pytest.raises(BrokenTransferError):
        await client.answer()


async def test_nobody_gives_way_to_a_client_that_has_its_share(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 2, "connections_per_client": 2})
    first, second = await is_served(rig), await is_served(rig)
    assert (await (await rig.connect()).answer()).code == "too_many_connections"
    assert [(await client.ask(GET)).status for client in (first, second)] == [200, 200]


async def test_a_thousand_newcomers_at_once_leave_as_many_connections_as_allowed(gates: Rigs) -> None:
    rig = await gates.start(limits={"connections": 10}, server=UNCOUNTED)
    working = await busy(rig)
    await asyncio.gather(*[rig.connect() for _ in range(1000)])
    await eventually(lambda: len(rig.gateway.connections.open) == 10)
    await is_served(rig)
    await working.close()


async def test_more_requests_at_once_than_allowed_are_turned_away(gates: Rigs) -> None:
    rig = await gates.start(limits={"in_flight": 1})
    wait = asyncio.Event()
    rig.app.answers.append(Answer([wait, OK]))
    first, second = await rig.connect(), await rig.connect()
    first.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    reply = await second.ask(GET)
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "overloaded", [b"1"])
    wait.set()
    assert (await first.answer()).status == 200
    assert (await first.ask(GET)).status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"GET /" + b"a" * 1000, 414), (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, 431), (b"GET / HTTP/1.1\r\nX: a\nb", 400)],
)
async def test_a_head_that_cannot_become_good_is_refused_before_it_ends(rig: Rig, raw: bytes, status: int) -> None:
    client = await rig.connect()
    assert (await client.ask(raw)).status == status
    assert await client.ends() == b""


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_still_sending_reads_its_refusal(rig: Rig) -> None:
    """5 MB to a route that takes 1 KiB: closing over unread bytes would reset the connection under the answer."""
    client = await rig.connect()
    client.send(post(b"Content-Length: 5000000"))
    for _ in range(50):
        client.send(b"a" * 100_000)
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.answer("POST")).status == 413
    assert await client.ends() == b""
    assert rig.app.requests == []


async def test_a_client_that_goes_on_sending_for_ever_is_cut_off(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post(b"Content-Length: 900000000000"))
    with pytest.raises((ConnectionError, BrokenTransferError)):
        for _ in range(2000):
            client.send(b"a" * 100_000)
            await client.writer.drain()
    await eventually(lambda: not rig.gateway.connections.open)


async def test_a_client_that_leaves_in_its_head_is_forgotten(rig: Rig) -> None:
    for raw in (b"", b"GET / HT", post(b"Content-Length: 10", body=b"abc"), chunked(b"5\r\na")):
        client = await rig.connect()
        client.send(raw)
        await asyncio.sleep(0.01)
        await client.close()
    await eventually(lambda: not rig.gateway.connections.open)
    assert rig.app.requests == []
