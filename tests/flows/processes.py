"""Real processes for flow tests: starting `scopegate`, reading its log, knowing when a process is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from scopegate.demo.stage import clean

T = TypeVar("T")


def is_running(pid: int) -> bool:
    """A zombie that its new parent has not collected runs no more."""
    if not Path("/proc/self/stat").exists():
        return subprocess.run(["ps", "-p", str(pid)], stdout=subprocess.DEVNULL, check=False).returncode == 0
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(ask: Callable[[], T], timeout_s: float = 60.0) -> T:
    """The first true answer; the last one when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (found := ask()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def left_running(pids: Sequence[int], timeout_s: float = 10.0) -> list[int]:
    """Which of them still run after that time, killed now so that a failing test leaves nothing behind."""
    wait_until(lambda: not any(map(is_running, pids)), timeout_s)
    left = [pid for pid in pids if is_running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def posted(url: str, body: object) -> httpx.Response:
    """The answer to a lead. It is sent again while leads cannot be taken: to open the database may take a while."""

    def ask() -> httpx.Response | None:
        answer = httpx.post(url, json=body, trust_env=False, timeout=30)
        return None if answer.status_code == 503 else answer

    answer = wait_until(ask, 30)
    assert answer is not None, "no lead is taken"
    return answer


class Scopegate:
    """One `scopegate` command, its standard error in a file. `prefix` is a command that becomes it: `ip netns exec`."""

    def __init__(
        self, words: Sequence[str], folder: Path, environ: Mapping[str, str], prefix: Sequence[str] = ()
    ) -> None:
        self.errors = folder / f"{words[0]}-{time.monotonic_ns()}.log"
        env = clean(os.environ) | {"HOME": str(folder), "SCOPEGATE_LOG_FORMAT": "json"} | dict(environ)
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "scopegate", *words],
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def first_lines(self, count: int) -> list[str]:
        """The next lines of standard output, waited for."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(count)]

    def events(self, event: str) -> list[dict[str, Any]]:
        """What its log has of this event so far."""
        lines = [line for line in self.errors.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def pids(self) -> dict[str, int]:
        """The latest process of each child."""
        return {entry["child"]: entry["pid"] for entry in self.events("child.started")}

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def scopegate(
    words: Sequence[str], folder: Path, environ: Mapping[str, str], prefix: Sequence[str] = ()
) -> Iterator[Scopegate]:
    """A running command, ended with all its children when the test is over."""
    running = Scopegate(words, folder, environ, prefix)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)
        left_running(list(running.pids().values()))
        if running.process.stdout is not None:
            running.process.stdout.close()
