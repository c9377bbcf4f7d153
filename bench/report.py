"""Samples to tables. Ratios are taken turn by turn against the rival in the same run; medians are quoted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Outcome


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one peer. `cpu_us` is CPU time per answer, user and system, children included; `busiest` the share
    of it that one process used; `redis_us` what Redis used meanwhile, per answer. `idle_bytes` is the resident memory
    before the first request, `rest_bytes` that after the warm-up (before it for a stream), `peak_bytes` the most since
    then."""

    section: str
    peer: str
    rival: str
    load: str
    turn: int
    cpu_us: float
    busiest: float
    redis_us: float
    outcome: Outcome
    peak_bytes: int
    rest_bytes: int
    idle_bytes: int

    def __str__(self) -> str:
        failed = f", {self.outcome.failed} FAILED" if self.outcome.failed else ""
        return f"{self.section} {self.load} turn {self.turn + 1} {self.peer}: {self.cpu_us:.1f} us/request{failed}"


Figure = Callable[[Sample], float]
"""What two peers are compared by."""


def cpu(sample: Sample) -> float:
    return sample.cpu_us


def throughput(sample: Sample) -> float:
    """Bytes per second: of a stream also those of unfinished answers."""
    return sample.outcome.bytes_per_second


def requests(sample: Sample) -> float:
    return sample.outcome.per_second


def capacity(sample: Sample) -> float:
    """Requests per second when the busiest of a peer's processes has used up one core, by CPU accounting alone."""
    return 1e6 / (sample.cpu_us * sample.busiest)


def pick(samples: Sequence[Sample], section: str, load: str, peer: str) -> list[Sample]:
    return [s for s in samples if (s.section, s.load, s.peer) == (section, load, peer)]


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], figure: Figure) -> float | None:
    """The median, over the turns that both were measured in, of our figure against theirs. None without such a turn."""
    by_turn = {sample.turn: figure(sample) for sample in theirs}
    ratios = [figure(sample) / by_turn[sample.turn] for sample in ours if by_turn.get(sample.turn)]
    return median(ratios) if ratios else None


def growth_bytes(samples: Sequence[Sample]) -> int:
    """How far a peer's memory rose above its rest during one load."""
    return max((sample.peak_bytes - sample.rest_bytes for sample in samples), default=0)


_HEAD = (
    "load",
    "peer",
    "CPU µs/request",
    "CPU ratio",
    "requests/s",
    "speed ratio",
    "MB/s",
    "p50 ms",
    "p99 ms",
    "idle RSS MB",
    "peak RSS MB",
    "growth MB",
    "Redis µs",
    "failed",
)


def table(samples: Sequence[Sample], section: str) -> str:
    """Markdown: a row per load and peer of one section, in the order they were measured."""
    mine = [sample for sample in samples if sample.section == section]
    rows = [_line(_HEAD), "|---" * len(_HEAD) + "|"]
    for load in dict.fromkeys(sample.load for sample in mine):
        for peer in dict.fromkeys(sample.peer for sample in mine if sample.load == load):
            theirs = pick(mine, section, load, peer)
            rows.append(_line(_cells(theirs, pick(mine, section, load, theirs[0].rival))))
    return "\n".join(rows)


def failed(samples: Sequence[Sample]) -> int:
    return sum(sample.outcome.failed for sample in samples)


def _cells(samples: Sequence[Sample], rival: Sequence[Sample]) -> tuple[str, ...]:
    used = [sample.cpu_us for sample in samples]
    redis_us = median(sample.redis_us for sample in samples)
    return (
        samples[0].load,
        samples[0].peer,
        f"{median(used):,.1f} ({min(used):,.1f}-{max(used):,.1f})",
        _times(ratio(samples, rival, cpu)),
        f"{median(map(requests, samples)):,.0f}",
        _times(ratio(samples, rival, throughput)),
        f"{median(map(throughput, samples)) / 1e6:,.0f}",
        f"{median(sample.outcome.p50_s for sample in samples) * 1000:.2f}",
        f"{median(sample.outcome.p99_s for sample in samples) * 1000:.2f}",
        f"{max(sample.idle_bytes for sample in samples) / 1e6:.0f}",
        f"{max(sample.peak_bytes for sample in samples) / 1e6:.0f}",
        f"{growth_bytes(samples) / 1e6:.1f}",
        f"{redis_us:.1f}" if redis_us else "",
        str(failed(samples)),
    )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
