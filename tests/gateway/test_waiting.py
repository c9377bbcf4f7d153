"""The queue for connections: who is served next, who is turned away, and when waiting ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from scopegate.errors import UpstreamError
from scopegate.gateway.upstream import Home
from scopegate.gateway.waiting import Connecting, Queue

ONE, TWO = cast("Home", "one"), cast("Home", "two")
"""A queue only tells servers apart."""


def queue(most: int = 10, patience_s: float = 600, serving: tuple[Home, ...] = (ONE, TWO)) -> Queue:
    return Queue(most, patience_s, lambda server: server in serving, asyncio.get_running_loop())


def waiting(into: Queue, *tried: Home) -> Connecting:
    found = Connecting(asyncio.get_running_loop().create_future(), frozenset(tried))
    into.join(found)
    return found


def refused(connecting: Connecting) -> UpstreamError:
    error = connecting.future.exception()
    assert isinstance(error, UpstreamError)
    assert not error.sent, "it may be sent elsewhere"
    return error


async def test_who_has_waited_longest_is_next_whichever_server_it_is() -> None:
    line = queue()
    first, second = waiting(line), waiting(line)
    assert line.next_for(TWO) is first
    assert first.server == TWO
    assert line.next_for(ONE) is second
    assert line.next_for(ONE) is None
    assert line.waiting == {}


async def test_nobody_is_sent_where_it_came_to_nothing() -> None:
    line = queue()
    tried, fresh = waiting(line, ONE), waiting(line)
    assert line.next_for(ONE) is fresh
    assert line.next_for(ONE) is None
    assert line.next_for(TWO) is tried


async def test_a_server_that_may_not_serve_gets_nobody() -> None:
    line = queue(serving=(TWO,))
    first = waiting(line)
    assert line.next_for(ONE) is None
    assert line.next_for(TWO) is first


async def test_beyond_its_length_the_next_one_is_turned_away() -> None:
    line = queue(most=2)
    inside = [waiting(line), waiting(line)]
    error = refused(waiting(line))
    assert (error.kind, str(error)) == ("busy", "busy: too many requests wait for the app")
    assert line.next_for(ONE) is inside[0]
    assert not waiting(line).future.done(), "there is a place again"
    line.close()
    assert [refused(one).kind for one in inside[1:]] == ["connect"]


async def test_who_waited_too_long_is_turned_away_and_who_left_the_line_is_not() -> None:
    line = queue(patience_s=0.01)
    served, left = waiting(line), waiting(line)
    assert line.next_for(ONE) is served
    with pytest.raises(UpstreamError, match="no free connection in time"):
        await left.future
    assert not served.future.done(), "its deadline is that of the connection now"
    await asyncio.sleep(0)
    assert line.waiting == {}


async def test_who_gives_up_leaves_its_place() -> None:
    line = queue(most=1)
    gone = waiting(line)
    gone.future.cancel()
    assert line.next_for(ONE) is None, "it is passed over in the same turn"
    await asyncio.sleep(0)
    assert not waiting(line).future.done()
    line.close()


async def test_closed_it_turns_everybody_away() -> None:
    line = queue()
    everybody = [waiting(line) for _ in range(3)]
    line.close()
    assert [refused(one).kind for one in everybody] == ["connect"] * 3
