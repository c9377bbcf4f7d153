"""How limits hold here and elsewhere: `python -m bench.limits`, one table for `docs/limits.md`.

Everybody is told the same limit and meets the same trace at the same moments (`bench.trace`); then each alone a load
that never meets its limit, for its CPU time; then, where it counts in Redis, visitors while Redis is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import peers
from bench.configs import LIMIT
from bench.load import GET
from bench.peers import Peer
from bench.stage import Stage, Started, measure, running, stage, warm_up
from bench.trace import Asked, best, trace, worst

TOLD, SPAN_S = 10, 1.0
"""The limit of the trace."""
VISITORS, STOPPED_S = 8, 1.5
_REQUEST = b"GET /200 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
_PATIENCE_S = 10.0


def contenders(limit: int) -> tuple[Peer, ...]:
    """Who can be told `limit` a second; of ours the compiled build where it is there."""
    pure = not peers.has_compiled()
    return (
        peers.scopegate("scopegate", pure=pure, limit=limit),
        peers.scopegate("scopegate, Redis", pure=pure, limit=limit, redis=True),
        peers.nginx("nginx limit_req", limit=limit),
        peers.haproxy("HAProxy stick table", limit),
        peers.nginx_redis("nginx+Lua+Redis, a log", limit=limit),
        peers.nginx_redis("the same, Upstash's rule", script="counters", limit=limit),
        peers.nginx_redis("the same, Traefik's rule", script="bucket", limit=limit),
        peers.nginx_redis("the same, Kong's rule", script="slots", limit=limit),
    )


@dataclass(frozen=True, slots=True)
class Outage:
    """What visitors got while Redis was stopped, and the longest that one of them waited."""

    statuses: Counter[int]
    longest_s: float


async def ask(port: int) -> tuple[int, float]:
    """The status of one request on a connection of its own, 0 for none, and how many seconds it took."""
    sent_s = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_REQUEST)
                answer = await reader.read()
            finally:
                writer.close()
        status = int(answer.split(b" ", 2)[1]) if answer else 0
    except (OSError, TimeoutError):
        status = 0
    return status, time.monotonic() - sent_s


async def asked(port: int, moments: Sequence[float], begin_s: float) -> list[Asked]:
    """One peer's trace. `begin_s`: its beginning on the monotonic clock."""

    async def one(moment: float) -> Asked:
        await asyncio.sleep(begin_s + moment - time.monotonic())
        sent_s = time.monotonic()
        status, took_s = await ask(port)
        return Asked(sent_s, sent_s + took_s, status == 200)

    return await asyncio.gather(*[one(moment) for moment in moments])


async def all_asked(started: Sequence[Started]) -> list[list[Asked]]:
    """All peers, from the same beginning of a slot on."""
    now_s = time.time()
    begin_s = time.monotonic() + (int(now_s / SPAN_S) + 2) * SPAN_S - now_s
    moments = trace(TOLD, SPAN_S)
    return await asyncio.gather(*[asked(one.port, moments, begin_s) for one in started])


async def visited(port: int, seconds: float) -> Outage:
    """By visitors who ask again as soon as they are answered."""
    end_s = time.monotonic() + seconds
    statuses: Counter[int] = Counter()
    longest_s = 0.0

    async def visit() -> None:
        nonlocal longest_s
        while time.monotonic() < end_s:
            status, took_s = await ask(port)
            statuses[status] += 1
            longest_s = max(longest_s, took_s)
            await asyncio.sleep(0.01)

    await asyncio.gather(*[visit() for _ in range(VISITORS)])
    return Outage(statuses, longest_s)


def stopped(ground: Stage, port: int) -> Outage:
    os.kill(ground.redis_pid, signal.SIGSTOP)
    try:
        return asyncio.run(visited(port, STOPPED_S))
    finally:
        os.kill(ground.redis_pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Row:
    """One peer's. `cpu_us` and `redis_us`: medians over the rounds."""

    name: str
    worst: int
    admitted: int
    best: int
    cpu_us: float
    redis_us: float
    outage: Outage | None

    def __str__(self) -> str:
        said = "" if self.outage is None else ", ".join(_said(*each) for each in sorted(self.outage.statuses.items()))
        cells = (
            self.name,
            str(self.worst),
            f"{self.admitted} ({self.best})",
            f"{self.cpu_us:.1f}",
            f"{self.redis_us:.1f}" if self.outage is not None else "",
            said,
            "" if self.outage is None else f"{self.outage.longest_s * 1000:.0f} ms",
        )
        return f"| {' | '.join(cells)} |"


def _said(status: int, count: int) -> str:
    return f"{count} × {status or 'nothing'}"


HEAD = (
    f"| who | most in a second of `{TOLD} per 1s` | admitted (a log would) | CPU µs/request | Redis µs "
    f"| Redis stopped for {STOPPED_S} s: answers | longest |\n|---|---|---|---|---|---|---|"
)


def rows(ground: Stage, rounds: int, seconds: int, seed: int) -> list[Row]:
    here = [n for n, peer in enumerate(contenders(TOLD)) if peer.is_here()]
    with running([contenders(TOLD)[n] for n in here], ground.site, pinned=False) as started:
        met = asyncio.run(all_asked(started))
    unbounded = [contenders(LIMIT)[n] for n in here]
    with running(unbounded, ground.site, pinned=True) as started:
        memories = [warm_up(one, GET, 1, seed) for one in started]
        samples = [
            [measure(ground, "limits", one, GET, seconds, turn, seed, memory) for turn in range(rounds)]
            for one, memory in zip(started, memories, strict=True)
        ]
        outages = [stopped(ground, one.port) if one.peer.redis else None for one in started]
    return [
        Row(
            peer.name,
            worst(mine, SPAN_S),
            sum(each.is_admitted for each in mine),
            best(mine, TOLD, SPAN_S),
            median(sample.cpu_us for sample in turns),
            median(sample.redis_us for sample in turns),
            outage,
        )
        for peer, mine, turns, outage in zip(unbounded, met, samples, outages, strict=True)
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of the load for each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="of load per turn (%(default)s)")
    args = parser.parse_args(argv)
    for peer in contenders(TOLD):
        if not peer.is_here():
            print(f"not installed here: {peer.name}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx as root gives its workers to another user
        with stage(Path(folder), redis=peers.has("redis-server")) as ground:
            found = rows(ground, args.rounds, args.seconds, secrets.randbelow(1_000_000))
    print("\n".join([HEAD, *map(str, found)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
