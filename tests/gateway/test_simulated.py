"""What `scopegate simulate` finds in a log is what a gateway that watched had counted."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from typing import Any

from scopegate.replay.entries import LogReading
from scopegate.replay.judging import Replay
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs

pytestmark = ON_ONE_LOOP


async def test_it_agrees_with_a_live_watch_on_the_same_traffic(gates: Rigs) -> None:
    policy: dict[str, Any] = {
        "server": {"mode": "watch", "trusted_proxies": ["127.0.0.1"]},
        "tiers": {"tight": {"limit": ["3 per 1s", "7 per 60s"]}, "site": {"limit": "12 per 60s", "key": "global"}},
        "routes": [
            {"name": "api", "match": "ANY /api/**", "tier": ["tight", "site"]},
            {"name": "all", "match": "ANY /**", "tier": "tight"},
        ],
    }
    rig = await gates.start(**policy)
    written = io.StringIO()
    rig.gateway.shared.access._stream = written
    rig.gateway._flushed_s = float("inf")  # what is counted stays to be read here
    client = await rig.connect()
    for burst in range(3):
        for n in range(8):
            path = "/api/x" if n % 2 else "/y"
            who = f"X-Forwarded-For: 203.0.113.{n // 4}\r\n".encode()
            assert (await client.ask(f"GET {path} HTTP/1.1\r\n".encode() + HOST + who + b"\r\n")).status == 200
        await asyncio.sleep(0.3 if burst else 1.1)
    live = Counter[tuple[str, str]]()
    for plan in rig.gateway.shared.rules.plans():
        for (tier, decision), count in plan.tally.limited.items():
            live[plan.name, tier] += count if decision == "would_limit" else 0
    rig.gateway.shared.access.flush()
    simulated, found = Replay(rig.gateway.shared.rules.policy), Counter[tuple[str, str]]()
    for each in LogReading().entries(written.getvalue().encode().splitlines()):
        verdict = simulated.judge(each)
        found.update((verdict.route, tier) for tier in verdict.tiers)
    assert sum(found.values()) > 5
    assert found == live
