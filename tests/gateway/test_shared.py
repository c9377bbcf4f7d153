"""What the requests of a process share: ids, the date."""

from __future__ import annotations

import asyncio
import re

from scopegate.clock import ManualClock
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.shared import Shared
from tests.gateway.rig import policy_of


def shared(clock: ManualClock) -> Shared:
    policy = policy_of(["http://127.0.0.1:1"])
    loop = asyncio.get_running_loop()
    return Shared(Ruleset(policy, lambda upstream: UpstreamPool(upstream, loop)), clock)


async def test_request_ids_are_unique_and_of_one_shape() -> None:
    clock = ManualClock()
    one, other = shared(clock), shared(clock)
    ids = {each.next_request_id() for each in (one, other) for _ in range(1000)}
    assert len(ids) == 2000
    assert all(re.fullmatch(rb"[0-9a-f]{24}", one_id) for one_id in ids)


async def test_the_date_follows_the_clock() -> None:
    clock = ManualClock(1_795_507_200_000)
    process = shared(clock)
    assert process.http_date() == b"Tue, 24 Nov 2026 08:00:00 GMT"
    clock.advance(0.9)
    assert process.http_date() == b"Tue, 24 Nov 2026 08:00:00 GMT"
    clock.advance(0.2)
    assert process.http_date() == b"Tue, 24 Nov 2026 08:00:01 GMT"
    assert process.now_ms() == 1_795_507_201_100
