"""The incoming side of an exchange that has a body: its pace, its bounds, and where it goes.

A body is held here until somebody takes it on: as long as it is judged or written down, and until the app's connection
is there. From then on each piece goes to the app as it comes, no faster than the app takes it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from scopegate.edge.headers import CHUNKED
from scopegate.edge.verdict import Caller, Refusal
from scopegate.gateway.client import Client
from scopegate.gateway.ruleset import RoutePlan, Ruleset
from scopegate.gateway.shared import Shared

HOLD_BYTES = 1024 * 1024
"""Where bodies are held back, one is up to this size; a larger one goes on as it comes."""

MIN_BODY_BYTES_PER_S = 240
"""Slower than this in the long run is an attack or a dead line (Kestrel's figure)."""


class Receiving(Protocol):
    """Whose body it is. `body_done` and `bytes_in` are told by the body."""

    shared: Shared
    rules: Ruleset
    client: Client
    plan: RoutePlan
    caller: Caller
    started_s: float
    body_done: bool
    bytes_in: int
    finished: bool

    def refuse_or_break(self, refusal: Refusal) -> None: ...

    def on_deadline(self) -> None: ...


class BodyJudge(Protocol):
    """Who judges a body as it passes."""

    def take(self, payload: bytes, done: bool) -> bytes | Refusal:
        """What may go on to the app, in order."""
        ...


class Onward(Protocol):
    """Who takes a body on to the app."""

    def send_body(self, payload: bytes, done: bool) -> None: ...


class Incoming:
    """One body. `length` is the announced one, in bytes, or CHUNKED; `app_paused` while the app does not take it."""

    __slots__ = (
        "_app_paused_at_s",
        "_app_paused_for_s",
        "_held",
        "_holds_whole",
        "_onward",
        "_waiting",
        "_x",
        "app_paused",
        "judge",
        "length",
    )

    def __init__(self, x: Receiving, length: int) -> None:
        self._x = x
        self.length = length
        self.judge: BodyJudge | None = None
        self.app_paused = False
        self._onward: Onward | None = None
        self._held: bytes | bytearray = b""
        """As it came while it is one piece, which most bodies are."""
        self._holds_whole = False
        """The body is gathered here to its end, as far as this process may hold it."""
        self._waiting: asyncio.Future[None] | None = None
        self._app_paused_at_s = 0.0
        self._app_paused_for_s = 0.0

    # ── what the connection tells ───────────────────────────────────────────────────────────────────────────────────

    def on_body(self, payload: bytes, done: bool) -> None:
        x = self._x
        if x.finished:
            return
        x.bytes_in += len(payload)
        x.body_done = done
        if x.bytes_in > x.plan.max_body_bytes:
            x.refuse_or_break(too_large(x.plan))
        elif not done and not self.app_paused and self._is_too_slow():
            x.on_deadline()
        elif self.judge is None:
            self._pass_on(payload, done)
        else:
            verdict = self.judge.take(payload, done)
            if isinstance(verdict, Refusal):
                x.refuse_or_break(verdict)
            else:
                self._pass_on(verdict, done)

    def on_bad_framing(self) -> None:
        self._x.refuse_or_break(Refusal(400, "bad_framing", "The body is not framed as HTTP demands.", close=True))

    def _pass_on(self, payload: bytes, done: bool) -> None:
        if self._onward is not None:
            self._onward.send_body(payload, done)
        else:
            self._hold(payload)

    # ── its pace ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_too_slow(self) -> bool:
        """A body may trickle for a while, but has to come at a minimum rate in the long run, and whole in `body_s`.
        The time in which the app did not take it is not the client's."""
        x = self._x
        timeouts = x.rules.timeouts
        taken_s = x.shared.loop.time() - x.started_s - self._app_paused_for_s
        excess_s = taken_s - timeouts.body_idle_s
        return taken_s > timeouts.body_s or (excess_s > 0 and x.bytes_in < excess_s * MIN_BODY_BYTES_PER_S)

    def is_awaited(self) -> bool:
        """Whether it is the client's turn."""
        return not self._x.body_done and not self.app_paused

    def wait(self) -> None:
        """For the next piece, as far as there is time left for all of it."""
        x = self._x
        timeouts = x.rules.timeouts
        left_s = x.started_s + self._app_paused_for_s + timeouts.body_s - x.shared.loop.time()
        x.client.wait_until(min(timeouts.body_idle_s, left_s))

    def pause(self, paused: bool) -> None:
        """The app reads slower than the client sends (True), or catches up (False): from now on the app is waited
        for."""
        now_s = self._x.shared.loop.time()
        if self.app_paused:
            self._app_paused_for_s += now_s - self._app_paused_at_s
        self.app_paused = paused
        self._app_paused_at_s = now_s

    # ── what is held back ───────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, *, whole: bool = False) -> asyncio.Future[None]:
        """Gather the body here before the app hears of the request: all of it (`whole`), or as much as may be held."""
        client = self._x.client
        self._holds_whole = self._holds_whole or whole
        self._waiting = waiting = self._x.shared.loop.create_future()
        self.wait()
        client.pause_body(False)
        client.read_body()  # which may be the end of it
        return waiting

    def _hold(self, payload: bytes) -> None:
        x = self._x
        if payload:
            held = self._held
            if not held:
                self._held = payload
            elif isinstance(held, bytearray):
                held += payload
            else:
                self._held = bytearray(held + payload)
            if self._waiting is not None:  # else it is taken on within the same step
                x.shared.held.add(x.caller.group, len(payload))
        waiting = self._waiting
        if waiting is not None and not x.body_done:
            self.wait()
        if waiting is not None and not waiting.done() and (x.body_done or not self._may_hold_more()):
            x.client.pause_body(True)
            x.client.wait_until(None)
            waiting.set_result(None)
        elif not x.body_done and waiting is None:
            x.client.pause_body(True)

    def _may_hold_more(self) -> bool:
        within = self._holds_whole or len(self._held) < HOLD_BYTES
        return within and self._x.shared.held.may_add(self._x.caller.group, 1, len(self._held))

    def holds_any(self) -> bool:
        return bool(self._held)

    def held(self) -> bytes:
        return bytes(self._held)

    def let_go(self) -> bytes:
        """What was held, which is no longer."""
        held, self._held = self._held, b""
        if held and self._waiting is not None:
            self._x.shared.held.add(self._x.caller.group, -len(held))
        return bytes(held)

    # ── on to the app ───────────────────────────────────────────────────────────────────────────────────────────────

    def read_now(self) -> None:
        """What has come with the head goes out with it."""
        if not self._held and not self._x.body_done:
            self._x.client.read_body()

    def go_on_to(self, onward: Onward) -> None:
        """Every further piece goes there. A chunked body that is all here goes on with its length."""
        self._onward = onward
        if self.length == CHUNKED and self._x.body_done:
            self.length = len(self._held)


def too_large(plan: RoutePlan) -> Refusal:
    return Refusal(413, "body_too_large", f"The body may have at most {plan.max_body_bytes} bytes here.", close=True)
