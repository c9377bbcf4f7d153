"""The end of serving: the drain time is kept to the moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from scopegate.process import serving

REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class App:
    """Answers once `answer` is set; `asked` tells that a request is there."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            for said in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{said}.complete"})
            return
        self.asked.set()
        await self.answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def test_what_is_left_is_broken_off_when_the_drain_time_is_over_and_not_at_the_next_second() -> None:
    app, stop, ready = App(), asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    def break_off() -> None:
        seen.append("broken off")
        app.answer.set()

    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    running = asyncio.create_task(serving.serve(app, sock, stop, ready.set, drain_s=lambda: 0.3, break_off=break_off))
    await asyncio.wait_for(ready.wait(), 5)
    _reader, writer = await asyncio.open_connection(*address)
    writer.write(REQUEST)
    await asyncio.wait_for(app.asked.wait(), 5)
    loop = asyncio.get_running_loop()
    marks = [loop.call_later(0.29, seen.append, "nearly"), loop.call_later(0.9, seen.append, "nearly a second")]
    stop.set()
    await asyncio.wait_for(running, 5)
    writer.close()
    assert seen == ["nearly", "broken off"]
    for mark in marks:
        mark.cancel()
