"""Samples to a table. Ratios are taken turn by turn against nginx in the same run; medians are quoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Outcome

YARDSTICK = "nginx"


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one peer. `cpu_us` is CPU time per request, user and system, children included."""

    peer: str
    load: str
    turn: int
    cpu_us: float
    outcome: Outcome
    rss_bytes: int

    def __str__(self) -> str:
        failed = f", {self.outcome.failed} FAILED" if self.outcome.failed else ""
        return f"{self.load} turn {self.turn + 1} {self.peer}: {self.cpu_us:.1f} us/request{failed}"


def table(samples: Sequence[Sample], peers: Sequence[str]) -> str:
    """Markdown: a row per load and peer."""
    rows = [
        "| load | peer | CPU µs/request | times nginx | requests/s | p50 ms | p99 ms | RSS MB | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for load in dict.fromkeys(sample.load for sample in samples):
        mine = [sample for sample in samples if sample.load == load]
        rows += [_row(load, peer, [s for s in mine if s.peer == peer], mine) for peer in peers]
    return "\n".join(rows)


def ratio(peer: Sequence[Sample], all_of_load: Sequence[Sample]) -> float | None:
    """The median over the turns of this peer's CPU time against the yardstick's."""
    yardstick = {sample.turn: sample.cpu_us for sample in all_of_load if sample.peer == YARDSTICK}
    ratios = [sample.cpu_us / yardstick[sample.turn] for sample in peer if yardstick.get(sample.turn)]
    return median(ratios) if ratios else None


def _row(load: str, peer: str, samples: Sequence[Sample], all_of_load: Sequence[Sample]) -> str:
    cpu = [sample.cpu_us for sample in samples]
    times = ratio(samples, all_of_load)
    cells = [
        load,
        peer,
        f"{median(cpu):.1f} ({min(cpu):.1f}-{max(cpu):.1f})",
        "" if times is None else f"{times:.2f}",
        f"{median(s.outcome.per_second for s in samples):,.0f}",
        f"{median(s.outcome.p50_s for s in samples) * 1000:.2f}",
        f"{median(s.outcome.p99_s for s in samples) * 1000:.2f}",
        f"{max(s.rss_bytes for s in samples) / 1e6:.0f}",
        str(sum(s.outcome.failed for s in samples)),
    ]
    return "| " + " | ".join(cells) + " |"
