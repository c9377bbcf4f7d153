"""Server-sent events through a real gateway: nothing is held back, and what limits and a stop mean to them."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from scopegate.edge.framing import LAST_CHUNK, as_chunk
from scopegate.metrics.labels import StreamKind
from tests.gateway.app import Answer, End
from tests.gateway.client import BrokenTransferError, Client
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /events HTTP/1.1\r\nHost: a.example\r\nAccept: text/event-stream\r\n\r\n"
PLAIN = b"GET /plain HTTP/1.1\r\nHost: a.example\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_EOF = b"HTTP/1.1 200 OK\r\nContent-Type: TEXT/event-stream\r\n\r\n"
ONE, TWO = b"data: one\n\n", b"data: two\n\n"
RULE = {"connections_per_client": 100, "message": "1KiB", "idle": "5m"}


async def started(gates: Rigs, rule: dict[str, Any] | None = RULE, **policy: Any) -> Rig:
    events = {"name": "events", "match": "GET /events", "tier": "none"} | ({"events": rule} if rule else {})
    return await gates.start(routes=[events, {"name": "all", "match": "ANY /**", "tier": "none"}], **policy)


def streams(rig: Rig) -> tuple[int, int]:
    """Requests in flight, event streams open."""
    return rig.gateway.shared.in_flight, rig.gateway.shared.streams.open[StreamKind.EVENTS]


async def chunk(client: Client) -> bytes:
    async with asyncio.timeout(5):
        size = int(await client._take_until(b"\r\n"), 16)
        data = await client._take(size)
        assert await client._take(2) == b"\r\n"
    return data


async def begun(rig: Rig, client: Client, head: bytes = HEAD, *then: bytes | asyncio.Event | End | float) -> None:
    """A stream whose first event has come; only then does the app go on."""
    has_come = asyncio.Event()
    rig.app.answers.append(Answer([head, as_chunk(ONE) if head is HEAD else ONE, has_come, *then]))
    client.send(GET)
    async with asyncio.timeout(5):
        assert b"text/event-stream" in (await client._take_until(b"\r\n\r\n")).lower()
    if head is HEAD:
        assert await chunk(client) == ONE
    has_come.set()


async def test_an_event_is_there_before_the_app_has_the_next(gates: Rigs) -> None:
    rig = await started(gates)
    client = await rig.connect()
    said, done = asyncio.Event(), asyncio.Event()
    await begun(rig, client, HEAD, said, as_chunk(TWO), done, LAST_CHUNK)
    assert streams(rig) == (0, 1)
    said.set()  # only now does the app go on
    assert await chunk(client) == TWO
    done.set()
    assert await chunk(client) == b""
    await eventually(lambda: streams(rig) == (0, 0))
    assert await client.is_open()


async def test_half_an_event_is_passed_on_too(gates: Rigs) -> None:
    rig = await started(gates)
    client = await rig.connect()
    go_on = asyncio.Event()
    await begun(rig, client, HEAD, as_chunk(b"da"), go_on, as_chunk(b"ta: x\n\n"), LAST_CHUNK)
    assert await chunk(client) == b"da"
    go_on.set()
    assert await chunk(client) == b"ta: x\n\n"


async def test_a_client_has_so_many_streams(gates: Rigs) -> None:
    rig = await started(gates, {**RULE, "connections_per_client": 2})
    clients = [await rig.connect() for _ in range(2)]
    for client in clients:
        await begun(rig, client, HEAD, End.HANG)
    extra = await rig.connect()
    rig.app.answers.append(Answer([HEAD, End.HANG]))
    reply = await extra.ask(GET)
    assert (reply.status, reply.code) == (429, "too_many_streams")
    assert streams(rig) == (0, 2)
    await clients[0].close()
    await eventually(lambda: streams(rig) == (0, 1))
    await begun(rig, extra, HEAD, End.HANG)


async def test_streams_keep_no_request_out(gates: Rigs) -> None:
    rig = await started(gates, limits={"in_flight": 1}, pool={"connections": 1, "waiting": 1})
    for _ in range(3):
        await begun(rig, await rig.connect(), HEAD, End.HANG)
    assert (await (await rig.connect()).ask(PLAIN)).status == 200
    assert streams(rig) == (0, 3)


@pytest.mark.parametrize("parts", [[b"data: " + b"x" * 1100], [b"x" * 300 + b"\n"] * 4, [b"\n\n" + b"y" * 1025]])
async def test_an_event_that_is_too_large_breaks_the_stream(
    gates: Rigs, parts: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    rig = await started(gates)
    client = await rig.connect()
    await begun(rig, client, HEAD, *map(as_chunk, parts), End.HANG)
    with pytest.raises(BrokenTransferError) as broken:
        await client.ends()
    assert LAST_CHUNK not in broken.value.got
    assert notes(rig, capsys) == ["event_too_large"]


def notes(rig: Rig, capsys: pytest.CaptureFixture[str]) -> list[str]:
    rig.gateway.shared.access.flush()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line["note"] for line in lines if line.get("event") == "request"]


async def test_the_bound_is_for_one_event_and_not_for_all(gates: Rigs) -> None:
    rig = await started(gates)
    client = await rig.connect()
    event = b"data: " + b"x" * 1000 + b"\r\n\r\n"
    rig.app.answers.append(Answer([HEAD, *[as_chunk(event)] * 20, LAST_CHUNK]))
    assert (await client.ask(GET)).body == event * 20


async def test_a_compressed_stream_is_not_measured(gates: Rigs) -> None:
    rig = await started(gates)
    client = await rig.connect()
    head = HEAD.replace(b"transfer", b"Content-Encoding: gzip\r\ntransfer")
    packed = gzip.compress(bytes(range(256)) * 64, 0)
    rig.app.answers.append(Answer([head, as_chunk(packed), LAST_CHUNK]))
    assert (await client.ask(GET)).body == packed


async def test_silence_breaks_a_stream(gates: Rigs, capsys: pytest.CaptureFixture[str]) -> None:
    rig = await started(gates, {**RULE, "idle": "300ms"})
    client = await rig.connect()
    await begun(rig, client, HEAD, End.HANG)
    with pytest.raises(BrokenTransferError):
        await client.ends()
    assert notes(rig, capsys) == ["stream_idle"]


async def test_the_upstreams_time_does_not_hold_for_a_stream(gates: Rigs) -> None:
    """It is 300 ms here, and still holds for answers of other routes."""
    rig = await started(gates, upstream={"idle": "300ms"})
    client, other = await rig.connect(), await rig.connect()
    go_on = asyncio.Event()
    await begun(rig, client, HEAD, go_on, as_chunk(TWO), LAST_CHUNK)
    rig.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", End.HANG]))
    with pytest.raises(BrokenTransferError):
        await other.ask(PLAIN)
    go_on.set()
    assert await chunk(client) == TWO


@pytest.mark.parametrize("head", [HEAD, UNTIL_EOF])
async def test_a_stop_ends_streams_properly_and_at_once(gates: Rigs, head: bytes) -> None:
    """The client comes back by itself; a stop that waited for it would last for ever."""
    rig = await started(gates, timeouts={"drain": "20s"})
    client = await rig.connect()
    await begun(rig, client, head, End.HANG)
    rig.stop.set()
    async with asyncio.timeout(6):
        assert await client.ends() == (LAST_CHUNK if head is HEAD else as_chunk(ONE) + LAST_CHUNK)
    assert streams(rig) == (0, 0)
    assert rig._serving is not None
    await asyncio.wait_for(asyncio.shield(rig._serving), 12)


async def test_a_stream_that_begins_during_a_stop_ends_at_once(gates: Rigs) -> None:
    rig = await started(gates, timeouts={"drain": "20s"})
    client = await rig.connect()
    go_on = asyncio.Event()
    rig.app.answers.append(Answer([go_on, HEAD + as_chunk(ONE), End.HANG]))
    client.send(GET)
    await rig.app.until(lambda: rig.app.began == 1)
    rig.stop.set()
    await eventually(lambda: rig.gateway.shared.draining)
    go_on.set()
    reply = await client.answer()
    assert (reply.status, reply.body, reply.get(b"connection")) == (200, ONE, [b"close"])
    await eventually(lambda: streams(rig) == (0, 0))


async def test_an_app_that_breaks_off_breaks_the_stream(gates: Rigs) -> None:
    rig = await started(gates)
    client = await rig.connect()
    await begun(rig, client, HEAD, End.CLOSE)
    with pytest.raises(BrokenTransferError):
        await client.ends()
    await eventually(lambda: streams(rig) == (0, 0))


async def test_without_a_rule_it_is_an_answer_like_any_other(gates: Rigs) -> None:
    rig = await started(gates, None, timeouts={"drain": "20s"})
    client = await rig.connect()
    go_on = asyncio.Event()
    await begun(rig, client, HEAD, as_chunk(b"x" * 5000), go_on, LAST_CHUNK)
    assert streams(rig) == (1, 0)
    rig.stop.set()
    await eventually(lambda: rig.gateway.shared.draining)
    go_on.set()
    assert await client._chunked() == b"x" * 5000


@pytest.mark.parametrize(
    "answer",
    [
        HEAD.replace(b"event-stream", b"plain") + as_chunk(b"x" * 5000) + LAST_CHUNK,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000,
    ],
)
async def test_an_answer_that_is_no_stream_is_not_measured(gates: Rigs, answer: bytes) -> None:
    rig = await started(gates, {**RULE, "connections_per_client": 1})
    client = await rig.connect()
    rig.app.answers.append(Answer([answer[:-10], 0.01, answer[-10:]]))
    assert (await client.ask(GET)).body == b"x" * 5000
