"""How many checks of limits one process does in a second, and what one costs it: `python -m bench.checks`.

The stores alone, without HTTP, on a Redis of this run's own. PYTHONPATH names the build that is asked about.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import peers
from bench.stage import stage
from scopegate import build
from scopegate.clock import SystemClock
from scopegate.limits.window import Quota, Spent, Window, window_key
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.mirror import Mirror
from scopegate.stores.ports import LimitStore
from scopegate.stores.redis_limits import RedisLimits

AT_ONCE = 32
"""Checks under way: what a gateway has at a time under load."""
CLIENTS = 5_000
QUOTAS = tuple(
    Quota(limit * (n + 1), span_ms) for n in range(3) for limit, span_ms in ((100_000, 1_000), (300_000, 60_000))
)
"""Of three tiers with two windows each, none of them ever full."""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    per_second: float
    cpu_us: float

    def __str__(self) -> str:
        return f"| {self.name} | {self.per_second:,.0f} | {self.cpu_us:.1f} |"


def windows(client: int, count: int) -> tuple[Window, ...]:
    quotas = QUOTAS[:count]
    return tuple(
        [Window(f"t{n}", window_key(f"t{n}", quota, f"{client:024x}"), quota) for n, quota in enumerate(quotas)]
    )


async def measured(name: str, store: LimitStore, saw: Callable[[Spent], None], count: int, seconds: float) -> Figure:
    """Of `count` windows a check."""
    asked: Sequence[tuple[Window, ...]] = [windows(client, count) for client in range(CLIENTS)]
    choose = random.Random(1).choice
    checks = 0
    begun_s, used_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun_s < seconds:
        for spent in [store.spend(choose(asked)) for _ in range(AT_ONCE)]:
            if isinstance(spent, asyncio.Future):
                saw(await spent)
        checks += AT_ONCE
    passed_s, used_s = time.perf_counter() - begun_s, time.process_time() - used_s
    return Figure(f"{name}, {count} window{'s' if count > 1 else ''}", checks / passed_s, used_s / checks * 1e6)


async def figures(url: str, seconds: float) -> list[Figure]:
    mirror = Mirror(SystemClock())
    redis = RedisLimits(url, timeout_s=1.0, mirror=mirror)
    await redis.open()
    found = []
    for count in (1, len(QUOTAS)):
        found.append(await measured("memory", MemoryLimits(SystemClock()), mirror.saw, count, seconds))
        found.append(await measured("Redis", redis, mirror.saw, count, seconds))
    await redis.close()
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.checks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each (%(default)s)")
    args = parser.parse_args(argv)
    if not peers.has("redis-server", "nginx"):
        print("bench needs redis-server and nginx on PATH")
        return 2
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as folder:
        Path(folder).chmod(0o755)
        with stage(Path(folder), redis=True) as ground:
            url = f"redis://127.0.0.1:{ground.site.redis_port}/0"
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(figures(url, args.seconds))
    print("\n".join([f"| store ({build.kind()}) | checks/s | CPU µs/check |\n|---|---|---|", *map(str, found)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
