"""Streams of a page's part: what has changed, and nothing else; bounded, and over when the process is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from scopegate.admin.console import live
from scopegate.admin.console.live import Live
from scopegate.clock import ManualClock
from scopegate.errors import StoreUnavailable


class Parts:
    """Gives one after another, and stops the process after the last."""

    def __init__(self, *parts: str | Exception) -> None:
        self._parts = list(parts)
        self.is_over = False

    async def part(self) -> str:
        given = self._parts.pop(0)
        self.is_over = not self._parts
        if isinstance(given, Exception):
            raise given
        return given


def events(stream: Live, parts: Parts) -> AsyncIterator[str]:
    answer = stream.stream(parts.part)
    assert isinstance(answer, StreamingResponse)
    return answer.body_iterator  # type: ignore[return-value]


async def test_what_has_changed_is_sent_line_by_line() -> None:
    parts = Parts("a\nb", "a\nb", "c", StoreUnavailable("connect", "gone"), "c")
    clock = ManualClock()
    sent = [text async for text in events(Live(clock, lambda: parts.is_over), parts)]
    assert sent == [
        "retry: 2000\n\n",
        "data: a\ndata: b\n\n",
        ": the same\n\n",
        "data: c\n\n",
        "event: away\ndata: \n\n",
        "data: c\n\n",
    ]
    assert set(clock.slept) == {live.EVERY_S}


async def test_a_stream_ends_so_that_credentials_are_looked_at_again() -> None:
    parts = Parts(*["a"] * (live.MOST_LOOKS + 5))
    sent = [text async for text in events(Live(ManualClock(), lambda: False), parts)]
    assert len(sent) == live.MOST_LOOKS + 1


async def test_only_so_many_are_open() -> None:
    stream = Live(ManualClock(), lambda: False)
    opened = [events(stream, Parts("a", "b")) for _ in range(live.MAX_STREAMS)]
    for one in opened:
        await anext(one)
    with pytest.raises(HTTPException) as refused:
        stream.stream(Parts("a").part)
    assert refused.value.status_code == 503
    await opened[0].aclose()  # type: ignore[attr-defined]
    stream.stream(Parts("a").part)
