"""The shared breaker on a real server: one probe over many callers, a key that expires, outages by name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from scopegate.clock import ManualClock
from scopegate.errors import ConfigError, StoreUnavailable
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.stores.redis_breaker import RedisBreakers
from tests.valkey import Server

RULE = BreakerRule(failures=2, cooldown_s=60)


async def opened(store: RedisBreakers, name: str) -> None:
    for _ in range(RULE.failures):
        permit = await store.admit(name, RULE)
        assert isinstance(permit, Permit)
        await store.record(name, RULE, permit, CallOutcome.FAILURE)


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisBreakers]:
    """With a tight time-out, on a server of the test's own."""
    store = RedisBreakers(server.url, timeout_s=0.2)
    yield store
    await store.close()


async def test_exactly_one_probe_over_four_clients_and_two_hundred_callers(valkey_url: str) -> None:
    clock = ManualClock()
    clients = [RedisBreakers(valkey_url, connections=4, timeout_s=20, clock=clock) for _ in range(4)]
    for _ in range(5):
        name = uuid.uuid4().hex
        await opened(clients[0], name)
        clock.advance(60)
        answers = await asyncio.gather(*[clients[n % 4].admit(name, RULE) for n in range(200)])
        probes = [answer for answer in answers if isinstance(answer, Permit)]
        assert [probe.probe for probe in probes] == [True]
        assert all(answer == Denied(30.0) for answer in answers if answer is not probes[0])
    for client in clients:
        await client.close()


async def test_the_servers_clock_decides(valkey_url: str) -> None:
    store, name = RedisBreakers(valkey_url, timeout_s=10), uuid.uuid4().hex
    rule = BreakerRule(failures=1, cooldown_s=0.03)
    await store.record(name, rule, await permitted(store, name, rule), CallOutcome.FAILURE)
    while isinstance(await store.admit(name, rule), Denied):
        pass  # the server's time passes
    assert await store.state(name, rule) == "half_open"
    await store.close()


async def permitted(store: RedisBreakers, name: str, rule: BreakerRule = RULE) -> Permit:
    answer = await store.admit(name, rule)
    assert isinstance(answer, Permit)
    return answer


async def test_its_key_is_ours_and_expires(server: Server, store: RedisBreakers) -> None:
    await store.state("claude", RULE)
    assert server.run("KEYS", "*") == []  # a look stores nothing
    await opened(store, "claude")
    assert server.run("KEYS", "*") == ["scopegate:breaker:claude"]
    assert 0 < server.run("PTTL", "scopegate:breaker:claude") <= 86_400_000 + 90_000


async def test_a_lost_breaker_starts_closed_and_old_results_do_not_count(server: Server, store: RedisBreakers) -> None:
    old = [await permitted(store, "claude") for _ in range(5)]
    await opened(store, "claude")
    server.run("FLUSHALL")
    assert not (await permitted(store, "claude")).probe
    for permit in old:
        await store.record("claude", RULE, permit, CallOutcome.FAILURE)
    assert await store.state("claude", RULE) == "closed"


async def test_the_script_is_loaded_again_after_a_flush(server: Server, store: RedisBreakers) -> None:
    await permitted(store, "claude")
    server.run("SCRIPT", "FLUSH")
    await permitted(store, "claude")


async def outage(store: RedisBreakers) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.admit("claude", RULE)
    return caught.value.kind


async def test_outages_by_name_and_back(server: Server, store: RedisBreakers) -> None:
    await permitted(store, "claude")
    server.pause()
    assert await outage(store) == "timeout"
    server.resume()
    await permitted(store, "claude")
    server.run("CONFIG", "SET", "maxmemory", "1")
    assert await failing_write(store) == "full"
    server.run("CONFIG", "SET", "maxmemory", "0")
    server.run("REPLICAOF", "127.0.0.1", "1")
    assert await failing_write(store) == "readonly"
    server.kill()
    assert await outage(store) in {"connect", "reset"}
    assert await outage(store) == "connect"
    server.start()
    await permitted(store, "claude")


async def test_a_server_that_dies_under_a_call(server: Server) -> None:
    store = RedisBreakers(server.url, timeout_s=10)
    await permitted(store, "claude")
    server.pause()
    call = asyncio.create_task(outage(store))
    await asyncio.sleep(0.02)
    server.kill()
    assert await call == "reset"
    await store.close()


async def failing_write(store: RedisBreakers) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await opened(store, "another")
    return caught.value.kind


async def test_a_wrong_password_is_an_outage_and_stays_secret(server: Server) -> None:
    server.run("CONFIG", "SET", "requirepass", "right")
    store = RedisBreakers(server.url.replace("redis://", "redis://:hunter2@"), timeout_s=5)
    with pytest.raises(StoreUnavailable) as caught:
        await store.admit("claude", RULE)
    assert caught.value.kind == "connect"
    assert "hunter2" not in str(caught.value)
    await store.close()


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError):
        RedisBreakers("http://127.0.0.1")
