"""`websocket` and `events` of a route: bounds of answers that live long.

Pure. Called by `routes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from scopegate.policy.kinds import Count, Duration, Shape, option, parsed, size_up_to, written
from scopegate.policy.quantities import SIZE_PATTERN


@dataclass(frozen=True, slots=True)
class StreamRule:
    """Long-lived answers of a route: WebSocket connections, or server-sent events. `connections_per_client` counts by
    limit group in this process; `message_bytes` bounds one message (one event); `idle_s` is the longest silence."""

    connections_per_client: int
    message_bytes: int
    idle_s: float


MessageSize: TypeAlias = Annotated[int, parsed(size_up_to("16MiB")), written("64KiB", SIZE_PATTERN)]


class StreamShape(Shape):
    connections_per_client: Count = option(10, "Open at a time by one client, in one process.", le=10_000)
    message: MessageSize = option("64KiB", "The largest message. At most 16MiB.")
    idle: Duration = option("5m", "The longest silence of both sides. At most 1d.")

    def build(self) -> StreamRule:
        return StreamRule(self.connections_per_client, self.message, self.idle)
