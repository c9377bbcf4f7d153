"""uvicorn as a part: it serves a listening socket until an event; signals are the command line's business."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scopegate.errors import ScopegateError
from scopegate.process import backlog
from scopegate.tasks import first_of

Protocol: TypeAlias = Callable[..., Any]
"""What makes a connection's protocol: called as uvicorn calls a class of its own."""
HANDSHAKE_S = 0.05
"""How long a handshake that has begun before the end may take. Everything is served meanwhile."""


class WrongProtocol(ScopegateError):
    """uvicorn did not take the protocol class it was given."""


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        stop: asyncio.Event,
        on_started: Callable[[], None],
        protocol: type[Any],
        beside: Mapping[socket.socket, Protocol],
    ) -> None:
        super().__init__(config)
        self._beside = beside
        self._stop = stop
        self._on_started = on_started
        self._protocol = protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.http_protocol_class is not self._protocol:
            raise WrongProtocol(f"uvicorn would serve with {self.config.http_protocol_class!r}")
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for sock, protocol in self._beside.items():
            made = partial(self._connection, protocol)
            self.servers.append(await loop.create_server(made, sock=sock, backlog=backlog.SIZE))
        self._on_started()

    async def main_loop(self) -> None:
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ask all connections to end, those included that waited to be accepted: closing would reset them."""
        await asyncio.sleep(HANDSHAKE_S)
        served: dict[socket.socket, Protocol] = dict.fromkeys(sockets or (), self._protocol)
        served.update(self._beside)
        for sock, protocol in served.items():
            await self._take(sock, protocol)
        await super().shutdown([*served])  # closes at once: between here and the last look nobody else runs

    async def _take(self, sock: socket.socket, protocol: Protocol) -> None:
        loop = asyncio.get_running_loop()
        for client in backlog.waiting(sock):
            with suppress(OSError):  # gone already
                await loop.connect_accepted_socket(partial(self._connection, protocol), client)

    def _connection(self, protocol: Protocol) -> asyncio.Protocol:
        """As uvicorn makes one for each connection that it accepts itself."""
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

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
    break_off: Callable[[], None] = lambda: None,
    http: type[Any] = HttpToolsProtocol,
    beside: Mapping[socket.socket, Protocol] = MappingProxyType({}),
) -> None:
    """Serve the ASGI app on `sock` until `stop`, then drain for at most `drain_s()`, asked then; `break_off` is called
    when that is over and something is still open, and should end it. `ready` is called once connections are taken;
    `http` is the protocol class, `beside` are further sockets with theirs. No proxy fields are believed, none of its
    own fields are sent, no log line is written per request."""
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
        backlog=backlog.SIZE,
    )
    server = _Server(config, stop, ready, http, beside)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await first_of(asyncio.wait({serving}), stop.wait())
    if not serving.done():
        limit_s = drain_s()
        config.timeout_graceful_shutdown = math.ceil(limit_s) + 1  # whole seconds, for what cannot be broken off
        await asyncio.wait({serving}, timeout=limit_s)
    if not serving.done():
        break_off()
    await serving
