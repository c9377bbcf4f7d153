"""Keeps child processes alive, starts them anew when asked, and ends with all of them.

Each child runs in a session of its own on a leash (`leash`). What follows the end of one is decided by `restarts`;
here are only the processes, the waiting and the log. Called by `up`, `gateway` (several workers) and `demo`; what a
changed policy asks of it is `leader`'s.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scopegate import logs
from scopegate.clock import Clock
from scopegate.process import backlog
from scopegate.supervise import leash
from scopegate.supervise.restarts import Restart, RestartHistory, RestartRule, Run, ShutDown, exit_code, next_move
from scopegate.tasks import first_of

log = logs.get("supervisor")

GRACE_S = 5.0
"""What a child gets beyond the drain time, to break off and settle what is left; also what children get for ending that
others depend on, after the others are gone."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running.

    `after`: names of children that must be ready before this one starts, and that end after it. `ready` returns once
    the child serves; None for a process of ours, which says so on its leash (it is given `--leash FD`). With `ready`
    set and `ours` false the program is not ours and is put on the leash from outside. `output`: a file that standard
    output and error are appended to; None for the supervisor's own. `rule`: of its restarts, None for the supervisor's.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    after: tuple[str, ...] = ()
    pass_fds: tuple[int, ...] = ()
    ready: Callable[[], Coroutine[None, None, None]] | None = None
    ours: bool = True
    output: Path | None = None
    rule: RestartRule | None = None


@dataclass(slots=True, eq=False)
class _Living:
    """One process of a child. `ours` is our end of its leash: closing it tells the process to end."""

    process: asyncio.subprocess.Process
    ours: socket.socket
    started_s: float
    was_ready: bool = False


