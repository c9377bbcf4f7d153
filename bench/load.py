"""The loads: what wrk sends, over how many kept-alive connections."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

_POST = """wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
"""


@dataclass(frozen=True, slots=True)
class Load:
    """`path` is answered by the bench's upstream with as many bytes as it says."""

    name: str
    path: str
    connections: int
    script: str = ""


LOADS = (
    Load("get-200B-32", "/200", 32),
    Load("get-200B-1", "/200", 1),
    Load("get-200B-256", "/200", 256),
    Load("post-10KB-32", "/post", 32, _POST),
    Load("get-1MB-8", "/1m", 8),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw. Latencies are seconds; `failed` counts answers other than 2xx and 3xx, and socket errors."""

    requests: int
    per_second: float
    p50_s: float
    p99_s: float
    failed: int


def send(load: Load, port: int, seconds: int, script: str | None, cpus: str | None) -> Outcome:
    """Run wrk once. `script` is a file with the load's Lua, `cpus` what it may run on."""
    argv = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency"]
    argv += ["-s", script] if script else []
    argv.append(f"http://127.0.0.1:{port}{load.path}")
    pinned = ["taskset", "-c", cpus, *argv] if cpus else argv
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=seconds + 30, check=True)
    return parse(done.stdout)


_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def parse(text: str) -> Outcome:
    """wrk's own words as an Outcome."""
    latency = {share: float(value) * _UNITS[unit] for share, value, unit in _LATENCY.findall(text)}
    bad = _BAD.search(text)
    sockets = _SOCKETS.search(text)
    errors = sum(int(number) for number in re.findall(r"\d+", sockets[0])) if sockets else 0
    return Outcome(
        requests=int(_REQUESTS.search(text)[1]),  # type: ignore[index]
        per_second=float(_RATE.search(text)[1]),  # type: ignore[index]
        p50_s=latency["50"],
        p99_s=latency["99"],
        failed=errors + (int(bad[1]) if bad else 0),
    )


_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", re.M)
_REQUESTS = re.compile(r"(\d+) requests in")
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKETS = re.compile(r"Socket errors:.*")
