"""WebSocket connections through the gateway, on routes with `websocket`: the handshake, then a tunnel for frames.

The handshake is a request like any other, with the whole pipeline in front of it. After the app's 101 the two
connections tell the `Tunnel` what comes: frames are judged by `edge/frames` in both directions and passed on as they
are. Either side may end it at any time; the gateway ends it for silence, a broken rule, or its own stop, with a Close
frame to both sides where one fits between two frames, and never waits long for anybody.
"""

from __future__ import annotations

import os

from scopegate.edge.frames import CloseCode, FrameReader, Sender, close_frame
from scopegate.edge.handshake import (
    Opening,
    asks_for_websocket,
    judge_agreement,
    judge_opening,
    judge_origin,
    without_handshake,
)
from scopegate.edge.headers import BadAnswerError, Noted, read_response
from scopegate.edge.verdict import Refusal
from scopegate.errors import UpstreamError
from scopegate.gateway.events import begin_events, is_event_stream
from scopegate.gateway.exchange import Exchange, Outcome
from scopegate.gateway.stream import Stream
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.gateway.watcher import AppSide
from scopegate.metrics.labels import StreamKind
from scopegate.policy.policy import StreamRule
from scopegate.types import Fields

CLOSING_S = 1.0
"""How long either side may take to go once it knows that the connection ends."""
_NEVER = float("inf")
_LEAVING = CloseCode.GOING_AWAY
_FAULTS = {
    CloseCode.PROTOCOL_ERROR: "bad_frame",
    CloseCode.INVALID_DATA: "bad_frame",
    CloseCode.MESSAGE_TOO_BIG: "message_too_large",
    CloseCode.POLICY_VIOLATION: "too_many_fragments",
}
"""What a fault is called in metrics and the access log, after its sender."""


def open_websocket(x: Exchange, rule: StreamRule) -> Outcome:
    """The pipeline's step for a route with `websocket`: a handshake is judged and written anew; any other request goes
    on as it is, and so does one that asks for another protocol, without its Upgrade."""
    plan, notes = x.plan, x.notes
    if not asks_for_websocket(notes):
        return None
    opening = judge_opening(x.head, notes)
    if isinstance(opening, Refusal):
        return opening
    refusal = judge_origin(x.head, x.asked_host or x.target.host, x.scheme.decode(), plan.route.cors)
    if refusal is not None:
        if plan.enforced:
            return refusal
        plan.tally.watch(refusal.code)
    if x.shared.draining:
        return Refusal(503, "stopping", "Try again in a moment.", ((b"retry-after", b"1"),), close=True)
    x.notes = notes.passing([*without_handshake(notes.passed), *opening.lines()])
    return Tunnel(x, rule, opening).take_place()


