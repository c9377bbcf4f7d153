"""WebSocket connections between two peers that are not ours: the `websockets` library as visitor and as app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

LARGE = 60_000


class EchoApp:
    """Sends back what it is sent; some words make it do something else."""

    def __init__(self) -> None:
        self.closed: list[int | None] = []
        self.port = 0

    async def __call__(self, peer: ServerConnection) -> None:
        try:
            async for message in peer:
                if message == "go away":
                    await peer.close(4001, "as you wish")
                elif message == "too much":
                    await peer.send("x" * (LARGE * 2))
                elif message == "vanish":
                    peer.transport.abort()
                elif message == "ping me":
                    await (await peer.ping(b"are you there"))
                    await peer.send("pong")
                else:
                    await peer.send(message)
        except ConnectionClosed:
            pass
        await peer.wait_closed()
        self.closed.append(peer.close_code)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echo() -> AsyncIterator[EchoApp]:
    app = EchoApp()
    async with serve(app, "127.0.0.1", 0, subprotocols=[Subprotocol("chat")]) as server:
        app.port = server.sockets[0].getsockname()[1]
        yield app


@pytest_asyncio.fixture(loop_scope="module")
async def rig(gates: Rigs, echo: EchoApp) -> Rig:
    echo.closed.clear()
    rule = {"connections_per_client": 50, "message": "64KiB", "idle": "1m"}
    routes = [{"name": "ws", "match": "GET /ws", "tier": "none", "websocket": rule}]
    return await gates.start(servers=[f"http://127.0.0.1:{echo.port}"], routes=routes)


def visitor(rig: Rig, path: str = "ws") -> connect:
    return connect(f"ws://127.0.0.1:{rig.port}/{path}", subprotocols=[Subprotocol("chat")], proxy=None)


async def closed_with(peer: ClientConnection) -> int | None:
    """The close code that the visitor ends with, 1006 for none."""
    async with asyncio.timeout(5):
        try:
            while True:
                await peer.recv()
        except ConnectionClosed:
            return peer.close_code


async def test_a_thousand_messages_come_back(rig: Rig, echo: EchoApp) -> None:
    messages: list[str | bytes] = [
        f"message {n}" if n % 3 else bytes([n % 256]) * (n * 53 % LARGE) for n in range(1000)
    ]
    async with visitor(rig) as peer:
        assert (peer.subprotocol, peer.protocol.extensions) == ("chat", [])
        sending = asyncio.create_task(send_all(peer, messages))
        async with asyncio.timeout(20):
            assert [await peer.recv() for _ in messages] == messages
        await sending
    assert peer.close_code == 1000
    await eventually(lambda: echo.closed == [1000], lambda: echo.closed)


async def send_all(peer: ClientConnection, messages: list[str | bytes]) -> None:
    for message in messages:
        await peer.send(message)


async def test_a_message_in_fragments_comes_back_whole(rig: Rig) -> None:
    async with visitor(rig) as peer:
        await peer.send(["in ", "three ", "parts"])
        assert await peer.recv() == "in three parts"


async def test_pings_are_answered_on_both_sides(rig: Rig) -> None:
    async with visitor(rig) as peer, asyncio.timeout(5):
        assert await (await peer.ping(b"hello")) >= 0
        await peer.send("ping me")
        assert await peer.recv() == "pong"


async def test_close_codes_pass(rig: Rig, echo: EchoApp) -> None:
    peer = await visitor(rig)
    await peer.close(3456, "done")
    await eventually(lambda: echo.closed == [3456], lambda: echo.closed)
    peer = await visitor(rig)
    await peer.send("go away")
    assert await closed_with(peer) == 4001
    assert peer.close_reason == "as you wish"


@pytest.mark.parametrize(
    ("word", "here", "there"),
    [("x" * LARGE * 2, 1009, 1001), ("too much", 1001, 1009), ("vanish", 1006, 1006)],
    ids=["the client says too much", "the app says too much", "the app vanishes"],
)
async def test_each_side_learns_why(rig: Rig, echo: EchoApp, word: str, here: int, there: int) -> None:
    peer = await visitor(rig)
    await peer.send(word)
    assert await closed_with(peer) == here
    await eventually(lambda: echo.closed == [there], lambda: echo.closed)


async def test_a_client_that_vanishes(rig: Rig, echo: EchoApp) -> None:
    peer = await visitor(rig)
    await peer.send("hello")
    await peer.recv()
    peer.transport.abort()
    await eventually(lambda: echo.closed == [1006], lambda: echo.closed)


async def test_nothing_opens_elsewhere(rig: Rig) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await visitor(rig, "other")
    assert refused.value.response.status_code == 404


async def test_a_stop_is_told_to_both(gates: Rigs, rig: Rig, echo: EchoApp) -> None:
    peer = await visitor(rig)
    rig.stop.set()
    assert await closed_with(peer) == 1001
    await eventually(lambda: echo.closed == [1001], lambda: echo.closed)
