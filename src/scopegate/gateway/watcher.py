"""Who watches an exchange: a lead's order, a WebSocket connection, an event stream, an answer for the cache.

An exchange has one watcher. It is told what happens, and says where it will have its way instead of what would happen
anyhow. The policy sees to it that no route needs two. Whoever judges a form is none: it is told of the request's body
alone, changes what of it goes on, and a lead's order may come as a form (`incoming.BodyJudge`).
"""

from __future__ import annotations

from typing import Protocol

from scopegate.edge.headers import Noted
from scopegate.errors import UpstreamError
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.types import Fields


class AppSide(Protocol):
    """What a watcher may ask of the app's side of its exchange. `forwarding.Forwarding` is the one that serves."""

    def send_answer(self, status: int, notes: Noted, payload: bytes, done: bool) -> None:
        """Head and first bytes of the app's answer, to the client."""
        ...

    def send_switch(self, notes: Noted) -> None:
        """The app's 101, to the client. Neither connection will serve another request."""
        ...

    def set_apart(self, idle_s: float) -> None:
        """The answer is a stream, which takes no place of requests any more and may be silent for `idle_s`."""
        ...

    def end_early(self, note: str) -> None:
        """A proper end of an answer without a length, where the protocol in it allows one at any time."""
        ...

    def drop(self) -> None:
        """Nothing more is wanted of the app: its connection ends."""
        ...

    def on_upstream_error(self, error: UpstreamError) -> None:
        """What came is no answer."""
        ...


class Watcher:
    """Nobody in particular: everything goes on as if it was not watched."""

    may_repeat = True
    """Whether a request that is safe to repeat may reach the app twice."""
    passes_interim = True
    """Whether the client hears of interim answers."""
    switches = False
    """Whether the request asks for a switch of protocols."""

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        """The app's answer has begun, and with `done` it is all there. False: it does not go on to the client."""
        return True

    def on_answer_body(self, payload: bytes, done: bool) -> bool:
        """More of the answer. False: it does not go on to the client."""
        return True

    def on_upgrade(self, app: AppSide, connection: UpstreamConnection, fields: Fields, rest: bytes) -> None:
        """The app agreed to a switch of protocols; see `Exchanging.on_upgrade`."""
        raise AssertionError("nobody asked for a switch of protocols")

    def on_upstream_error(self, error: UpstreamError) -> None:
        """There will be no (whole) answer of the app."""

    def on_client_paused(self, paused: bool) -> bool:
        """The client reads slower than it is written to (True), or catches up (False). True: the watcher sees to it
        that the app is no faster."""
        return False

    def on_client_gone(self) -> bool:
        """The client's connection is closed. True: the watcher sees to the rest."""
        return False

    def on_deadline(self) -> bool:
        """The time set by `wait_until` is over. True: the watcher has seen to it."""
        return False

    def on_drain(self) -> None:
        """The gateway is asked to stop. An answer may take the drain time; a stream would never end."""

    def on_finish(self, seconds: float) -> float:
        """The exchange is over after `seconds`. For how many of them the visitor waited."""
        return seconds


NOBODY_WATCHES = Watcher()
