"""Processes: the app, the peers, and the CPU time that a peer has used."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Load, send
from bench.peers import NGINX_TEMPORARY, Peer, Site
from bench.report import Sample

_TICK = os.sysconf("SC_CLK_TCK")
_CORES = os.cpu_count() or 1
PEER_CPUS = str(_CORES - 1) if _CORES > 1 else None
"""The peer has a core to itself; the app and the load share the others."""
OTHER_CPUS = f"0-{_CORES - 2}" if _CORES > 1 else None


@dataclass(frozen=True, slots=True)
class Started:
    peer: Peer
    pid: int
    port: int
    folder: Path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """An nginx as the app: `/200` and `/1m` answer with that many bytes, `/post` with 200 after reading the body."""
    port, home = free_port(), folder / "app"
    home.mkdir()
    (home / "1m").write_bytes(b"x" * 1_000_000)
    temporary = NGINX_TEMPORARY.format(folder=home)
    text = f"""worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; {temporary}
  access_log off; keepalive_requests 100000000; client_max_body_size 16m; client_body_buffer_size 16k; sendfile on;
  server {{
    listen 127.0.0.1:{port} backlog=4096; default_type text/plain; root {home};
    location = /200 {{ return 200 "{"x" * 200}"; }}
    location = /post {{ return 200 "{"x" * 200}"; }}
  }}
}}
"""
    config = home / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    with _process(["nginx", "-c", str(config), "-p", str(home)], home, OTHER_CPUS):
        _wait_for(port)
        yield f"127.0.0.1:{port}"


@contextmanager
def running(peers: Sequence[Peer], site: Site) -> Iterator[list[Started]]:
    """All peers, each on its own port, on the one core that is theirs."""
    with ExitStack() as stack:
        started = []
        for peer in peers:
            folder, port = site.folder / f"{peer.name}-{free_port()}", free_port()
            folder.mkdir()
            process = stack.enter_context(_process(peer.configure(site, folder, port), folder, PEER_CPUS))
            _wait_for(port)
            started.append(Started(peer, process.pid, port, folder))
        yield started


@contextmanager
def _process(argv: list[str], folder: Path, cpus: str | None) -> Iterator[subprocess.Popen[bytes]]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "SCOPEGATE_STATE_DIR": str(folder / "state")}
    pinned = ["taskset", "-c", cpus, *argv] if cpus else argv
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(pinned, stdout=output, stderr=output, env=environ, cwd=folder)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure(started: Started, load: Load, seconds: int, turn: int) -> Sample:
    """One turn: a short warm-up, then the load, with the peer's CPU time before and after."""
    script = None
    if load.script:
        path = started.folder / "wrk.lua"
        path.write_text(load.script, encoding="utf-8")
        script = str(path)
    send(load, started.port, 1, script, OTHER_CPUS)
    before = cpu_s(started.pid)
    outcome = send(load, started.port, seconds, script, OTHER_CPUS)
    used_s = cpu_s(started.pid) - before
    return Sample(started.peer.name, load.name, turn, used_s / outcome.requests * 1e6, outcome, rss_bytes(started.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def cpu_s(pid: int) -> float:
    """User and system time of a process and its living children, all threads."""
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its living children."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")
