"""Moments that no socket hits at will: what a client does between two turns of the loop."""

from __future__ import annotations

import asyncio

from tests.gateway.app import OK, Answer
from tests.gateway.raw.case import NEXT, chunked, get, post
from tests.gateway.raw.wire import Wire
from tests.gateway.rig import ON_ONE_LOOP, Rigs, eventually

pytestmark = ON_ONE_LOOP


class GoneAtTheAnswer(Wire):
    """A client that leaves as soon as its answer is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        asyncio.get_running_loop().call_soon(self.hang_up)


async def test_a_client_that_leaves_between_two_requests_leaves_nothing_behind(gates: Rigs) -> None:
    """The second one has arrived and not begun; begun after the client, nobody would ever end it."""
    rig = await gates.start()
    for second in (post(b"Content-Length: 10", body=b"abc"), chunked(b"a\r\nabc"), get(), b"GET /half HT"):
        wire = GoneAtTheAnswer(rig.gateway)
        wire.deliver(NEXT + second)
        await eventually(lambda: not rig.gateway.connections.open)
        await asyncio.sleep(0)
        assert rig.gateway.shared.in_flight == 0, second
    assert {request.target for request in rig.app.requests} == {b"/next"}


async def test_a_client_that_half_closes_has_left(gates: Rigs) -> None:
    """It can hardly be told from one that is gone; docs/security.md says why it is taken for that."""
    rig = await gates.start()
    answer = asyncio.Event()
    rig.app.answers.append(Answer([answer, OK]))
    client = await rig.connect()
    client.send(NEXT)
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    client.writer.write_eof()
    assert await client.ends() == b""
    await eventually(lambda: rig.gateway.shared.in_flight == 0 and rig.servers[0].in_use == 0)
    answer.set()


async def test_a_client_that_leaves_behind_much_that_it_pipelined_is_noticed(gates: Rigs) -> None:
    """Nothing more is read while so much waits, so its end is not read either; and no further request is begun."""
    rig = await gates.start()
    rig.app.default = Answer([asyncio.Event()])
    client = await rig.connect()
    client.send(NEXT + get(line=b"GET /behind HTTP/1.1") * 4000)
    await client.writer.drain()
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    client.writer.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0 and not rig.gateway.connections.open, patience_s=2)
    assert {request.target for request in rig.app.requests} == {b"/next"}
