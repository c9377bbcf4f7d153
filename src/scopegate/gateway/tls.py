"""The TLS handshake that comes before a connection's first request, on a port that speaks HTTPS.

uvicorn makes one of these for each connection it accepts, in place of the connection itself, which begins once the
handshake is done. Until then it counts as a connection, has the time of a head, and gives way like one that idles: a
crowd that begins handshakes and never ends them costs nobody else a place.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, cast

from scopegate.edge.caller import canonical_peer, is_trusted, limit_group
from scopegate.gateway.certificates import Certificates
from scopegate.gateway.connections import Connections
from scopegate.gateway.protocol import NEVER, ClientConnection
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.shared import Shared
from scopegate.metrics import catalogue as metrics

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState


class TlsHandshake(asyncio.Protocol):
    """One client that has connected and not yet shown that it speaks TLS."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._shared: Shared = app_state["shared"]
        self._connections: Connections = app_state["connections"]
        self._certificates: Certificates = app_state["certificates"]
        self._connection = ClientConnection(config, server_state, app_state)
        self._group: str | None = None
        self._task: asyncio.Task[None] | None = None
        self.deadline_s = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is taken from this transport before it reads a byte: uvloop's `start_tls` comes too late for those
        that are there already."""
        plain = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        address = plain.get_extra_info("peername")
        try:
            sock = socket.socket(fileno=os.dup(plain.get_extra_info("socket").fileno()))
        finally:
            plain.abort()  # also where no descriptor is left: nobody would end it
        if not self._enter(canonical_peer(address[0]) if isinstance(address, tuple) else "127.0.0.1"):
            sock.close()
            return
        self._task = self._shared.loop.create_task(self._shake(sock))

    def _enter(self, peer: str) -> bool:
        """Whether there is room for one more of this client."""
        rules, connections = self._shared.rules, self._connections
        if not rules.trusted or not is_trusted(peer, rules.trusted):
            group = limit_group(peer)
            if not connections.clients.enter(group, rules.limits.connections_per_client):
                return False
            self._group = group
        connections.open.add(self)
        if len(connections.open) > rules.limits.connections and not connections.make_room():
            self.leave()
            return False
        connections.idle[self] = None
        return True

    async def _shake(self, sock: socket.socket) -> None:
        try:
            await self._shared.loop.connect_accepted_socket(
                lambda: _Done(self),
                sock,
                ssl=self._certificates.context,
                ssl_handshake_timeout=self._shared.rules.timeouts.head_s,
            )
        except (OSError, asyncio.CancelledError):  # a time-out and ssl.SSLError are; who cancels ends it for good
            metrics.HANDSHAKES_FAILED.inc()
            self.leave()
            sock.close()

    def done(self, tls: asyncio.Transport) -> None:
        """The client speaks TLS: its connection begins."""
        self.leave()
        tls.set_protocol(self._connection)
        self._connection.connection_made(tls)

    def leave(self) -> None:
        self._connections.open.discard(self)
        self._connections.idle.pop(self, None)
        if self._group is not None:
            self._connections.clients.leave(self._group)
            self._group = None

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # ── as one of the connections ───────────────────────────────────────────────────────────────────────────────────

    def on_deadline(self) -> None:
        """Never called: the handshake has a time-out of its own."""

    def give_way(self) -> None:
        self._end()

    def break_off(self) -> None:
        self._end()

    def look_for_end(self) -> bool:
        """It is read all the time."""
        return False

    def rules_in_use(self) -> Ruleset | None:
        return None


class _Done(asyncio.Protocol):
    """What the loop calls once a handshake has succeeded."""

    def __init__(self, handshake: TlsHandshake) -> None:
        self._handshake = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshake.done(cast(asyncio.Transport, transport))
