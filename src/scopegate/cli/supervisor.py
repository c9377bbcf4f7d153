"""Keeps child processes alive, and ends with all of them.

Each child runs in a session of its own on a leash (`leash`). What follows the end of one is decided by `restarts`;
here are only the processes, the waiting and the log. Called by `up`, `gateway` (several workers) and `demo`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scopegate import logs
from scopegate.cli import leash
from scopegate.cli.restarts import GiveUp, Life, Record, Restart, RestartRule, exit_code, next_move
from scopegate.clock import Clock

log = logs.get("supervisor")

_LAST_GRACE_S = 5.0
"""What children that others depend on get for ending, after the others have used up the drain time."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running.

    `after`: names of children that must be ready before this one starts, and that end after it. `ready` returns once
    the child serves; None for a process of ours, which says so on its leash (it is given `--leash FD`). With `ready`
    set and `ours` false the program is not ours and is put on the leash from outside. `output`: a file that standard
    output and error are appended to; None for the supervisor's own.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    after: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()
    ready: Callable[[], Awaitable[None]] | None = None
    ours: bool = True
    output: Path | None = None


class Supervisor:
    """One run of a set of children. `ready_s` bounds the time from start to ready; `on_exit` hears each ended pid."""

    def __init__(
        self,
        children: Sequence[Child],
        clock: Clock,
        drain_s: float,
        *,
        rule: RestartRule | None = None,
        ready_s: float = 30.0,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._children = tuple(children)
        self._clock = clock
        self._drain_s = drain_s
        self._rule = rule or RestartRule()
        self._ready_s = ready_s
        self._on_exit = on_exit
        self._ready = {child.name: asyncio.Event() for child in children}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._gave_up: int | None = None
        self._over = asyncio.Event()

    def pids(self) -> Mapping[str, int]:
        """The processes of this moment, by child."""
        return {name: process.pid for name, process in self._running.items()}

    @property
    def longest_end_s(self) -> float:
        """The bound on the time from a wish to stop to the end."""
        return self._drain_s + _LAST_GRACE_S

    async def all_ready(self) -> None:
        """Returns when every child has been ready once."""
        for ready in self._ready.values():
            await ready.wait()

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event | None = None) -> int:
        """Keep the children until `stop` is set or one cannot be kept; then end them all. The exit code: 0 for a
        stop in time, 1 when one had to be killed, else that of the child which could not be kept. `hurry`, set while
        stopping, kills what is left."""
        for child in self._children:
            self._keepers[child.name] = asyncio.create_task(self._keep(child), name=f"keep {child.name}")
        stopped = asyncio.create_task(stop.wait())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({stopped, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            over.cancel()
            in_time = await self._end_all(hurry or asyncio.Event())
        return self._gave_up if self._gave_up is not None else 0 if in_time else 1

    # ── one child ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def _keep(self, child: Child) -> None:
        try:
            await self._keep_alive(child)
        except Exception as exc:  # a bug of ours must end the whole, not leave half of it running
            log.error("child.lost", exc=exc, child=child.name)
            self._gave_up = self._gave_up or 1
            self._over.set()

    async def _keep_alive(self, child: Child) -> None:
        for name in child.after:
            await self._ready[name].wait()
        record = Record()
        while True:
            life = await self._live(child)
            if self._stopping:
                return
            move, record = next_move(self._rule, record, life)
            if isinstance(move, GiveUp):
                self._give_up(child, move, record)
                return
            await self._pause(child, move)

    async def _pause(self, child: Child, move: Restart) -> None:
        log.warning("child.restarts", child=child.name, delay_s=move.delay_s)
        await self._clock.sleep(move.delay_s)

    def _give_up(self, child: Child, move: GiveUp, record: Record) -> None:
        if self._gave_up is None:
            self._gave_up = move.code
        log.error("child.given_up", child=child.name, code=move.code, failed_starts=record.failed_starts)
        self._over.set()

    async def _live(self, child: Child) -> Life:
        """One life, from start to end."""
        started_s = self._clock.monotonic_s()
        try:
            process, ours = await self._start(child)
        except OSError as exc:
            log.error("child.not_started", exc=exc, child=child.name)
            return Life(127, 0.0, was_ready=False)
        self._running[child.name] = process
        log.info("child.started", child=child.name, pid=process.pid)
        try:
            was_ready = await self._await_ready(child, process, ours)
            code = await process.wait()
        finally:
            ours.close()
            del self._running[child.name]
            _kill_group(process.pid)  # what it may have left behind
        if self._on_exit is not None:
            self._on_exit(process.pid)
        life = Life(code, self._clock.monotonic_s() - started_s, was_ready)
        ended = log.info if self._stopping else log.warning
        ended("child.ended", child=child.name, code=exit_code(code), lived_s=round(life.lived_s, 3), ready=was_ready)
        return life

    async def _start(self, child: Child) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """Start the process. Also our end of its leash: closing it tells the child to end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fd = theirs.fileno()
        argv = [*child.argv, "--leash", str(fd)] if child.ours else leash.wrap(fd, child.argv)
        output = None if child.output is None else child.output.open("ab")
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(child.env),
                pass_fds=(*child.pass_fds, fd),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone: we end the children in order
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if output is not None:
                output.close()
        return process, ours

    async def _await_ready(self, child: Child, process: asyncio.subprocess.Process, ours: socket.socket) -> bool:
        """Wait until the child serves or ends; one that does neither in time is killed. Whether it serves."""
        serves = asyncio.ensure_future(child.ready() if child.ready is not None else _said_ready(ours))
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({serves, ended}, timeout=self._ready_s, return_when=asyncio.FIRST_COMPLETED)
            if serves.done() and serves.exception() is None and not ended.done():
                self._ready[child.name].set()
                log.info("child.ready", child=child.name, pid=process.pid)
                return True
            if not ended.done():
                log.error("child.not_ready", child=child.name, pid=process.pid, waited_s=self._ready_s)
                _kill_group(process.pid)
            return False
        finally:
            serves.cancel()
            ended.cancel()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _end_all(self, hurry: asyncio.Event) -> bool:
        """End children before those they depend on. Whether each ended by itself."""
        self._stopping = True
        needed = {name for child in self._children for name in child.after}
        log.info("supervisor.stops", children=[child.name for child in self._children], drain_s=self._drain_s)
        first = [child for child in self._children if child.name not in needed]
        last = [child for child in self._children if child.name in needed]
        in_time = await self._end(first, self._drain_s, hurry)
        return await self._end(last, _LAST_GRACE_S, hurry) and in_time

    async def _end(self, children: Sequence[Child], grace_s: float, hurry: asyncio.Event) -> bool:
        for child in children:
            if child.name in self._running:
                _signal(self._running[child.name])
            else:
                self._keepers[child.name].cancel()
        left = {self._keepers[child.name] for child in children}
        left = await _first_of(left, grace_s, hurry)
        for child in children:
            if self._keepers[child.name] in left and child.name in self._running:
                log.warning("child.killed", child=child.name, pid=self._running[child.name].pid)
                _kill_group(self._running[child.name].pid)
        await asyncio.gather(*(self._keepers[child.name] for child in children), return_exceptions=True)
        return not left


async def _first_of(tasks: set[asyncio.Task[None]], timeout_s: float, hurry: asyncio.Event) -> set[asyncio.Task[None]]:
    """Wait for all tasks, the time-out or `hurry`, whatever comes first; the tasks not done."""
    if not tasks:
        return set()
    hurried = asyncio.create_task(hurry.wait())
    everyone = asyncio.ensure_future(asyncio.wait(tasks))
    try:
        await asyncio.wait({hurried, everyone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurried.cancel()
        everyone.cancel()
    return {task for task in tasks if not task.done()}


async def _said_ready(ours: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if not await loop.sock_recv(ours, 64):  # it let go: its end is near, and is what the caller waits for besides
        await asyncio.Event().wait()


def _signal(process: asyncio.subprocess.Process) -> None:
    try:
        process.send_signal(signal.SIGTERM)
    except ProcessLookupError:
        return


def _kill_group(pid: int) -> None:
    """Kill the session of a child, which is named by the child's pid; nothing to kill is fine."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
