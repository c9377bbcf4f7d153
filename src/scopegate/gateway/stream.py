"""A stream: an answer that lives long, a WebSocket connection (`websocket`) or server-sent events (`events`).

What both have in common: a place among those of their client, which an exchange holds from its taking until it is
finished; and that an open one counts neither as a request in flight (a crowd of them is bounded by `connections` and
must not keep requests out), nor into the time that requests take. The rules are `StreamRule`s of the policy.
"""

from __future__ import annotations

import sys
from typing import ClassVar

from scopegate.clock import monotonic_s
from scopegate.edge.verdict import Refusal
from scopegate.gateway.exchange import Exchange
from scopegate.gateway.watcher import NOBODY_WATCHES, AppSide, Watcher
from scopegate.metrics.labels import StreamKind
from scopegate.policy.policy import StreamRule

TOO_MANY = Refusal(429, "too_many_streams", "Too many of these are open already: close one first.")


class Stream(Watcher):
    """One place, and what becomes of it. `opened_s` is None until the app has agreed."""

    kind: ClassVar[StreamKind]

    def __init__(self, x: Exchange, rule: StreamRule) -> None:
        self.x = x
        self.plan = x.plan
        self.rule = rule
        self.opened_s: float | None = None
        self._key = f"{self.kind} {x.plan.name} {x.caller.group}"

    @property
    def max_message_bytes(self) -> int:
        """In watch mode only the server's own bound holds, as for bodies."""
        server_bytes = self.x.rules.limits.body_bytes
        return self.rule.message_bytes if self.plan.enforced else max(self.rule.message_bytes, server_bytes)

    def take_place(self) -> Refusal | None:
        """Count it among those of its client, or say that they are too many. Who has a place watches the exchange, and
        gives it back once."""
        places, plan = self.x.shared.streams.places, self.plan
        if not places.enter(self._key, self.rule.connections_per_client):
            if plan.enforced:
                return TOO_MANY
            plan.tally.watch(TOO_MANY.code)
            places.enter(self._key, sys.maxsize)
        self.x.watcher = self
        return None

    def give_place_back(self) -> None:
        self.x.shared.streams.places.leave(self._key)
        self.x.watcher = NOBODY_WATCHES

    def opened(self, app: AppSide) -> None:
        """From here on it is no request in flight any more, neither of all nor of its client, on either side."""
        x, shared = self.x, self.x.shared
        app.set_apart(self.rule.idle_s)
        self.opened_s = monotonic_s()
        shared.streams.open[self.kind] += 1
        shared.in_flight -= 1
        shared.askers.leave(x.counted_for)
        x.counted_for = ""

    def on_finish(self, seconds: float) -> float:
        """The visitor waited until it was open."""
        self.give_place_back()
        if self.opened_s is None:
            return seconds
        self.x.shared.streams.open[self.kind] -= 1
        self.x.shared.in_flight += 1  # the exchange takes itself out
        return self.opened_s - self.x.started_s
