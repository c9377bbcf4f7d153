"""A client connection without a socket: the gateway's own protocol class on a transport that the test feeds by hand.

Everything behind the transport is real: protocol, pipeline, pool, and the recording app on its socket. One run costs
a tenth of a millisecond where nothing is forwarded, so every split and every mutation can have its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from scopegate.gateway.app import Gateway, state_of
from scopegate.gateway.protocol import ClientConnection

PATIENCE_S = 8.0

_HEAD = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length: ([0-9]+)\r$", re.MULTILINE | re.IGNORECASE)
_CODE = re.compile(rb'"code":"([a-z0-9_]+)"')


class Wire(asyncio.Transport):
    """The transport. Bytes are delivered as packets while the gateway reads, and held back while it does not."""

    def __init__(self, gate: Gateway) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = bytearray()
        self.ended = False
        self._paused = False
        self._packets: list[bytes] = []
        self._changed = asyncio.Event()
        config, state = cast(Any, None), cast(Any, SimpleNamespace(connections=set()))
        self.connection = ClientConnection(config, state, state_of(gate))
        self.connection.connection_made(self)

    def deliver(self, packet: bytes) -> None:
        self._packets.append(packet)
        self._pump()

    def _pump(self) -> None:
        while self._packets and not self._paused and not self._is_gone():
            self.connection.data_received(self._packets.pop(0))

    def _is_gone(self) -> bool:
        return self.connection._transport is None

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something to become true when the gateway writes or ends."""
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()
                await asyncio.sleep(0)

    def hang_up(self) -> None:
        if not self._is_gone():
            self.connection.connection_lost(None)

    # ── what the protocol asks of a transport ───────────────────────────────────────────────────────────────────────

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.ended:
            self.sent += data
        self._changed.set()

    def write_eof(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.ended = True
        self._changed.set()

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        asyncio.get_running_loop().call_soon(self._pump)


def answers(sent: bytes, methods: Sequence[bytes]) -> list[tuple[int, str]]:
    """Status and code (`` for the app's own) of the whole final answers in `sent`; `methods` are the requests', GET
    beyond them. The app's answers have lengths."""
    found: list[tuple[int, str]] = []
    at = 0
    while (head := _HEAD.match(sent, at)) is not None:
        status, at = int(head[1]), head.end()
        if status < 200:
            continue
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        length = _LENGTH.search(head[2])
        assert length is not None, head[0]
        body = b"" if method == b"HEAD" else sent[at : at + int(length[1])]
        if method != b"HEAD" and len(body) < int(length[1]):
            return found
        at += len(body)
        code = _CODE.search(body)
        found.append((status, code[1].decode() if code else ""))
    assert at == len(sent) or sent[at:].startswith(b"HTTP/1.1 "[: len(sent) - at]), sent[at : at + 80]
    return found
