"""The comparison of limits: everybody is told the same one, and what is seen of an outage."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import limits, peers
from bench.limits import Outage, Row, ask, contenders, stopped
from bench.stage import running, stage
from tests.engines import missing

TOLD = 3


@pytest.mark.timeout(120)
def test_each_keeps_the_limit_it_is_told_and_says_what_it_does_without_redis() -> None:
    here = [peer for peer in contenders(TOLD) if peer.is_here()]
    if not peers.has("nginx", "redis-server"):
        missing("nginx and redis-server")
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as name:
        Path(name).chmod(0o755)
        with stage(Path(name), redis=True) as ground, running(here, ground.site, pinned=False) as started:
            said = asyncio.run(all_of([one.port for one in started]))
            for one, statuses in zip(started, said, strict=True):
                assert statuses[:TOLD] == [200] * TOLD, one.peer.name
                assert 429 in statuses, one.peer.name
            limits.STOPPED_S = 0.2
            with_redis = [(one.peer.name, stopped(ground, one.port)) for one in started if one.peer.redis]
    for peer, outage in with_redis:
        assert outage.statuses, peer
        if not peer.startswith("scopegate"):
            assert set(outage.statuses) == {503}, peer
        else:
            assert set(outage.statuses) <= {200, 429}, "it counts on"


async def all_of(ports: Sequence[int]) -> list[list[int]]:
    """What each says to as many as it is told, one after the other, and then to twice as many at once."""

    async def of(port: int) -> list[int]:
        one_by_one = [(await ask(port))[0] for _ in range(TOLD)]
        at_once = await asyncio.gather(*[ask(port) for _ in range(2 * TOLD)])
        return one_by_one + [status for status, _ in at_once]

    return await asyncio.gather(*[of(port) for port in ports])


async def test_nobody_there_is_status_0() -> None:
    assert (await ask(1))[0] == 0


def test_a_row_as_the_table_has_it() -> None:
    outage = Outage(Counter({200: 90, 0: 1}), 0.0449)
    assert str(Row("a", 10, 120, 125, 31.25, 9.04, outage)) == (
        "| a | 10 | 120 (125) | 31.2 | 9.0 | 1 × nothing, 90 × 200 | 45 ms |"
    )
    assert str(Row("b", 19, 120, 125, 31.26, 0.0, None)) == "| b | 19 | 120 (125) | 31.3 |  |  |  |"
