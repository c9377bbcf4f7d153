"""Limits in Redis: exact over several clients on the server's clock, few round trips, bounded keys."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import redis.asyncio

from scopegate.clock import ManualClock, SystemClock
from scopegate.errors import ConfigError
from scopegate.limits.barriers import BanRule, Seats, ban_of
from scopegate.limits.footprint import in_redis, seats_in_redis
from scopegate.limits.window import Quota, Spent, Window, amended, window_key
from scopegate.stores.mirror import Mirror
from scopegate.stores.redis_desk import RedisDesk
from scopegate.stores.redis_limits import RedisLimits
from tests.valkey import Server

TIMEOUT_S = 10.0


def window(limit: int, span_ms: int, key: str | None = None, name: str = "strict") -> Window:
    quota = Quota(limit, span_ms)
    return Window(name, window_key(name, quota, key or uuid.uuid4().hex), quota)


Opener = Callable[..., RedisLimits]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Opens stores and closes them at the end."""
    stores: list[RedisLimits] = []

    def open_one(url: str, clock: ManualClock | None = None) -> RedisLimits:
        stores.append(RedisLimits(url, timeout_s=TIMEOUT_S, clock=clock))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Opener, valkey_url: str) -> RedisLimits:
    return opened(valkey_url)


@pytest.mark.parametrize("engine", ["valkey", "redis"])
async def test_exactly_the_limit_at_any_concurrency(
    opened: Opener, engine: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{engine}_url")
    clients = [opened(url), opened(url)]
    for _ in range(5):
        shared = window(100, 60_000)
        verdicts = await asyncio.gather(*[clients[n % 2].spend([shared]) for n in range(200)])
        assert sum(verdict.admitted for verdict in verdicts) == 100
        assert sorted(v.standings[0].remaining for v in verdicts if v.admitted) == list(range(100))
        assert all(0 < v.retry_after_ms <= 60_000 for v in verdicts if not v.admitted)


async def test_the_servers_clock_decides(store: RedisLimits) -> None:
    short = window(1, 40)
    assert (await store.spend([short])).admitted
    refused = await store.spend([short])
    assert not refused.admitted
    assert 0 < refused.retry_after_ms <= 40
    while not (await store.spend([short])).admitted:
        pass  # the server's time passes; each refusal costs a round trip and counts nothing


async def test_a_request_is_one_command_however_many_windows(server: Server, opened: Opener) -> None:
    store = opened(server.url)
    await store.spend([window(5, 1_000), window(50, 60_000), window(500, 60_000)])
    await store.spend([window(5, 1_000), window(50, 60_000), window(500, 60_000)])
    assert server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"] == 2


async def test_checks_of_one_turn_leave_in_one_write(server: Server, opened: Opener) -> None:
    store = opened(server.url)
    await store.spend([window(5, 1_000)])
    with server.client() as outside:
        before = outside.info("stats")["total_reads_processed"]
        verdicts = await asyncio.gather(*[store.spend([window(5, 1_000)]) for _ in range(60)])
        after = outside.info("stats")["total_reads_processed"]
    assert all(verdict.admitted for verdict in verdicts)
    assert after - before == 2  # ours (the server reads 16 KiB at a time), and the second INFO


async def test_every_key_is_ours_and_expires(server: Server, opened: Opener) -> None:
    store = opened(server.url)
    for limit, span_ms in ((1, 10), (10, 10_000), (100, 3_600_000)):
        checks = [store.spend([window(limit, span_ms), window(limit, span_ms, name="b")]) for _ in range(300)]
        await asyncio.gather(*checks)
    with server.client() as outside:
        keys = set(outside.scan_iter(count=1_000)) - {"scopegate:{w}:clock", "scopegate:{w}:live:gateway"}
        assert len(keys) == 1_800
        assert all(re.fullmatch(r"scopegate:\{w\}:(strict|b):\d+:\w+", key) for key in keys)
        lives = [(key, outside.pttl(key)) for key in keys]
    for key, life_ms in lives:
        span_ms = int(key.split(":")[3])
        assert life_ms <= span_ms + 60_001
        assert life_ms > 0  # -1 would be a key for ever
    assert 0 < server.run("PTTL", "scopegate:{w}:live:gateway") <= 60_000
    assert 0 < server.run("PTTL", "scopegate:{w}:clock") <= 366 * 86_400_000


@pytest.mark.timeout(300)
async def test_whatever_is_done_no_key_stays_for_ever(server: Server, full: bool) -> None:
    """Admissions, refusals, what is given back and booked, bans, seats, an outage with debts, an operator's ban."""
    mirror = Mirror(SystemClock())
    store = RedisLimits(server.url, timeout_s=TIMEOUT_S, mirror=mirror)
    desk = RedisDesk(server.url)
    keys = [f"{n:024x}" for n in range(5_000 if full else 200)]
    quotas = Quota(3, 60_000), Quota(5, 60_000, 2)
    for key in keys:
        windows = [Window(f"t{n}", window_key(f"t{n}", quota, key), quota, cost=2) for n, quota in enumerate(quotas)]
        ban = ban_of("t0", key, BanRule(2, 1_000, 20_000), "", 0, 1)
        checks = [store.spend(windows, [ban, Seats("t", f"t:seats:{key}", 9, f"{key}{n}")]) for n in range(4)]
        first = (await asyncio.gather(*checks))[0]
        store.amend(
            [amended(standing, more, first.at_us) for standing, more in zip(first.standings, (-1, 1), strict=True)]
        )
        mirror.spend_alone([window(9, 60_000, f"alone{key}")], [seat(f"alone:{key}")])
    await desk.sentence([ban.sentence])
    server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)
    await store.spend([window(1, 10)])
    with server.client() as outside:
        lives = {key: outside.pttl(key) for key in outside.scan_iter(count=1_000)}
    assert len(lives) >= 5 * len(keys)
    assert not [key for key, life_ms in lives.items() if life_ms <= 0]
    await desk.close()
    await store.close()


