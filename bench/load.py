"""The loads: what wrk sends, over how many kept-alive connections, and what it saw."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "scripts"
_FIGURES = "figures "


@dataclass(frozen=True, slots=True)
class Load:
    """`path` is answered by the bench's app with `answer_bytes`. A `stream` is counted by bytes, not by finished
    requests, and its memory is watched. `script` is a file of scripts/."""

    name: str
    path: str
    connections: int
    answer_bytes: int = 200
    script: str = ""
    stream: bool = False


GET = Load("get-200B-32", "/200", 32)
GET_1 = Load("get-200B-1", "/200", 1)
GET_256 = Load("get-200B-256", "/200", 256)
REAL = Load("real-32", "/real", 32, script="real.lua")
"""The headline: requests as they come from visitors behind a balancer."""
POST = Load("post-10KB-32", "/post", 32, script="post.lua")
LOADS = (
    REAL,
    GET,
    GET_1,
    GET_256,
    POST,
    Load("stream-1MB-8", "/1m", 8, answer_bytes=1_000_000, stream=True),
    Load("stream-100MB-2", "/100m", 2, answer_bytes=100_000_000, stream=True),
)
GET_64 = Load("get-200B-64", "/200", 64)
LITERAL = Load("last-literal", "/last/items", 32)
KEPT = Load("kept-10KB-32", "/kept/10k", 32, answer_bytes=10_000)
"""Answers that a cache has: the app says that they are fresh for an hour."""
KEPT_STREAM = Load("kept-1MB-8", "/kept/1m", 8, answer_bytes=1_000_000, stream=True)
PATTERN = Load("last-pattern", "/last/42/detail", 32)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw. `requests` are finished ones, `bytes_in` all that was read. `failed` counts answers other than 2xx
    and 3xx, socket errors, and every answer of a turn that brought fewer bytes than its answers hold."""

    requests: int
    bytes_in: int
    seconds: float
    p50_s: float
    p99_s: float
    failed: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def bytes_per_second(self) -> float:
        return self.bytes_in / self.seconds


def send(load: Load, port: int, seconds: int, cpus: str | None, seed: int, folder: Path) -> Outcome:
    """Run wrk once, on the cores `cpus`. `seed` is for scripts that draw lots; `folder` takes the script."""
    script = folder / "wrk.lua"
    parts = [load.script, "report.lua"] if load.script else ["report.lua"]
    script.write_text("\n".join((SCRIPTS / part).read_text("utf-8") for part in parts), "utf-8")
    argv = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    argv += [f"http://127.0.0.1:{port}{load.path}", "--", str(seed)]
    pinned = ["taskset", "-c", cpus, *argv] if cpus else argv
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return parse(done.stdout, load.answer_bytes)


def parse(text: str, answer_bytes: int) -> Outcome:
    """The line of scripts/report.lua in wrk's words, as an Outcome. Raises ValueError where there is none."""
    line = next((line for line in text.splitlines() if line.startswith(_FIGURES)), None)
    if line is None:
        raise ValueError(f"wrk gave no figures: {text[:200]!r}")
    figures: dict[str, Any] = json.loads(line.removeprefix(_FIGURES))
    requests, bytes_in = figures["requests"], figures["bytes"]
    failed = sum(figures[kind] for kind in ("connect", "read", "write", "timeout", "status"))
    if not bytes_in or bytes_in < requests * answer_bytes:
        failed += max(requests, 1)
    return Outcome(
        requests=requests,
        bytes_in=bytes_in,
        seconds=figures["duration_us"] / 1e6,
        p50_s=figures["p50_us"] / 1e6,
        p99_s=figures["p99_us"] / 1e6,
        failed=failed,
    )
