"""Server-sent events: an answer of type text/event-stream, on a route with `events`.

It goes through as any answer does, unchanged and unbuffered. What differs: a client's streams are counted, silence may
last as long as the route allows, an event is bounded in size, and when the gateway stops the answer ends properly,
between two chunks: a client of such a stream comes back by itself and says which event it had last (WHATWG HTML 9.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopegate.edge.events import EventMeter
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal
from scopegate.gateway.streams import Stream, StreamKind
from scopegate.policy.policy import StreamRule

if TYPE_CHECKING:
    from scopegate.gateway.exchange import Exchange

_TYPE = b"content-type:"


def begin_events(x: Exchange, rule: StreamRule, notes: Noted) -> Refusal | None:
    """The head of an answer is here that is not all there: from now on it is a stream, if it is one."""
    if notes.length >= 0 or not _is_event_stream(notes):
        return None
    if x.stream is not None:  # a handshake that was answered like this
        x.stream.leave()
    stream = EventStream(x, rule, is_plain=b"content-encoding" not in notes.noted)
    refusal = stream.take_place()
    if refusal is None:
        stream.opened()
        x.idle_s = rule.idle_s
        if x.gate.draining:
            x.gate.loop.call_soon(stream.on_drain)  # once its head is written
    return refusal


def _is_event_stream(notes: Noted) -> bool:
    types = [line[len(_TYPE) :] for line in notes.passed if line[: len(_TYPE)].lower() == _TYPE]
    return len(types) == 1 and types[0].partition(b";")[0].strip().lower() == b"text/event-stream"


class EventStream(Stream):
    """One event stream. The events of a compressed one (not `is_plain`) cannot be measured."""

    kind = StreamKind.EVENTS

    def __init__(self, x: Exchange, rule: StreamRule, *, is_plain: bool) -> None:
        super().__init__(x, rule)
        self._meter = EventMeter(self.max_message_bytes) if is_plain else None
        self._client_paused = False

    def on_body(self, payload: bytes) -> bool:
        if self._meter is None or self._meter.feed(payload):
            return True
        self._break("event_too_large")
        return False

    def _break(self, code: str) -> None:
        self.plan.tally.refuse(code)
        self.x.break_off(code)

    def on_client_paused(self, paused: bool) -> None:
        self._client_paused = paused

    def on_deadline(self) -> bool:
        if self._client_paused:
            return False
        self._break("stream_idle")
        return True

    def on_drain(self) -> None:
        if self.x.stream is self:
            self.x.end_early("drained")
