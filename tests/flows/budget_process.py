"""Callers that spend one budget until it is spent, while their processes are killed: all of one round.

`python -m tests.flows.budget_process DATABASE_URL CLAUDE_URL CAP_USD_MICROS KILLS SEED`: four processes of fifty
callers each, every one asking again until it is told that the budget is spent. KILLS times one of them, chosen by SEED,
is killed with SIGKILL and another one begun. Each process exits with 0 when all its callers were told so.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time

from pydantic import SecretStr

from scopegate.clock import SystemClock
from scopegate.errors import AIBudgetError, StoreUnavailable
from scopegate.policy.policy import BudgetRule, WhenSpent
from scopegate.stores.database import open_database
from scopegate.stores.ledger import SqlLedger
from scopegate.worker import purse
from scopegate.worker.claude import ClaudeCaller
from scopegate.worker.metered import MeteredClaude
from tests.simulated import KEY
from tests.worker.metering import PRICES, PURPOSE, Breakers, parse, policy, question

PROCESSES, CALLERS = 4, 50
TIMEOUT_S, SLACK_S = 2.0, 1.0
"""A killed caller's reservation lasts for both together."""


def budget(cap_usd_micros: int, seed: int) -> BudgetRule:
    return BudgetRule(f"round-{seed}", cap_usd_micros, "month", None, (), WhenSpent.FAIL)


async def spend(url: str, claude_url: str, cap_usd_micros: int, seed: int) -> None:
    database = await open_database(url)
    caller = ClaudeCaller(SecretStr(KEY), claude_url)
    ai = policy(budget(cap_usd_micros, seed), timeout_s=TIMEOUT_S)
    model = MeteredClaude(caller, SqlLedger(database), Breakers(), PRICES, ai, SystemClock(), random.random)
    await asyncio.gather(*(call_until_spent(model) for _ in range(CALLERS)))
    await caller.close()
    await database.close()


async def call_until_spent(model: MeteredClaude) -> None:
    while True:
        try:
            await model.run(PURPOSE, question(model), parse)
        except AIBudgetError as refused:
            if refused.is_spent:
                return
        except StoreUnavailable:
            await asyncio.sleep(0.1)


def start(url: str, claude_url: str, cap_usd_micros: int, seed: int) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(spend(url, claude_url, cap_usd_micros, seed))
            status = 0
        finally:
            os._exit(status)
    return pid


def main(url: str, claude_url: str, cap: str, kills: str, seed: str) -> int:
    purse._RESERVATION_SLACK_S = SLACK_S  # type: ignore[misc]  # so that a round need not wait a minute for the dead
    dice = random.Random(int(seed))
    running = [start(url, claude_url, int(cap), int(seed)) for _ in range(PROCESSES)]
    for _ in range(int(kills)):
        time.sleep(dice.uniform(0.05, 0.5))
        victim = running.pop(dice.randrange(PROCESSES))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        running.append(start(url, claude_url, int(cap), int(seed)))
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