class Supervisor:
    """One run of a set of children. `ready_s` bounds the time from start to ready; `on_exit` hears each ended pid.

    `listens`: listening sockets that children share with us and nobody else. They take no connection any more once the
    end has begun; one of a service manager is not among them, which keeps it for the next start. A child that is asked
    to end has `drain_s` and `grace_s` before it is killed."""

    def __init__(
        self,
        children: Sequence[Child],
        clock: Clock,
        drain_s: float,
        *,
        rule: RestartRule | None = None,
        ready_s: float = 30.0,
        grace_s: float = GRACE_S,
        listens: Sequence[socket.socket] = (),
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._children = tuple(children)
        self._clock = clock
        self.drain_s = drain_s
        self._rule = rule or RestartRule()
        self._ready_s = ready_s
        self._grace_s = grace_s
        self._listens = tuple(listens)
        self._on_exit = on_exit
        self._ready = {child.name: asyncio.Event() for child in children}
        self._running: dict[str, _Living] = {}
        self._successors: dict[str, _Living] = {}
        """Started beside the running one, whose place they take when it has ended."""
        self._replacing: dict[str, asyncio.Event] = {}
        self._released: set[str] = set()
        """Asked to end and to be started anew: that is no crash."""
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self._gave_up: int | None = None
        self._over = asyncio.Event()

    def pids(self) -> Mapping[str, int]:
        """The processes of this moment, by child."""
        return {name: living.process.pid for name, living in self._running.items()}

    @property
    def longest_end_s(self) -> float:
        """The bound on the time from a wish to stop to the end."""
        return self.drain_s + 2 * self._grace_s

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
        try:
            await first_of(stop.wait(), self._over.wait())
        finally:
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
        history = RestartHistory()
        while True:
            run = await self._run_once(child, self._successors.pop(child.name, None))
            if child.name in self._replacing:
                await self._replacing[child.name].wait()
            if child.name in self._successors:
                continue
            if self._stopping:
                return
            if child.name in self._released:
                self._released.discard(child.name)
                continue
            move, history = next_move(child.rule or self._rule, history, run)
            if isinstance(move, ShutDown):
                self._give_up(child, move, history)
                return
            await self._pause(child, move)

    async def _pause(self, child: Child, move: Restart) -> None:
        log.warning("child.restarts", child=child.name, delay_s=move.delay_s)
        await self._clock.sleep(move.delay_s)

    def _give_up(self, child: Child, move: ShutDown, history: RestartHistory) -> None:
        if self._gave_up is None:
            self._gave_up = move.code
        log.error("child.given_up", child=child.name, code=move.code, failed_starts=history.failed_starts)
        self._over.set()

    async def _run_once(self, child: Child, living: _Living | None = None) -> Run:
        """One run to its end: that of a successor which serves already, or a new one."""
        if living is not None:
            self._running[child.name] = living
        else:
            living = await self._begin(child)
            if living is None:
                return Run(127, 0.0, was_ready=False)
            self._running[child.name] = living
        try:
            if not living.was_ready:
                living.was_ready = await self._await_ready(child, living)
            code = await living.process.wait()
        except BaseException:
            living.ours.close()
            _kill_group(living.process.pid)
            raise
        finally:
            del self._running[child.name]
        return self._ended(child, living, code)

    async def _begin(self, child: Child) -> _Living | None:
        """Start a process; None, with the reason logged, when the system refuses."""
        started_s = self._clock.monotonic_s()
        try:
            process, ours = await self._start(child)
        except OSError as exc:
            log.error("child.not_started", exc=exc, child=child.name)
            return None
        log.info("child.started", child=child.name, pid=process.pid)
        return _Living(process, ours, started_s)

    def _ended(self, child: Child, living: _Living, code: int) -> Run:
        living.ours.close()
        _kill_group(living.process.pid)  # what it may have left behind
        if self._on_exit is not None:
            self._on_exit(living.process.pid)
        run = Run(code, self._clock.monotonic_s() - living.started_s, living.was_ready)
        wanted = self._stopping or child.name in self._released or child.name in self._successors
        ended = log.info if wanted else log.warning
        ended(
            "child.ended",
            child=child.name,
            pid=living.process.pid,
            code=exit_code(code),
            lived_s=round(run.lived_s, 3),
            ready=run.was_ready,
        )
        return run

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

    async def _await_ready(self, child: Child, living: _Living) -> bool:
        """Wait until the child serves or ends; one that does neither in time is killed. Whether it serves."""
        process = living.process
        ready = child.ready() if child.ready is not None else _said_ready(living.ours)
        serves, ended = await first_of(ready, process.wait(), timeout_s=self._ready_s)
        is_ready = not serves.cancelled() and serves.exception() is None
        if not ended.cancelled():
            return False
        if not is_ready:
            log.error("child.not_ready", child=child.name, pid=process.pid, waited_s=self._ready_s)
            _kill_group(process.pid)
            return False
        self._ready[child.name].set()
        log.info("child.ready", child=child.name, pid=process.pid)
        return True

    # ── asked for from outside ──────────────────────────────────────────────────────────────────────────────────────
    async def replace(self, name: str) -> bool:
        """Start a second process of this child and, once it serves, ask the first to end; returns when it has. False
        when the second never served: then the first goes on. The child must be able to run twice at a time."""
        old, child = self._running.get(name), self._child(name)
        if old is None or name in self._successors or self._stopping:
            return False
        fresh = await self._begin(child)
        if fresh is None:
            return False
        self._successors[name] = fresh
        over = self._replacing[name] = asyncio.Event()
        try:
            fresh.was_ready = await self._await_ready(child, fresh)
            if not fresh.was_ready:
                self._ended(child, self._successors.pop(name), await fresh.process.wait())
                return False
        finally:
            del self._replacing[name]
            over.set()
        await self._dismiss(old)
        return True

    async def restart(self, name: str) -> None:
        """Ask the child to end; it is started anew at once, which does not count as a crash. Returns when the old
        process is gone."""
        old = self._running.get(name)
        if old is None or self._stopping:
            return
        self._released.add(name)
        await self._dismiss(old)

    async def _dismiss(self, living: _Living) -> None:
        _signal(living.process)
        try:
            async with asyncio.timeout(self.drain_s + self._grace_s):
                await living.process.wait()
        except TimeoutError:
            log.warning("child.killed", pid=living.process.pid)
            _kill_group(living.process.pid)
            await living.process.wait()

    def _child(self, name: str) -> Child:
        return next(child for child in self._children if child.name == name)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _end_all(self, hurry: asyncio.Event) -> bool:
        """End children before those they depend on. Whether each ended by itself."""
        self._stopping = True
        needed = {name for child in self._children for name in child.after}
        log.info("supervisor.stops", children=[child.name for child in self._children], drain_s=self.drain_s)
        first = [child for child in self._children if child.name not in needed]
        last = [child for child in self._children if child.name in needed]
        self._close_ports()
        in_time = await self._end(first, self.drain_s + self._grace_s, hurry)
        return await self._end(last, self._grace_s, hurry) and in_time

    def _close_ports(self) -> None:
        """Nobody is left in a queue that nobody serves: children take what is in it, and the last one closes it."""
        for sock in self._listens:
            backlog.take_no_more(sock)
            sock.close()

    async def _end(self, children: Sequence[Child], grace_s: float, hurry: asyncio.Event) -> bool:
        for child in children:
            living = self._processes(child.name)
            for process in living:
                _signal(process)
            if not living:
                self._keepers[child.name].cancel()
        keepers = {self._keepers[child.name] for child in children}
        if keepers:
            await first_of(asyncio.wait(keepers), hurry.wait(), timeout_s=grace_s)
        left = {keeper for keeper in keepers if not keeper.done()}
        for child in children:
            for process in self._processes(child.name) if self._keepers[child.name] in left else ():
                log.warning("child.killed", child=child.name, pid=process.pid)
                _kill_group(process.pid)
        await asyncio.gather(*(self._keepers[child.name] for child in children), return_exceptions=True)
        return not left

    def _processes(self, name: str) -> list[asyncio.subprocess.Process]:
        """The running one, and the one that is to take its place."""
        places = (self._running, self._successors)
        return [place[name].process for place in places if name in place]


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
