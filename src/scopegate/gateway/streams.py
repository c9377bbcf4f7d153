"""How many streams this process has: answers that live long, WebSocket connections and server-sent events."""

from __future__ import annotations

from scopegate.gateway.crowd import Crowd
from scopegate.metrics.labels import StreamKind


class Streams:
    """`open` by kind, and `places` by route and client."""

    def __init__(self) -> None:
        self.open = dict.fromkeys(StreamKind, 0)
        self.places = Crowd()
