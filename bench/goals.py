"""What the gateway has promised of its speed, each held against the samples of a run. Pure; called by the command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from bench.load import GET, GET_1, GET_64, GET_256, KEPT, KEPT_STREAM, LITERAL, PATTERN, POST, REAL
from bench.report import Figure, Sample, capacity, cpu, growth_bytes, pick, ratio, requests, throughput

STREAM = "stream-100MB-2"
FLAT_BYTES = 16_000_000
"""Memory is called flat when two streams of 100 MB raise it by less: a twelfth of what passes at a time."""
NGINX_TIMES = {REAL: 1.75, GET: 1.5, GET_1: 2.0, GET_256: 1.75, POST: 1.75}
"""How many times nginx' CPU per request the compiled build may use, by load."""
REDIS_TIMES = {REAL: 1.25, GET: 1.5, GET_1: 1.5, GET_256: 1.5}
"""The same of nginx+Lua+Redis."""
KEPT_TIMES = 1.3
"""How many times the CPU of nginx' proxy_cache an answer from the cache may cost."""
REDIS_OVER_MEMORY = 1.25
"""How many times the CPU per request with limits in memory they may cost in Redis."""
IDLE_BYTES = 60_000_000
GROWN_BYTES = 16_000_000
"""Windows of the 20,000 clients of each turn, which end with their second, and what the allocator keeps of them."""
SLOWER = ("caddy", "fastify", "express")
_LESS_THAN_ONE = 1.0 - 1e-9
_LAST = {"literal": LITERAL.name, "pattern": PATTERN.name}


class Verdict(Enum):
    MET = "met"
    MISSED = "MISSED"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Goal:
    """`measured` is None where the run had not what it takes."""

    text: str
    measured: float | None
    bound: float
    at_least: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.measured is None:
            return Verdict.UNKNOWN
        met = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return Verdict.MET if met else Verdict.MISSED

    def __str__(self) -> str:
        value = "" if self.measured is None else f" ({self.measured:.2f})"
        return f"{self.verdict.value}{value}: {self.text}"


def goals(samples: Sequence[Sample]) -> list[Goal]:
    return [
        *_small(samples),
        *_ahead(samples),
        *_redis(samples),
        *_kept(samples),
        *_stream(samples),
        *_memory(samples),
        *_routes(samples),
        *_workers(samples),
    ]


def _against(samples: Sequence[Sample], section: str, load: str, ours: str, theirs: str, by: Figure) -> float | None:
    return ratio(pick(samples, section, load, ours), pick(samples, section, load, theirs), by)


def _loads(samples: Iterable[Sample], section: str) -> list[str]:
    return list(dict.fromkeys(sample.load for sample in samples if sample.section == section))


def _small(samples: Sequence[Sample]) -> list[Goal]:
    return [
        Goal(
            f"{load.name}: at most {times} times nginx' CPU per request",
            _against(samples, "loads", load.name, "scopegate", "nginx", cpu),
            times,
        )
        for load, times in NGINX_TIMES.items()
    ]


def _ahead(samples: Sequence[Sample]) -> list[Goal]:
    """Ahead in every row: the worst row decides and is named."""
    loads = _loads(samples, "loads")
    found = []
    for peer in SLOWER:
        used = {load: _against(samples, "loads", load, "scopegate", peer, cpu) for load in loads}
        sped = {load: _against(samples, "loads", load, peer, "scopegate", _speed(load)) for load in loads}
        found += [_worst(f"less CPU per request than {peer}", used), _worst(f"more throughput than {peer}", sped)]
    return found


def _worst(words: str, rows: Mapping[str, float | None]) -> Goal:
    known = {load: times for load, times in rows.items() if times is not None}
    worst = max(known, key=lambda load: known[load], default=None)
    if worst is None:
        return Goal(f"{words} in every row", None, _LESS_THAN_ONE)
    return Goal(f"{words} in every row (worst row: {worst})", known[worst], _LESS_THAN_ONE)


def _speed(load: str) -> Figure:
    return throughput if load.startswith("stream") else requests


def _redis(samples: Sequence[Sample]) -> list[Goal]:
    return [
        Goal(
            f"{load.name}: with limits in Redis at most {times} times nginx+Lua+Redis",
            _against(samples, "redis", load.name, "scopegate+redis", "nginx+lua+redis", cpu),
            times,
        )
        for load, times in REDIS_TIMES.items()
    ] + [
        Goal(
            f"{load.name}: with limits in Redis at most {REDIS_OVER_MEMORY} times the same in memory",
            _against(samples, "stores", load.name, "scopegate, Redis", "scopegate, memory", cpu),
            REDIS_OVER_MEMORY,
        )
        for load in (REAL, GET, GET_256)
    ]


def _kept(samples: Sequence[Sample]) -> list[Goal]:
    return [
        Goal(
            f"{load.name}: from the cache at most {KEPT_TIMES} times nginx' CPU per request",
            _against(samples, "cache", load.name, "scopegate+cache", "nginx+cache", cpu),
            KEPT_TIMES,
        )
        for load in (KEPT, KEPT_STREAM)
    ]


def _stream(samples: Sequence[Sample]) -> list[Goal]:
    ours = pick(samples, "loads", STREAM, "scopegate")
    speed = _against(samples, "loads", STREAM, "scopegate", "nginx", throughput)
    grown = growth_bytes(ours) / 1e6 if ours else None
    return [
        Goal(f"{STREAM}: at least half of nginx' throughput", speed, 0.5, at_least=True),
        Goal(f"{STREAM}: memory grows by at most {FLAT_BYTES / 1e6:.0f} MB", grown, FLAT_BYTES / 1e6),
    ]


def _memory(samples: Sequence[Sample]) -> list[Goal]:
    """Of a process that has served nothing yet, and how far it rises over `real-32` once that was warm."""
    ours = [sample for sample in samples if sample.section == "loads" and sample.peer == "scopegate"]
    idle = max((sample.idle_bytes for sample in ours), default=None)
    real = [sample for sample in ours if sample.load == REAL.name]
    grown = growth_bytes(real) / 1e6 if real else None
    return [
        Goal(f"idle: at most {IDLE_BYTES / 1e6:.0f} MB", None if idle is None else idle / 1e6, IDLE_BYTES / 1e6),
        Goal(f"{REAL.name}: memory grows by at most {GROWN_BYTES / 1e6:.0f} MB", grown, GROWN_BYTES / 1e6),
    ]


def _routes(samples: Sequence[Sample]) -> list[Goal]:
    many, one = "scopegate, 1000 routes", "scopegate, 1 routes"
    rows = {load: _against(samples, f"routes-{kind}", load, many, one, cpu) for kind, load in _LAST.items()}
    return [Goal(f"{load}: 1,000 routes cost at most 1.15 times one", times, 1.15) for load, times in rows.items()]


def _workers(samples: Sequence[Sample]) -> list[Goal]:
    words = {"two workers give at least 1.8 times one": requests, "the same by CPU accounting alone": capacity}
    names = ("workers", GET_64.name, "scopegate, 2 workers", "scopegate, 1 worker")
    return [Goal(text, _against(samples, *names, by), 1.8, at_least=True) for text, by in words.items()]
