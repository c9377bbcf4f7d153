"""The BreakerStore port, in memory, on Valkey and on Redis. The clock is the test's: time is a column."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator

import pytest

from scopegate.clock import ManualClock
from scopegate.limits import breaker as rule_book
from scopegate.limits.breaker import BreakerRule, BreakerTerms, CallOutcome, Denied, Permit
from scopegate.stores.memory import MemoryBreakers
from scopegate.stores.redis_breaker import RedisBreakers

RULE = BreakerRule(failures=3, cooldown_s=60)
LEASE_S = 30.0


class Shop:
    """A store, its clock, and one breaker that nobody else uses."""

    def __init__(self, store: MemoryBreakers | RedisBreakers, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.name = uuid.uuid4().hex

    async def admit(self) -> Permit | Denied:
        return await self.store.admit(self.name, RULE)

    async def permit(self) -> Permit:
        answer = await self.admit()
        assert isinstance(answer, Permit)
        return answer

    async def end(self, permit: Permit, outcome: CallOutcome) -> None:
        await self.store.record(self.name, RULE, permit, outcome)

    async def fail(self, times: int = 1) -> None:
        for _ in range(times):
            await self.end(await self.permit(), CallOutcome.FAILURE)

    async def state(self) -> str:
        return await self.store.state(self.name, RULE)


@pytest.fixture(params=["memory", "valkey", "redis"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    clock = ManualClock()
    store: MemoryBreakers | RedisBreakers
    if request.param == "memory":
        store = MemoryBreakers(clock, lease_s=LEASE_S)
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        store = RedisBreakers(url, lease_s=LEASE_S, timeout_s=10, clock=clock)
    yield Shop(store, clock)
    await store.close()


async def test_opens_waits_probes_and_closes(shop: Shop) -> None:
    assert await shop.state() == "closed"
    await shop.fail(2)
    assert await shop.state() == "closed"
    await shop.fail()
    assert await shop.state() == "open"
    assert await shop.admit() == Denied(60.0)
    shop.clock.advance(59.999)
    assert await shop.admit() == Denied(0.001)
    shop.clock.advance(0.001)
    assert await shop.state() == "half_open"
    probe = await shop.permit()
    assert probe.probe
    assert await shop.admit() == Denied(30.0)
    await shop.end(probe, CallOutcome.SUCCESS)
    assert await shop.state() == "closed"
    assert not (await shop.permit()).probe


async def test_a_failed_probe_opens_again(shop: Shop) -> None:
    await shop.fail(3)
    shop.clock.advance(60)
    await shop.fail()
    assert await shop.state() == "open"
    assert await shop.admit() == Denied(60.0)


async def test_an_ignored_probe_frees_its_place(shop: Shop) -> None:
    await shop.fail(3)
    shop.clock.advance(60)
    await shop.end(await shop.permit(), CallOutcome.IGNORED)
    assert (await shop.permit()).probe


async def test_a_killed_probe_frees_its_place_after_the_lease(shop: Shop) -> None:
    await shop.fail(3)
    shop.clock.advance(60)
    await shop.permit()
    shop.clock.advance(29.999)
    assert isinstance(await shop.admit(), Denied)
    shop.clock.advance(0.001)
    assert (await shop.permit()).probe


async def test_late_results_are_dropped(shop: Shop) -> None:
    slow = [await shop.permit() for _ in range(3)]
    await shop.fail(3)
    await shop.end(slow[0], CallOutcome.SUCCESS)
    assert await shop.state() == "open"
    shop.clock.advance(60)
    probe = await shop.permit()
    await shop.end(slow[1], CallOutcome.FAILURE)
    assert await shop.state() == "half_open"
    await shop.end(probe, CallOutcome.SUCCESS)
    for _ in range(3):
        await shop.end(slow[2], CallOutcome.FAILURE)
    assert await shop.state() == "closed"


async def test_names_are_apart(shop: Shop) -> None:
    await shop.fail(3)
    assert await shop.store.state(shop.name + "x", RULE) == "closed"
    assert isinstance(await shop.store.admit(shop.name + "x", RULE), Permit)


@pytest.mark.parametrize("seed", range(6))
async def test_every_answer_is_the_rules_answer(shop: Shop, seed: int) -> None:
    """Random moves: each store answers as the pure table does."""
    dice = random.Random(seed)
    terms = BreakerTerms(RULE.failures, 60_000, 30_000)
    state = rule_book.fresh(round(shop.clock.monotonic_s() * 1000))
    out: list[Permit] = [await shop.permit()]  # generations count from the first admission's time
    for _ in range(150):
        shop.clock.advance(dice.choice([0, 0, 0, 1, 20, 30, 60]))
        now_ms = round(shop.clock.monotonic_s() * 1000)
        if not out or dice.random() < 0.5:
            state, expected = rule_book.admit(state, terms, now_ms)
            got = await shop.admit()
            if isinstance(got, Permit):
                out.append(got)
            assert got == expected
        else:
            permit = out.pop(dice.randrange(len(out)))
            outcome = dice.choice([*CallOutcome, CallOutcome.FAILURE, CallOutcome.FAILURE])
            state = rule_book.record(state, terms, permit, outcome, now_ms)
            await shop.end(permit, outcome)
        assert await shop.state() == rule_book.phase(state, terms, now_ms)