class Tunnel(Stream):
    """One WebSocket connection: the client's on one side, the app's on the other.

    It ends through `_end`, which sets the `_note` of the access log and gives both sides CLOSING_S, and then through
    the exchange's one exit; `bytes_in` and `bytes_out` of the exchange are those of the frames passed on.
    """

    kind = StreamKind.WEBSOCKET
    switches = True

    def __init__(self, x: Exchange, rule: StreamRule, opening: Opening) -> None:
        super().__init__(x, rule)
        self._opening = opening
        self._from_client = FrameReader(Sender.CLIENT, self.max_message_bytes)
        self._from_app = FrameReader(Sender.SERVER, self.max_message_bytes)
        self._app: UpstreamConnection
        self._side: AppSide
        self._moved_s = 0.0
        self._client_stalled_s = self._app_stalled_s = _NEVER
        self._note: str | None = None

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        """The app did not agree: this is an answer like any other to a request like any other."""
        rule = self.plan.events
        if done or rule is None or not is_event_stream(notes):
            return True
        self.give_place_back()
        return begin_events(self.x, rule, app, notes)

    def on_upgrade(self, app: AppSide, connection: UpstreamConnection, fields: Fields, rest: bytes) -> None:
        x = self.x
        wrong = judge_agreement(fields, self._opening)
        try:
            notes = read_response(fields, 101, "GET")
        except BadAnswerError as error:
            wrong = str(error)
        if wrong is not None:
            app.on_upstream_error(UpstreamError("protocol", wrong))
            return
        self._app, self._side = connection, app
        connection.become(self)
        self.opened(app)
        self._moved_s = x.shared.loop.time()
        app.send_switch(notes.passing([*notes.passed, b"connection: upgrade\r\nupgrade: websocket\r\n"]))
        x.client.wait_until(self.rule.idle_s)
        self.upstream_data(rest)
        x.client.become(self)
        if x.shared.draining:
            self.on_drain()

    # ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def client_data(self, data: bytes) -> None:
        """Bytes from the client, which go to the app."""
        passed = self._from_client.feed(data)
        if self._note is None and passed:
            self.x.bytes_in += len(passed)
            self._moved_s = self.x.shared.loop.time()
            self._app.write(passed)
        fault = self._from_client.fault
        if fault is not None:
            self._refuse(f"client_{_FAULTS[fault.code]}", to_client=fault.code)
        elif self._from_client.closed:
            self._end_if_both_closed()

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the app, which go to the client."""
        passed = self._from_app.feed(data)
        if self._note is None and passed:
            self.x.bytes_out += len(passed)
            self._moved_s = self.x.shared.loop.time()
            self.x.client.write(passed)
        fault = self._from_app.fault
        if fault is not None:
            self._refuse(f"app_{_FAULTS[fault.code]}", to_app=fault.code)
        elif self._from_app.closed:
            self._end_if_both_closed()

    def upstream_paused(self, paused: bool) -> None:
        """The app reads slower than the client sends: the client has to wait, as long as silence may last."""
        self._app_stalled_s = self.x.shared.loop.time() if paused else _NEVER
        self.x.client.pause_body(paused and self._note is None)

    def on_client_paused(self, paused: bool) -> bool:
        self._client_stalled_s = self.x.shared.loop.time() if paused else _NEVER
        return False

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end_if_both_closed(self) -> None:
        """The closing handshake is complete; the app is the one to close first (RFC 6455 7.1.1)."""
        if self._note is None and self._from_client.closed and self._from_app.closed:
            self._note = ""
            self.x.client.wait_until(CLOSING_S)

    def _refuse(self, code: str, *, to_client: CloseCode = _LEAVING, to_app: CloseCode = _LEAVING) -> None:
        if self._note is None:
            self.plan.tally.refuse(code)
            self._end(code, to_client, to_app)

    def _end(self, note: str, to_client: CloseCode = _LEAVING, to_app: CloseCode = _LEAVING) -> None:
        """By the gateway: tell both sides, and read on for a moment, to see them go."""
        self._note = note
        if self._from_app.between_frames and not self._from_app.closed:
            self.x.client.write(close_frame(to_client))
        if self._from_client.between_frames and not self._from_client.closed:
            self._app.write(close_frame(to_app, os.urandom(4)))
        self.x.client.pause_body(False)
        self._app.pause(False)
        self.x.client.wait_until(CLOSING_S)

    def upstream_gone(self) -> None:
        """The app closed, or its connection broke: then the client sees an end without a Close (1006)."""
        note = self._note
        if note is None:
            note = "" if self._from_app.closed else "upstream_gone"
        self._side.drop()
        self.x.finish(note)

    def on_client_gone(self) -> bool:
        """What the client had sent still reaches the app, and then an end."""
        if self.opened_s is None:
            return False
        if self._note is None:
            self._note = "" if self._from_client.closed else "client_gone"
        self.x.client.wait_until(CLOSING_S)
        self._app.pause(False)
        self._app.close()
        return True

    def on_deadline(self) -> bool:
        if self.opened_s is None:
            return False
        if self._note is None:
            self._judge_silence()
            return True
        if not self._from_client.closed and self._from_client.fault is None:
            self.x.client.abort()
        self._side.drop()
        self.x.finish(self._note)
        return True

    def _judge_silence(self) -> None:
        now_s = self.x.shared.loop.time()
        since_s = min(self._moved_s, self._client_stalled_s, self._app_stalled_s)
        left_s = since_s + self.rule.idle_s - now_s
        if left_s > 0:
            self.x.client.wait_until(left_s)
        elif since_s == self._client_stalled_s:
            self._refuse("client_stalled")
        else:
            self._refuse("app_stalled" if since_s == self._app_stalled_s else "stream_idle")

    def on_drain(self) -> None:
        if self.opened_s is not None and self._note is None:
            self._end("drained")
