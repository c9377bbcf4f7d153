"""uvicorn as a part: it serves a listening socket until an event; signals are the command line's business."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scopegate.errors import ScopegateError

BACKLOG = 2048


class WrongProtocol(ScopegateError):
    """uvicorn did not take the protocol class it was given."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], protocol: type[Any]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._protocol = protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.http_protocol_class is not self._protocol:
            raise WrongProtocol(f"uvicorn would serve with {self.config.http_protocol_class!r}")
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Any,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None],
    *,
    drain_s: Callable[[], float],
    http: type[Any] = HttpToolsProtocol,
) -> None:
    """Serve the ASGI app on `sock` until `stop`, then drain for at most `drain_s()`, asked then. `ready` is called once
    connections are taken; `http` is the protocol class. No proxy fields are believed, none of its own fields are sent,
    no log line is written per request."""
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
    )
    server = _Server(config, ready, http)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        config.timeout_graceful_shutdown = max(1, round(drain_s()))
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
