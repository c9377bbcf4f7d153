"""An event loop without time and without chance: a timer is due as soon as nothing else can run, and who runs next is
drawn from the seed.

Its tasks belong to processes. Within one, callbacks run in the order of asyncio; between processes every order is
possible, so each is a loop of its own. A process may be killed between any two callbacks, which is at any `await`:
nothing of it runs any more, no `finally` and no `except`, as after SIGKILL. Or it stands still for a while (SIGSTOP, a
machine that is moved), and goes on later as if nothing had been.

After the deterministic simulation of FoundationDB, and of `turmoil` and `madsim` in Rust.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, TypeVar

MOST_STEPS = 400_000
"""Of one run: more means that it turns in a circle without waiting."""

T = TypeVar("T")


class Process:
    """Tasks that live and die together. `clock_ms`: how far its clock is ahead of true time."""

    def __init__(self, name: str, clock_ms: int = 0) -> None:
        self.name = name
        self.clock_ms = clock_ms
        self.alive = True
        self.ready: deque[asyncio.Handle] = deque()
        self.still_until_s = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        self.ends: list[Callable[[], None]] = []
        """Called when it is killed, by whoever notices from outside: the peers of its connections."""

    def __repr__(self) -> str:
        return self.name


OUTSIDE = Process("outside")
_process: ContextVar[Process] = ContextVar("process", default=OUTSIDE)


def current() -> Process:
    """Whose callback runs."""
    return _process.get()


class _Task(asyncio.Task[T]):
    """Hashed by its number: a set of tasks is walked in an order that depends on addresses otherwise."""

    def __init__(self, coro: Coroutine[Any, Any, T], number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class Stuck(Exception):
    """The run never comes to rest."""


class Loop(asyncio.AbstractEventLoop):
    """`failed` is told what nobody caught."""

    def __init__(self, dice: Random, failed: Callable[[str], None]) -> None:
        self._dice = dice
        self._failed = failed
        self._now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._numbers = count(1)
        self._busy: dict[Process, None] = {}
        """Those with something to run, in order of their coming."""
        self.steps = 0
        self.after_step: Callable[[Process], None] = lambda process: None

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run_until(self, is_over: Callable[[], bool]) -> None:
        """Raises Stuck when nothing is left to run or to wait for."""
        events._set_running_loop(self)
        try:
            while not is_over():
                process = self._next()
                if process is None:
                    self._wait()
                else:
                    self._step(process)
        finally:
            events._set_running_loop(None)

    def _next(self) -> Process | None:
        can_run = [process for process in self._busy if process.still_until_s <= self._now_s]
        if not can_run:
            return None
        return can_run[0] if len(can_run) == 1 else can_run[int(self._dice.random() * len(can_run))]

    def _step(self, process: Process) -> None:
        handle = process.ready.popleft()
        if not process.ready:
            del self._busy[process]
        if not handle.cancelled():
            handle._run()
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Stuck(f"{self.steps} steps, {self._now_s:.3f} s")
            self.after_step(process)

    def _wait(self) -> None:
        """On to the next moment at which something can happen."""
        moments = [process.still_until_s for process in self._busy]
        while self._timers and (self._timers[0][2].cancelled() or not self._timers[0][3].alive):
            heappop(self._timers)
        if self._timers:
            moments.append(self._timers[0][0])
        if not moments:
            raise Stuck("nothing is left to wait for")
        self._now_s = max(self._now_s, min(moments))
        while self._timers and self._timers[0][0] <= self._now_s:
            _, _, timer, process = heappop(self._timers)
            if not timer.cancelled():
                self._put(process, timer)

    def _put(self, process: Process, handle: asyncio.Handle) -> None:
        if process.alive:
            process.ready.append(handle)
            self._busy[process] = None

    # ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, process: Process, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it as a task of this process."""
        context = copy_context()
        context.run(_process.set, process)
        task: asyncio.Task[T] = self.create_task(main, context=context)
        return task

    def call_in(self, process: Process, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        context = copy_context()
        context.run(_process.set, process)
        self.call_at(self._now_s + delay_s, callback, *args, context=context)

    def kill(self, process: Process) -> None:
        process.alive = False
        process.ready.clear()
        self._busy.pop(process, None)
        for tell in process.ends:
            tell()

    def bury(self, process: Process) -> None:
        """After the run: close what is left of its tasks, whatever they make of it."""
        for task in process.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        process.tasks.clear()

    # ── what asyncio asks of a loop ─────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._put(context.get(_process, OUTSIDE), handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now_s + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        context = copy_context() if context is None else context
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._numbers), timer, context.get(_process, OUTSIDE)))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> Any:
        context = copy_context() if context is None else context
        number = next(self._numbers)
        task: _Task[Any] = _Task(coro, number, loop=self, name=name or str(number), context=context)
        context.get(_process, OUTSIDE).tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failed(f"{context.get('message')}: {error!r}")


def _close(coroutine: Any) -> None:
    for _ in range(20):
        try:
            coroutine.close()
        except BaseException:
            continue
        return
