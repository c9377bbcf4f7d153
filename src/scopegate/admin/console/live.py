"""Pages that move: server-sent events with the part of a page that has changed.

Each stream asks for its part once a second and sends it when it is another one. A page without JavaScript is whole
without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from scopegate.clock import Clock
from scopegate.errors import StoreError

EVERY_S = 1.0
MAX_STREAMS = 20
MOST_LOOKS = 300
"""Then the browser begins anew, and its credential is looked at again."""


class Live:
    def __init__(self, clock: Clock, is_stopping: Callable[[], bool], every_s: float = EVERY_S) -> None:
        self._clock, self._is_stopping, self._every_s = clock, is_stopping, every_s
        self._streams = 0

    def stream(self, part: Callable[[], Awaitable[str]]) -> Response:
        """Raises HTTPException where as many are open as may be."""
        if self._streams >= MAX_STREAMS:
            raise HTTPException(503, "As many pages are live as may be.", {"retry-after": "60"})
        return StreamingResponse(
            self._events(part), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def _events(self, part: Callable[[], Awaitable[str]]) -> AsyncIterator[str]:
        self._streams += 1
        last = b""
        try:
            yield "retry: 2000\n\n"
            for _ in range(MOST_LOOKS):
                try:
                    text = await part()
                except (StoreError, TimeoutError):
                    text, event = "", "event: away\ndata: \n\n"
                else:
                    event = "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
                digest = hashlib.blake2b(text.encode("utf-8", "replace")).digest()
                yield event if digest != last else ": the same\n\n"
                last = digest
                await self._clock.sleep(self._every_s)
                if self._is_stopping():
                    return
        finally:
            self._streams -= 1
