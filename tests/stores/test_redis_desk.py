"""Windows in Redis as operators see them: nothing is counted by looking, and what is done holds at once."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from scopegate.errors import ConfigError, StoreUnavailable
from scopegate.limits.barriers import Ban, BanRule, ban_of
from scopegate.limits.window import Quota, Window, window_key
from scopegate.stores.redis_desk import RedisDesk
from scopegate.stores.redis_limits import RedisLimits
from tests.valkey import Server

RULE = BanRule(strikes=2, within_ms=60_000, for_ms=60_000)


def window(quota: Quota) -> Window:
    return Window("a", window_key("a", quota, uuid.uuid4().hex), quota)


def ban() -> Ban:
    return ban_of("a", uuid.uuid4().hex, RULE, "", 0, 1)


@pytest.fixture
async def desk(valkey_url: str) -> AsyncIterator[RedisDesk]:
    desk = RedisDesk(valkey_url)
    yield desk
    await desk.close()


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[RedisLimits]:
    store = RedisLimits(valkey_url, timeout_s=10)
    yield store
    await store.close()


@pytest.mark.parametrize("quota", [Quota(3, 60_000), Quota(6, 60_000, 3)])
async def test_looking_counts_nothing(desk: RedisDesk, store: RedisLimits, quota: Quota) -> None:
    one, other = window(quota), window(quota)
    for _ in range(2):
        await store.spend([one])
    for _ in range(3):
        first, second = await desk.look([one, other])
    assert (first.counted, second) == (2, (0, 0))
    assert 0 < first.left_ms <= 60_000
    assert (await store.spend([one])).standings[0].remaining == 0


async def test_what_is_forgotten_begins_anew(desk: RedisDesk, store: RedisLimits) -> None:
    one, other = window(Quota(1, 60_000)), window(Quota(1, 60_000))
    assert [(await store.spend([one])).admitted for _ in range(2)] == [True, False]
    assert await desk.forget([one, other]) == 1
    assert (await store.spend([one])).admitted


async def test_a_sentence_bans_and_is_forgotten(desk: RedisDesk, store: RedisLimits) -> None:
    one, banned = window(Quota(9, 60_000)), ban()
    assert (await store.spend([one], [banned])).admitted
    await desk.sentence([banned.sentence])
    [held] = await desk.look([banned.sentence])
    assert 50_000 < held.left_ms <= 60_000
    assert not (await store.spend([one], [banned])).admitted
    await desk.forget([banned.strikes, banned.sentence])
    assert (await store.spend([one], [banned])).admitted


async def test_a_redis_that_is_gone_is_an_outage(server: Server) -> None:
    desk = RedisDesk(server.url)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await desk.look([window(Quota(1, 1))])
    await desk.close()


def test_an_address_that_is_none() -> None:
    with pytest.raises(ConfigError):
        RedisDesk("http://127.0.0.1/")


async def test_a_server_says_what_it_is(desk: RedisDesk) -> None:
    about = await desk.about()
    assert about.version[0].isdigit()
    assert about.memory_policy == "noeviction"
    assert abs(about.ahead_s) < 60


async def test_a_server_that_is_gone_says_nothing(server: Server) -> None:
    desk = RedisDesk(server.url)
    server.kill()
    with pytest.raises(StoreUnavailable):
        await desk.about()
    await desk.close()
