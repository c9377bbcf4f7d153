"""A budget under four processes of fifty callers and random kills: used to its end, and never passed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from scopegate.clock import SystemClock
from scopegate.limits.budget import account
from scopegate.limits.pricing import Usage, price
from scopegate.stores.database import Database
from scopegate.stores.ledger import SqlLedger
from tests.engines import database, database_url, postgres_url  # noqa: F401 - fixtures
from tests.flows.budget_process import SLACK_S, TIMEOUT_S, budget
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures
from tests.worker.metering import MODEL, PRICES

CAP = 17_400
"""One hundred calls of 174 micro-dollars each; the worst case of one is 14 times as much."""


@dataclass
class Round:
    url: str
    claude: SimulatedClaude
    ledger: SqlLedger

    def billed(self) -> list[int]:
        """What the API would have charged for each answer, killed callers' included."""
        costs = [price(Usage(call.input_tokens, call.output_tokens), MODEL, PRICES) for call in self.claude.calls]
        assert None not in costs
        return [cost for cost in costs if cost]

    async def run(self, kills: int, seed: int) -> None:
        self.claude.reset()
        words = (self.url, self.claude.url, str(CAP), str(kills), str(seed))
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.flows.budget_process", *words)
        try:
            assert await asyncio.wait_for(process.wait(), 120) == 0
        finally:
            if process.returncode is None:
                process.kill()

    async def account(self, seed: int) -> tuple[int, int]:
        """(spent, reserved)."""
        now_ms = SystemClock().now_ms()
        scope = account(budget(CAP, seed), now_ms, {}).scope
        return (await self.ledger.accounts([scope], now_ms))[scope]


@pytest.fixture
async def one_round(database: Database, database_url: str, simulated_claude: SimulatedClaude) -> AsyncIterator[Round]:  # noqa: F811
    simulated_claude.simulation.latency_s = 0.05
    yield Round(database_url, simulated_claude, SqlLedger(database))
    simulated_claude.simulation.latency_s = 0.0


async def test_a_budget_is_used_to_its_end_and_never_passed(one_round: Round) -> None:
    await one_round.run(kills=0, seed=0)
    spent, reserved = await one_round.account(0)
    assert reserved == 0
    assert sum(one_round.billed()) == spent <= CAP
    assert len(one_round.billed()) >= 90


@pytest.mark.timeout(1800)
async def test_a_budget_survives_random_kills(one_round: Round, full: bool) -> None:
    """What the killed had in flight counts at its worst case, as spent: nothing else keeps money from the others."""
    for seed in range(20 if full else 1):
        known = {row.call_id for row in await one_round.ledger.calls(limit=10_000)}
        await one_round.run(kills=3, seed=seed)
        await asyncio.sleep(TIMEOUT_S + SLACK_S)
        await one_round.ledger.expire(SystemClock().now_ms())
        spent, reserved = await one_round.account(seed)
        rows = [row for row in await one_round.ledger.calls(limit=10_000) if row.call_id not in known]
        outcomes = Counter(row.outcome for row in rows)
        about = f"seed {seed}: {len(one_round.billed())} billed, {dict(outcomes)}, {spent} of {CAP} spent"
        assert reserved == 0, about
        assert sum(one_round.billed()) <= spent <= CAP, about
        assert spent >= 0.9 * CAP, about
