"""How many streams this process has: answers that live long, WebSocket connections and server-sent events."""

from __future__ import annotations

from enum import StrEnum

from scopegate.gateway.crowd import Crowd


class StreamKind(StrEnum):
    WEBSOCKET = "websocket"
    EVENTS = "events"


class Streams:
    """`open` by kind, and `places` by route and client."""

    def __init__(self) -> None:
        self.open = dict.fromkeys(StreamKind, 0)
        self.places = Crowd()