async def test_a_hundred_per_ten_seconds_take_at_most_2_kib(server: Server, opened: Opener) -> None:
    store = opened(server.url)
    full = window(100, 10_000, "203.0.113.7", "lenient")
    await asyncio.gather(*[store.spend([full]) for _ in range(150)])
    assert server.run("LLEN", "scopegate:{w}:lenient:10000:203.0.113.7") == 100
    assert server.run("MEMORY", "USAGE", "scopegate:{w}:lenient:10000:203.0.113.7") <= 2_048


@pytest.mark.parametrize("quota", [Quota(n, 60_000) for n in (1, 10, 100, 1_000, 10_000)] + [Quota(100, 60_000, 9)])
@pytest.mark.parametrize("engine", ["valkey", "redis"])
async def test_a_busy_key_costs_no_more_than_check_says(
    opened: Opener, request: pytest.FixtureRequest, engine: str, quota: Quota
) -> None:
    url = request.getfixturevalue(f"{engine}_url")
    key = f"a-tier-with-a-long-name:60000:{uuid.uuid4().hex[:24]}"
    store = opened(url)
    for _ in range(3):
        await store.spend([Window("w", key, quota, cost=max(1, quota.most // 3))])
    while (await store.spend([Window("w", key, quota)])).admitted:
        pass
    async with aclosing(redis.asyncio.from_url(url)) as client:
        used = await client.memory_usage("scopegate:{w}:" + key, samples=0)
    assert in_redis(quota) * 0.5 < used <= in_redis(quota)


@pytest.mark.parametrize("most", [1, 5, 128, 129, 2_000])
@pytest.mark.parametrize("engine", ["valkey", "redis"])
async def test_seats_cost_no_more_than_check_says(
    opened: Opener, request: pytest.FixtureRequest, engine: str, most: int
) -> None:
    url = request.getfixturevalue(f"{engine}_url")
    key = f"a-tier-with-a-long-name:seats:{uuid.uuid4().hex[:24]}"
    store = opened(url)
    seats = [Seats("s", key, most, f"0123456789ab{10_000_000 + n}") for n in range(most)]
    assert all(spent.admitted for spent in await asyncio.gather(*[store.spend([], [each]) for each in seats]))
    async with aclosing(redis.asyncio.from_url(url)) as client:
        used = await client.memory_usage("scopegate:{w}:" + key, samples=0)
    assert seats_in_redis(most) * 0.5 < used <= seats_in_redis(most)
    store.leave(seats)


async def test_a_log_never_outgrows_its_limit(server: Server, opened: Opener) -> None:
    clock = ManualClock()
    store = opened(server.url, clock)
    one = window(10, 50, "k")
    for _ in range(1_000):
        clock.advance(0.004)
        await store.spend([one])
    assert server.run("LLEN", "scopegate:{w}:strict:50:k") <= 10


async def test_a_server_clock_set_back_a_little_admits_no_more(opened: Opener, valkey_url: str) -> None:
    clock = ManualClock()
    store, one = opened(valkey_url, clock), window(2, 10_000)
    assert (await store.spend([one])).admitted
    clock.advance(-3)
    assert (await store.spend([one])).admitted
    clock.advance(9.999)
    assert not (await store.spend([one])).admitted
    clock.advance(0.001)  # the first counts as made at the second
    assert [(await store.spend([one])).admitted for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("quota", [Quota(2, 10_000), Quota(20, 10_000, 20), Quota(20, 10_000, 1)])
@pytest.mark.parametrize("back_s", [0.5, 3, 60, 3_600])
async def test_a_server_clock_set_back_empties_no_window_and_freezes_none(
    opened: Opener, valkey_url: str, back_s: float, quota: Quota
) -> None:
    clock = ManualClock()
    store, one = opened(valkey_url, clock), Window("strict", uuid.uuid4().hex, quota)
    while (refused := await store.spend([one])).admitted:
        pass
    waits_ms = refused.retry_after_ms
    clock.advance(-back_s)
    again = await store.spend([one])
    assert not again.admitted
    assert waits_ms <= again.retry_after_ms <= quota.span_ms
    for _ in range(3):  # asking does not make it longer
        clock.advance(again.retry_after_ms / 4_000)
        assert not (await store.spend([one])).admitted
    clock.advance(again.retry_after_ms / 4_000)
    assert (await store.spend([one])).admitted


async def test_a_cancelled_caller_disturbs_nobody(store: RedisLimits) -> None:
    one = window(100, 60_000)
    checks = [store.spend([one]) for _ in range(10)]
    checks[3].cancel()
    answers = await asyncio.gather(*checks, return_exceptions=True)
    assert isinstance(answers[3], asyncio.CancelledError)
    assert [a.standings[0].remaining for a in answers if isinstance(a, Spent)] == [99, 98, 97, 95, 94, 93, 92, 91, 90]


async def test_quotas_are_told_apart_by_value_over_many_reloads(store: RedisLimits) -> None:
    key = uuid.uuid4().hex
    verdicts = [await store.spend([window(3, 60_000, key)]) for _ in range(1_500)]
    assert [verdict.admitted for verdict in verdicts[:5]] == [True, True, True, False, False]
    assert not verdicts[-1].admitted


async def test_unix_sockets_and_databases(server: Server, opened: Opener) -> None:
    await opened(server.unix_url.replace("db=0", "db=3")).spend([window(1, 60_000)])
    await opened(server.url.replace("/0", "/5")).spend([window(1, 60_000)])
    assert {name: stats["keys"] for name, stats in server.run("INFO", "keyspace").items()} == {"db3": 3, "db5": 3}


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "redis://h?timeout=x", "://:hunter2@x", ""])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisLimits(url)
    assert str(caught.value) == "REDIS_URL: is not a redis://, rediss:// or unix:// address"


def seat(key: str, most: int = 1) -> Seats:
    return Seats("s", key, most, uuid.uuid4().hex)


async def test_a_killed_gateways_seats_are_free_after_five_seconds(opened: Opener, valkey_url: str) -> None:
    clock, key = ManualClock(), uuid.uuid4().hex
    killed, other = opened(valkey_url, clock), opened(valkey_url, clock)
    assert (await killed.spend([], [seat(key)])).admitted
    await killed.close()
    clock.advance(4.999)
    assert not (await other.spend([], [seat(key)])).admitted
    clock.advance(0.001)
    assert (await other.spend([], [seat(key)])).admitted


async def test_a_seat_is_held_as_long_as_its_request_takes(opened: Opener, valkey_url: str) -> None:
    clock, key = ManualClock(), uuid.uuid4().hex
    store, other = opened(valkey_url, clock), opened(valkey_url, clock)
    mine = seat(key)
    assert (await store.spend([], [mine])).admitted
    for _ in range(4):
        clock.advance(4)
        store._renew()
        assert store._renewal is not None, "and again"
        await store.spend([window(1, 1000)])
        assert not (await other.spend([], [seat(key)])).admitted
    store.leave([mine])
    store._renew()
    await store.spend([window(1, 1000)])
    assert (await other.spend([], [seat(key)])).admitted, "what was left is not taken again"


async def test_who_leaves_before_the_answer_leaves_after_it(opened: Opener, valkey_url: str) -> None:
    key, store = uuid.uuid4().hex, opened(valkey_url)
    mine = seat(key)
    future = store.spend([], [mine])
    future.cancel()
    store.leave([mine])
    assert (await store.spend([], [seat(key)])).admitted


async def test_bans_and_seats_expire_and_stand_in_the_slot_of_all_windows(server: Server, opened: Opener) -> None:
    store, one = opened(server.url), window(1, 10_000)
    ban = ban_of("s", uuid.uuid4().hex, BanRule(2, 1_000, 20_000), "", 0, 1)
    for _ in range(4):
        await store.spend([one], [ban, seat("k", 9)])
    with server.client() as outside:
        keys = list(outside.scan_iter(count=1_000))
        assert len(keys) >= 4, keys
        assert all(key.startswith("scopegate:{w}:") for key in keys)
        assert all(outside.pttl(key) > 0 for key in keys)


async def test_a_request_with_barriers_is_one_command(server: Server, opened: Opener) -> None:
    store = opened(server.url)
    windows = [window(9, span, name=name) for name in ("a", "b", "c") for span in (1_000, 60_000)]
    ban = ban_of("a", uuid.uuid4().hex, BanRule(2, 1_000, 20_000), "", 0, 2)
    assert (await store.spend(windows, [ban, seat("k")])).admitted
    assert server.run("INFO", "commandstats")["cmdstat_evalsha"]["calls"] == 1
