"""The first of several waits: nobody runs on, and nothing that a wait came to is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scopegate import tasks
from scopegate.tasks import first_of


async def after_turns(turns: int, value: object = None) -> object:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def raising(error: Exception, turns: int = 1) -> None:
    await after_turns(turns)
    raise error


class Stubborn:
    """A wait that needs some turns to end when it is cancelled, and notes that it did."""

    def __init__(self, leaves: Exception | None = None) -> None:
        self.ended = False
        self.cancellations = 0
        self._leaves = leaves
        self._go = asyncio.Event()

    async def wait(self) -> str:
        while True:
            try:
                await self._go.wait()
            except asyncio.CancelledError:
                self.cancellations += 1
                await self._end()
                raise
            return "went on"

    async def _end(self) -> None:
        await after_turns(3)
        self.ended = True
        if self._leaves is not None:
            raise self._leaves


async def test_the_first_has_a_result_and_the_others_have_ended() -> None:
    slow = Stubborn()
    first, other = await first_of(after_turns(2, "mine"), slow.wait())
    assert first.result() == "mine"
    assert other.cancelled()
    assert slow.ended


async def test_an_exception_is_that_of_its_task() -> None:
    failed, other = await first_of(raising(OSError("gone")), asyncio.Event().wait())
    assert isinstance(failed.exception(), OSError)
    assert other.cancelled()


async def test_two_that_end_together_both_have_their_results() -> None:
    one, two = await first_of(after_turns(1, 1), after_turns(1, 2))
    assert (one.result(), two.result()) == (1, 2)


async def test_what_a_cancelled_wait_raises_is_kept() -> None:
    stubborn = Stubborn(leaves=ValueError("while it ended"))
    _, other = await first_of(after_turns(2), stubborn.wait())
    assert isinstance(other.exception(), ValueError)


async def test_an_exception_that_nobody_asks_for_is_told_by_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    await first_of(raising(OSError("gone")), asyncio.Event().wait())
    assert [str(context["exception"]) for context in told] == ["gone"]


async def test_when_the_time_is_up_all_have_been_ended() -> None:
    slow = Stubborn()
    [only] = await first_of(slow.wait(), timeout_s=0)
    assert only.cancelled()
    assert slow.ended


async def test_cancelled_it_ends_its_waits_before_it_leaves() -> None:
    one, two = Stubborn(), Stubborn()
    racing = asyncio.create_task(first_of(one.wait(), two.wait()))
    await after_turns(2)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert one.ended
    assert two.ended


async def test_a_second_cancellation_is_passed_on_and_still_nobody_is_left() -> None:
    slow = Stubborn()
    racing = asyncio.create_task(first_of(slow.wait()))
    await after_turns(2)
    racing.cancel()
    await after_turns(2)
    assert slow.cancellations == 1
    assert not slow.ended
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert not slow.ended, "the second one cut its ending short"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_is_cancelled_while_tasks_end_leaves_when_they_have() -> None:
    slow = Stubborn()
    waiting = asyncio.create_task(slow.wait())
    await after_turns(2)
    ending = asyncio.create_task(tasks.end([waiting]))
    await after_turns(2)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert waiting.done()


async def test_a_task_goes_on_when_only_its_end_is_waited_for() -> None:
    stubborn = Stubborn()
    going_on = asyncio.create_task(stubborn.wait())
    await first_of(asyncio.wait({going_on}), after_turns(2))
    assert not going_on.done()
    assert stubborn.cancellations == 0
    await tasks.end({going_on})


async def test_ending_tasks_waits_for_all_of_them_and_leaves_what_they_came_to() -> None:
    stubborn, done = Stubborn(), asyncio.create_task(after_turns(1, "result"))
    ending = asyncio.create_task(stubborn.wait())
    await after_turns(3)
    await tasks.end([ending, done])
    assert ending.cancelled()
    assert stubborn.ended
    assert done.result() == "result"


async def test_ending_none_is_fine() -> None:
    await tasks.end([])
