"""Where the name of a server leads, as the system's resolver tells it. Used by `dial`.

A container that was replaced comes back under its old name at another address. So an answer of the resolver holds for a
few seconds, is not believed any longer once nobody is found at it, and holds on when the resolver itself is away or
does not answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from aiohappyeyeballs import AddrInfoType

from scopegate import logs

HOLDS_S: Final = 5.0
"""How long an answer of the resolver is used (it does not tell the record's own time to live)."""

PATIENCE_S: Final = 0.5

_log = logs.get("upstream")


class HostName:
    """A host name and what it led to lately."""

    def __init__(self, host: str, port: int, loop: asyncio.AbstractEventLoop, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: how long the resolver is waited for where it has answered before."""
        self._patience_s = patience_s
        self._host = host
        self._port = port
        self._loop = loop
        self._known: Sequence[AddrInfoType] = ()
        self._until_s = float("-inf")
        self._addresses: frozenset[str] = frozenset()
        self._asking: asyncio.Task[Sequence[AddrInfoType]] | None = None

    async def addresses(self) -> Sequence[AddrInfoType]:
        """In the order of preference (RFC 6724), never empty. Raises OSError when the name leads nowhere and never
        did."""
        if self.is_known():
            return self._known
        asking = self.look_up()
        if self._known:
            await asyncio.wait({asking}, timeout=self._patience_s)
            if not asking.done():
                self._hold("no answer of the resolver yet")
                return self._known
        return await asyncio.shield(asking)  # who gives up must not take the answer from the others

    def look_up(self) -> asyncio.Task[Sequence[AddrInfoType]]:
        """Ask the resolver, unless it is being asked already."""
        if self._asking is None or self._asking.done():
            self._asking = self._loop.create_task(self._ask())
            self._asking.add_done_callback(_heard)
        return self._asking

    def is_known(self) -> bool:
        """Whether the last answer still holds."""
        return self._loop.time() < self._until_s

    def forget(self) -> None:
        """Nobody was found there: ask anew the next time."""
        self._until_s = float("-inf")

    def leads_to(self, address: str) -> bool:
        """Whether `address` was in the last answer."""
        return address in self._addresses

    async def close(self) -> None:
        """Nobody needs an answer any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> Sequence[AddrInfoType]:
        try:
            found: Sequence[AddrInfoType] = await self._loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except OSError as error:
            if not self._known:
                raise
            self._hold(error.strerror or type(error).__name__)
            return self._known
        addresses = frozenset(info[4][0] for info in found)
        if self._known and addresses != self._addresses:
            _log.info("upstream.name_moved", name=self._host, addresses=sorted(addresses))
        self._known, self._addresses = found, addresses
        self._until_s = self._loop.time() + HOLDS_S
        return found

    def _hold(self, error: str) -> None:
        """Hold on to the last answer."""
        _log.warning("upstream.name_unknown", name=self._host, error=error)
        self._until_s = self._loop.time() + HOLDS_S


def _heard(task: asyncio.Task[Sequence[AddrInfoType]]) -> None:
    """All who asked may have given up by now: then an error is nobody's."""
    if not task.cancelled():
        task.exception()
