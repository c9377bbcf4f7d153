"""Server-sent events: an answer of type text/event-stream, on a route with `events`.

It goes through as any answer does, unchanged and unbuffered. What differs: a client's streams are counted, silence may
last as long as the route allows, an event is bounded in size, and when the gateway stops the answer ends properly,
between two chunks: a client of such a stream comes back by itself and says which event it had last (WHATWG HTML 9.2).
"""

from __future__ import annotations

from scopegate.edge.events import EventMeter
from scopegate.edge.headers import Noted
from scopegate.gateway.exchange import Exchange
from scopegate.gateway.stream import Stream
from scopegate.gateway.watcher import AppSide, Watcher
from scopegate.metrics.labels import StreamKind
from scopegate.policy.policy import StreamRule

_TYPE = b"content-type:"


class EventsExpected(Watcher):
    """An answer that may turn out to be an event stream."""

    def __init__(self, x: Exchange, rule: StreamRule) -> None:
        self._x = x
        self._rule = rule

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        return done or not is_event_stream(notes) or begin_events(self._x, self._rule, app, notes)


def is_event_stream(notes: Noted) -> bool:
    """Whether an answer that is not all there is one."""
    if notes.length >= 0:
        return False
    types = [line[len(_TYPE) :] for line in notes.passed if line[: len(_TYPE)].lower() == _TYPE]
    return len(types) == 1 and types[0].partition(b";")[0].strip().lower() == b"text/event-stream"


def begin_events(x: Exchange, rule: StreamRule, app: AppSide, notes: Noted) -> bool:
    """The head of an event stream is here. False: the client has too many, and was told so."""
    stream = EventStream(x, rule, app, is_plain=b"content-encoding" not in notes.noted)
    refusal = stream.take_place()
    if refusal is not None:
        x.refuse(refusal)
        return False
    stream.opened(app)
    if x.shared.draining:
        x.shared.loop.call_soon(stream.on_drain)  # once its head is written
    return True


class EventStream(Stream):
    """One event stream. The events of a compressed one (not `is_plain`) cannot be measured."""

    kind = StreamKind.EVENTS

    def __init__(self, x: Exchange, rule: StreamRule, app: AppSide, *, is_plain: bool) -> None:
        super().__init__(x, rule)
        self._app = app
        self._meter = EventMeter(self.max_message_bytes) if is_plain else None
        self._client_paused = False

    def on_answer_body(self, payload: bytes, done: bool) -> bool:
        if self._meter is None or self._meter.feed(payload):
            return True
        self._break("event_too_large")
        return False

    def _break(self, code: str) -> None:
        self.plan.tally.refuse(code)
        self.x.break_off(code)

    def on_client_paused(self, paused: bool) -> bool:
        self._client_paused = paused
        return False

    def on_deadline(self) -> bool:
        if self._client_paused:
            return False
        self._break("stream_idle")
        return True

    def on_drain(self) -> None:
        if self.x.watcher is self:
            self._app.end_early("drained")
