"""The requests of one upstream that wait for a connection, in order of arrival, whichever server it will be to.

Bounded in number and time. The servers of `pool` put them here and take them out; nothing here knows of sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from scopegate.errors import UpstreamError
from scopegate.gateway.upstream import Home, UpstreamConnection


class Connecting:
    """A connection that is waited for, new or handed on. `future` may raise UpstreamError (nothing sent). `server` is
    None until there is a place at one; `tried` are those where it would come to nothing."""

    __slots__ = ("future", "server", "tried")

    def __init__(self, future: asyncio.Future[UpstreamConnection], tried: frozenset[Home]) -> None:
        self.future = future
        self.tried = tried
        self.server: Home | None = None


class Queue:
    """At most `most` at a time, each for at most `patience_s`. `may_serve` says whether a server may take any now."""

    def __init__(
        self, most: int, patience_s: float, may_serve: Callable[[Home], bool], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.waiting: dict[asyncio.Future[UpstreamConnection], tuple[Connecting, asyncio.TimerHandle]] = {}
        self._most = most
        self._patience_s = patience_s
        self._may_serve = may_serve
        self._loop = loop

    def join(self, connecting: Connecting) -> None:
        future = connecting.future
        if len(self.waiting) >= self._most:
            future.set_exception(UpstreamError("busy", "too many requests wait for the app", sent=False))
            return
        self.waiting[future] = connecting, self._loop.call_later(self._patience_s, _give_up, future)
        future.add_done_callback(self._leave)

    def next_for(self, server: Home) -> Connecting | None:
        """The one that has waited longest, of those not tried there. It is out of the queue: from here on its deadline
        is that of the connection."""
        if not self.waiting or not self._may_serve(server):
            return None
        for future, (connecting, _) in self.waiting.items():
            if server not in connecting.tried and not future.done():
                self._leave(future)
                connecting.server = server
                return connecting
        return None

    def close(self) -> None:
        for future in list(self.waiting):
            if not future.done():
                future.set_exception(UpstreamError("connect", "the upstream is closed", sent=False))

    def _leave(self, future: asyncio.Future[UpstreamConnection]) -> None:
        entry = self.waiting.pop(future, None)
        if entry is not None:
            entry[1].cancel()


def _give_up(future: asyncio.Future[UpstreamConnection]) -> None:
    if not future.done():
        future.set_exception(UpstreamError("busy", "no free connection in time", sent=False))
