"""A metered client on the simulated Claude and a real ledger, for tests to look at from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from scopegate.clock import ManualClock
from scopegate.demo.claude import Injected
from scopegate.errors import (
    AIError,
)
from scopegate.leads import findings
from scopegate.leads.findings import Broken
from scopegate.leads.job import CallRecord
from scopegate.leads.questions import photo_analysis
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.limits.budget import Per, account
from scopegate.limits.pricing import worst_case
from scopegate.limits.steps import StepLimits, StepName
from scopegate.policy.policy import AI, BudgetRule, WhenSpent
from scopegate.stores.database import open_database
from scopegate.stores.ledger import SqlLedger
from scopegate.worker.call import ModelClient, ModelRequest
from scopegate.worker.claude import ClaudeCaller
from scopegate.worker.metered import MeteredClaude, Purpose
from scopegate.worker.prices import load
from tests.simulated import KEY, SimulatedClaude, picture

MODEL = "claude-haiku-5-5"
PRICES = load()
PURPOSE = Purpose("job-1", "lead-1", "roofers-inc", StepName.PHOTO_ANALYSIS, 1)
DAY = BudgetRule("day", 20_000_000, "day", None, (0.5, 0.8), WhenSpent.HOLD)
CONTRACTOR = BudgetRule("contractor-day", 2_000_000, "day", Per.CONTRACTOR, (), WhenSpent.HOLD)
OVERLOADED = Injected("error", 529)


def policy(
    *budgets: BudgetRule, model: str = MODEL, timeout_s: float = 5.0, retries: int = 3, max_tokens: int = 2048
) -> AI:
    limits = StepLimits(timeout_s, retries, max_tokens)
    steps = {"photo_analysis": limits, "scope": limits, "estimate": limits}
    return AI(model, steps, BreakerRule(5, 60.0), budgets or (DAY, CONTRACTOR))


class Breakers:
    """Remembers what it was told; `permit` decides what comes next."""

    def __init__(self, permit: Callable[[], Permit | Denied] = lambda: Permit(1)) -> None:
        self.permit = permit
        self.outcomes: list[CallOutcome] = []

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
        return self.permit()

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None:
        self.outcomes.append(outcome)

    async def state(self, name: str, rule: BreakerRule) -> str:
        return "closed"

    async def close(self) -> None:
        pass


@dataclass
class Bench:
    """A metered client and everything around it, to look at afterwards."""

    claude: SimulatedClaude
    caller: ModelClient
    ledger: SqlLedger
    clock: Any = field(default_factory=ManualClock)
    breakers: Any = field(default_factory=Breakers)

    def client(self, ai: AI | None = None, **parts: Any) -> MeteredClaude:
        chosen = {"caller": self.caller, "ledger": self.ledger, "breakers": self.breakers, "jitter": lambda: 0.5}
        return MeteredClaude(**chosen | parts, prices=PRICES, ai=ai or policy(), clock=self.clock)

    async def ask(self, client: MeteredClaude, purpose: Purpose = PURPOSE, **options: Any) -> Any:
        return await client.run(purpose, question(client), parse, **options)

    async def rows(self) -> Sequence[CallRecord]:
        rows = await self.ledger.calls(limit=1_000)
        return sorted(rows, key=lambda row: (row.job_id or "", row.call_n))

    async def account(self, rule: BudgetRule = DAY) -> tuple[int, int]:
        """(spent, reserved)."""
        now_ms = self.clock.now_ms()
        scope = account(rule, now_ms, PURPOSE.payer()).scope
        return (await self.ledger.accounts([scope], now_ms))[scope]


def question(client: MeteredClaude) -> ModelRequest:
    prompt = photo_analysis.prompt("The roof leaks.", 2, "0" * 32)
    schema = findings.schema(PhotoAnalysis)
    return client.request(StepName.PHOTO_ANALYSIS, prompt.system, prompt.text, schema, (picture("blue"), picture()))


def parse(text: str) -> PhotoAnalysis | Broken:
    return photo_analysis.parse(text, photos=2)


def worst(client: MeteredClaude) -> int:
    asked = question(client)
    cost = worst_case(asked.model, asked.input_tokens_upper(), asked.max_tokens, PRICES)
    assert cost is not None
    return cost


@pytest.fixture
async def bench(simulated_claude: SimulatedClaude, tmp_path: Path) -> AsyncIterator[Bench]:
    database = await open_database(f"sqlite:///{tmp_path}/scopegate.db")
    caller = ClaudeCaller(SecretStr(KEY), simulated_claude.url)
    yield Bench(simulated_claude, caller, SqlLedger(database))
    await caller.close()
    await database.close()


async def failure(bench: Bench, client: MeteredClaude, **options: Any) -> AIError:
    with pytest.raises(AIError) as caught:
        await bench.ask(client, **options)
    return caught.value


def counter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
