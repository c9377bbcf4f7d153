"""Several waits at once: until the first ends, or until none runs any more; and one that is not to be cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> tuple[asyncio.Task[Any], ...]:
    """Run these side by side until the first has ended, or the time is up; cancel the others and wait for their end.

    Gives a task for each, in order, all done: `cancelled()` for those that were ended here, else with the result or
    the exception. Several may have ended by themselves. An exception that the caller does not ask for is told by the
    loop's exception handler. Cancelled itself, it ends all of them first. For what shall go on beyond the wait, wait
    for `asyncio.wait({task})`, which leaves its tasks alone.
    """
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    return tuple(tasks)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel them and return when all are done. A cancellation that comes meanwhile is passed on to them, and raised
    once they are done. What they came to stays theirs to tell."""
    left = {task for task in tasks if not task.done()}
    cancelled: asyncio.CancelledError | None = None
    _cancel(left)
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError as again:
            cancelled = again
            _cancel(left)
            left = {task for task in left if not task.done()}
    if cancelled is not None:
        raise cancelled


async def finish(work: Awaitable[None]) -> None:
    """Run to the end even when the caller is cancelled meanwhile; the cancellation follows."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as again:
            cancelled = again
        except Exception:  # noqa: S110  # raised below, once, from the task itself
            pass
    if cancelled is not None:
        raise cancelled
    task.result()


def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
