"""A request of our own in a visitor's name, who has been given a stale answer: the app is asked for a newer one.

An exchange without a client. It takes part in nothing that is counted of visitors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from scopegate.edge.proxy_protocol import Told
from scopegate.edge.verdict import Refusal
from scopegate.gateway.client import BodyTaker, ClientTunnel
from scopegate.gateway.exchange import Exchange, Step
from scopegate.gateway.head import HeadReader
from scopegate.gateway.ruleset import Stray
from scopegate.gateway.watcher import NOBODY_WATCHES


class Nobody:
    """The client of such an exchange: keeps its time, and nothing else."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.peer = ""
        self.is_tls = False
        self.introduction: Told | None = None
        self.heads = HeadReader()
        self.exchange: Exchange | None = None
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def open_body(self, taker: BodyTaker, length: int, *, expects_continue: bool) -> None:
        raise AssertionError("a request of our own has no body")

    def read_body(self) -> None:
        raise AssertionError("a request of our own has no body")

    def pause_body(self, paused: bool) -> None:
        raise AssertionError("a request of our own has no body")

    def wait_until(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer = None
        if self.exchange is not None:
            self.exchange.on_deadline()

    def exchange_done(self, *, reusable: bool, linger: bool) -> None:
        self.wait_until(None)
        self.exchange = None

    def become(self, tunnel: ClientTunnel) -> None:
        raise AssertionError("a request of our own asks for no other protocol")

    def abort(self) -> None:
        """There is nothing to break."""


class Refresh(Exchange):
    """Begun as its visitor's exchange was, up to the app."""

    def __init__(self, of: Exchange) -> None:
        client = Nobody(of.shared.loop)
        super().__init__(of.shared, client)
        client.exchange = self
        self.rules = of.rules
        self.section = of.section
        self.notes = of.notes
        self.caller = of.caller
        self.method = of.method
        self.path = of.path
        self.target = of.target
        self.plan = of.plan
        self.met = Stray()
        self.scheme = of.scheme
        self.asked_host = of.asked_host
        self.identity = of.identity
        self.trace = of.trace
        self._of_head = of.head

    def start(self, steps: Iterable[Step]) -> None:
        self.begin(self._of_head, steps)

    def refuse(self, refusal: Refusal) -> None:
        """Nobody is told."""
        if not self.finished:
            self._drop_app()
            self.status = refusal.status
            self.finish(refusal.code)

    def finish(self, note: str = "") -> None:
        if self.finished:
            return
        self.finished = True
        self.shared.in_flight -= 1
        self.forwarding = None
        self.watcher.on_finish(0.0)
        self.watcher = NOBODY_WATCHES
        self.client.exchange_done(reusable=False, linger=False)
