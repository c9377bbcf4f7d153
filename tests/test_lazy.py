"""One thing for whoever comes first: made once, tried again after a failure, and there to be closed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from scopegate.lazy import Lazy


class Workshop:
    """Makes a new object whenever it may go on; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_go_on = asyncio.Event()
        self.failure: Exception | None = None

    async def make(self) -> object:
        self.asked += 1
        await self.may_go_on.wait()
        if self.failure is not None:
            raise self.failure
        return object()


async def waiting_for(lazy: Lazy[object]) -> asyncio.Task[object]:
    """A waiter that has begun to wait."""
    waiter = asyncio.create_task(lazy.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return waiter


async def test_it_is_made_once_for_all_who_come() -> None:
    shop = Workshop()
    lazy = Lazy(shop.make)
    assert shop.asked == 0
    one, two = await waiting_for(lazy), await waiting_for(lazy)
    assert lazy.made is None
    shop.may_go_on.set()
    assert await one is await two is await lazy.get() is lazy.made
    assert shop.asked == 1


async def test_the_first_who_came_may_leave_and_the_others_still_get_it() -> None:
    shop = Workshop()
    lazy = Lazy(shop.make)
    first, second = await waiting_for(lazy), await waiting_for(lazy)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    shop.may_go_on.set()
    assert await second is lazy.made
    assert shop.asked == 1


async def test_all_who_wait_hear_of_a_failure_and_the_next_tries_again() -> None:
    shop = Workshop()
    lazy = Lazy(shop.make)
    shop.failure = OSError("away")
    waiters = [await waiting_for(lazy), await waiting_for(lazy)]
    shop.may_go_on.set()
    for waiter in waiters:
        with pytest.raises(OSError, match="away"):
            await waiter
    shop.failure = None
    assert await lazy.get() is lazy.made is not None
    assert shop.asked == 2


async def test_a_stop_gives_what_there_is_to_close() -> None:
    shop = Workshop()
    lazy = Lazy(shop.make)
    assert await lazy.stop() is None
    shop.may_go_on.set()
    made = await lazy.get()
    assert await lazy.stop() is made


async def test_a_stop_cancels_a_making_under_way() -> None:
    shop = Workshop()
    lazy = Lazy(shop.make)
    waiter = await waiting_for(lazy)
    assert await lazy.stop() is None
    with pytest.raises(asyncio.CancelledError):
        await waiter


async def test_what_a_thread_makes_is_waited_for_and_can_be_closed() -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    makers: list[threading.Thread] = []

    def make() -> object:
        makers.append(threading.current_thread())
        begun.set()
        assert may_go_on.wait(10)
        return makers[0]

    lazy = Lazy.in_thread(make)
    waiter = await waiting_for(lazy)
    await asyncio.to_thread(begun.wait, 10)
    stopping = asyncio.create_task(lazy.stop())
    await asyncio.sleep(0)
    may_go_on.set()
    assert await stopping is makers[0] is await waiter
    assert makers[0] is not threading.main_thread()
