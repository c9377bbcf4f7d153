"""Samples made by hand."""

from __future__ import annotations

from bench.load import Outcome
from bench.report import Sample


def outcome(requests: int = 1000, *, bytes_in: int = 0, seconds: float = 1.0, failed: int = 0) -> Outcome:
    return Outcome(requests, bytes_in or requests * 200, seconds, 0.001, 0.01, failed)


def sample(
    peer: str,
    cpu_us: float,
    *,
    turn: int = 0,
    load: str = "get-200B-32",
    section: str = "loads",
    rival: str = "nginx",
    requests: int = 1000,
    bytes_in: int = 0,
    failed: int = 0,
    busiest: float = 1.0,
    redis_us: float = 0.0,
    peak_bytes: int = 50_000_000,
    rest_bytes: int = 40_000_000,
    idle_bytes: int = 40_000_000,
) -> Sample:
    seen = outcome(requests, bytes_in=bytes_in, failed=failed)
    return Sample(section, peer, rival, load, turn, cpu_us, busiest, redis_us, seen, peak_bytes, rest_bytes, idle_bytes)
