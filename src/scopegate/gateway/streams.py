"""Streams: answers that live long, WebSocket connections (`websocket`) and server-sent events (`events`).

What both have in common: a place among those of their client, which an exchange holds from its taking until it is
finished; and that an open one counts neither as a request in flight (a crowd of them is bounded by `connections` and
must not keep requests out), nor into the time that requests take. An exchange tells its stream what happens; the rules
are `StreamRule`s of the policy.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from scopegate.clock import monotonic_s
from scopegate.edge.verdict import Refusal
from scopegate.gateway.crowd import Crowd
from scopegate.policy.policy import StreamRule
from scopegate.types import Fields

if TYPE_CHECKING:
    from scopegate.gateway.exchange import Exchange


class StreamKind(StrEnum):
    WEBSOCKET = "websocket"
    EVENTS = "events"


class Streams:
    """The streams of this process: `open` by kind, and places by route and client."""

    def __init__(self) -> None:
        self.open = dict.fromkeys(StreamKind, 0)
        self.places = Crowd()


class Stream:
    """One place, and what becomes of it. `opened_s` is None until the app has agreed."""

    kind: ClassVar[StreamKind]

    def __init__(self, x: Exchange, rule: StreamRule) -> None:
        plan = x.plan
        assert plan is not None
        self.x = x
        self.plan = plan
        self.rule = rule
        self.opened_s: float | None = None
        self._key = f"{self.kind} {plan.name} {x.caller.group}"

    @property
    def max_message_bytes(self) -> int:
        """In watch mode only the server's own bound holds, as for bodies."""
        server_bytes = self.x.rules.limits.body_bytes
        return self.rule.message_bytes if self.plan.enforced else max(self.rule.message_bytes, server_bytes)

    def take_place(self) -> Refusal | None:
        """Count it among those of its client, or say that they are too many. Who has a place is the exchange's stream,
        and leaves once."""
        places, plan = self.x.gate.streams.places, self.plan
        if not places.enter(self._key, self.rule.connections_per_client):
            if plan.enforced:
                return Refusal(429, "too_many_streams", "Too many of these are open already: close one first.")
            plan.tally.refuse("would_too_many_streams")
            places.enter(self._key, sys.maxsize)
        self.x.stream = self
        return None

    def opened(self) -> None:
        """From here on it is no request in flight any more, neither of all nor of its client, on either side."""
        x = self.x
        gate, app = x.gate, x.upstream
        assert app is not None
        app.set_apart()
        self.opened_s = monotonic_s()
        gate.streams.open[self.kind] += 1
        gate.in_flight -= 1
        gate.askers.leave(x.counted_for)
        x.counted_for = ""

    def leave(self) -> float:
        """Give the place back. For how long the visitor waited, in seconds: until it was open, or until now."""
        gate, x = self.x.gate, self.x
        gate.streams.places.leave(self._key)
        x.stream = None
        if self.opened_s is None:
            return monotonic_s() - x.started_s
        gate.streams.open[self.kind] -= 1
        gate.in_flight += 1  # the exchange takes itself out
        return self.opened_s - x.started_s

    # ── what an exchange tells its stream ───────────────────────────────────────────────────────────────────────────

    def on_upgrade(self, fields: Fields, rest: bytes) -> None:
        """The app agreed to a switch of protocols; see `Exchanging.on_upgrade`."""
        raise AssertionError("nobody asked for a switch of protocols")

    def on_body(self, payload: bytes) -> bool:
        """More of the answer. False: it must not go on, and the exchange is finished."""
        return True

    def on_client_paused(self, paused: bool) -> None:
        """The client reads slower than it is written to (True), or catches up (False)."""

    def on_client_gone(self) -> bool:
        """The client's connection is closed. True: the stream sees to the rest."""
        return False

    def on_deadline(self) -> bool:
        """The time set by `wait_until` is over. True: the stream has seen to it."""
        return False

    def on_drain(self) -> None:
        """The gateway stops: end soon, as the protocol has it."""
