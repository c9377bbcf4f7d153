"""Processes: the app, Redis, the peers; and one turn of one peer."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import accounting, configs
from bench.load import GET, Load, send
from bench.peers import Peer, Site
from bench.quota import capped
from bench.report import Sample

_CORES = os.cpu_count() or 1
PEER_CPUS = str(_CORES - 1) if _CORES > 1 else None
"""The peer has a core to itself; the app, Redis and the load share the others."""
OTHER_CPUS = f"0-{_CORES - 2}" if _CORES > 1 else None
_START_S = 30.0
_IDLE_S = 0.03
"""CPU time that all peers together may use in one look and still count as idle."""


class BenchError(Exception):
    """The run cannot go on; the text says why, with the last words of the process that failed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What all sections share. `redis_pid` is 0 where there is no Redis."""

    site: Site
    redis_pid: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """A peer under way; `process` is its first process, `cpus` where the others run."""

    peer: Peer
    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    cpus: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a peer: before its first request, and at rest after its warm-up."""

    idle_bytes: int
    rest_bytes: int


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def stage(folder: Path, *, redis: bool) -> Iterator[Stage]:
    """The app and, if asked for, a Redis of this run's own, which writes nothing to disk."""
    with ExitStack() as stack:
        app = stack.enter_context(_app(folder / "app"))
        if not redis:
            yield Stage(Site(folder, app))
            return
        port, home = free_port(), folder / "redis"
        argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = stack.enter_context(_process(argv, home, OTHER_CPUS))
        _wait_for(port, process, home)
        yield Stage(Site(folder, app, port), process.pid)


@contextmanager
def _app(home: Path) -> Iterator[str]:
    port = free_port()
    home.mkdir()
    for name, size in (("10k", 10_000), ("1m", 1_000_000), ("100m", 100_000_000)):
        with (home / name).open("wb") as file:
            file.truncate(size)
    config = home / "nginx.conf"
    config.write_text(configs.app(port, home), encoding="utf-8")
    with _process(["nginx", "-c", str(config), "-p", str(home)], home, OTHER_CPUS) as process:
        _wait_for(port, process, home)
        yield f"127.0.0.1:{port}"


@contextmanager
def running(peers: Sequence[Peer], site: Site, *, pinned: bool, cores_each: float = 0.0) -> Iterator[list[Started]]:
    """All peers at once, each on its own port: `pinned` to the one core that is theirs, or wherever there is room. With
    `cores_each`, each serving process is held to that share of a core."""
    mine, others = (PEER_CPUS, OTHER_CPUS) if pinned else (None, None)
    with ExitStack() as stack:
        started = []
        for peer in peers:
            port = free_port()
            folder = site.folder / f"peer-{port}"
            folder.mkdir()
            command = peer.configure(site, folder, port)
            process = stack.enter_context(_process(command.argv, folder, mine, command.env))
            started.append(Started(peer, process, port, folder, others))
        for one in started:
            _wait_for(one.port, one.process, one.folder)
        _settle([one.process.pid for one in started])
        if cores_each:
            pids = [pid for one in started for pid in serving(one.process.pid)]
            stack.enter_context(capped(pids, cores_each))
        yield started


def _settle(pids: Sequence[int]) -> None:
    """Until nobody works any more: workers may follow their parent's listening socket by a second."""
    deadline, before = time.monotonic() + _START_S, -1.0
    while (now := sum(sum(accounting.cpu_s(pid).values()) for pid in pids)) - before > _IDLE_S:
        if time.monotonic() > deadline:
            return
        before = now
        time.sleep(0.4)


def serving(pid: int) -> list[int]:
    """The members of a family that have no children: those that serve, where a parent only watches."""
    members = accounting.family(pid)
    return [member for member in members if accounting.family(member) == [member]]


@contextmanager
def _process(
    argv: list[str], folder: Path, cpus: str | None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "SCOPEGATE_STATE_DIR": str(folder / "state")}
    environ.update(env or {})
    pinned = ["taskset", "-c", cpus, *argv] if cpus else argv
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(pinned, stdout=output, stderr=output, env=environ, cwd=folder)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                words = (folder / "output.log").read_text("utf-8", "replace")[-2000:]
                raise BenchError(f"{process.args!r} does not listen. Its last words:\n{words}") from None
            time.sleep(0.05)


def measure(
    stage: Stage, section: str, started: Started, load: Load, seconds: int, turn: int, seed: int, memory: Memory
) -> Sample:
    """One turn: the load, with the peer's CPU time before and after."""
    pid = started.process.pid
    redis_pid = stage.redis_pid if started.peer.redis else 0
    before, redis_before = accounting.cpu_s(pid), _redis_s(redis_pid)
    outcome = send(load, started.port, seconds, started.cpus, seed, started.folder)
    used = accounting.used_s(before, accounting.cpu_s(pid))
    answers = outcome.bytes_in / load.answer_bytes if load.stream else outcome.requests
    return Sample(
        section=section,
        peer=started.peer.name,
        rival=started.peer.rival,
        load=load.name,
        turn=turn,
        cpu_us=sum(used.values()) / answers * 1e6 if answers else float("inf"),
        busiest=max(used.values()) / (sum(used.values()) or 1.0),
        redis_us=(_redis_s(redis_pid) - redis_before) / max(answers, 1) * 1e6,
        outcome=outcome,
        peak_bytes=accounting.peak_bytes(pid),
        rest_bytes=memory.rest_bytes,
        idle_bytes=memory.idle_bytes,
    )


def warm_up(started: Started, load: Load, seconds: int, seed: int) -> Memory:
    """Let the peer meet the load, or a second of small requests where it is a stream, whose own growth is then told.
    `peak_bytes` counts from there."""
    pid = started.process.pid
    idle_bytes = accounting.rss_bytes(pid)
    if load.stream:
        send(GET, started.port, 1, started.cpus, seed, started.folder)
        memory = Memory(idle_bytes, accounting.rss_bytes(pid))
        accounting.forget_peak(pid)
    if seconds:
        send(load, started.port, seconds, started.cpus, seed, started.folder)
    if not load.stream:
        memory = Memory(idle_bytes, accounting.rss_bytes(pid))
        accounting.forget_peak(pid)
    return memory


def _redis_s(pid: int) -> float:
    return sum(accounting.cpu_s(pid).values()) if pid else 0.0
