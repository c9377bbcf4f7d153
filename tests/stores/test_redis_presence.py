"""Who counts in Redis: how many are alive, whose clock, and what is put back where data were lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from scopegate.clock import ManualClock, SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.limits.barriers import BanRule, Barrier, Seats, ban_of
from scopegate.limits.window import Quota, Window, window_key
from scopegate.stores.mirror import Mirror
from scopegate.stores.redis_limits import RedisLimits
from scopegate.stores.redis_presence import Presence
from tests.valkey import Server

HOUR_US = 3_600_000_000
CLOCK = "scopegate:{w}:clock"


def window(limit: int = 3, span_ms: int = 60_000, key: str = "k", burst: int = 0) -> Window:
    quota = Quota(limit, span_ms, burst)
    return Window("strict", window_key("strict", quota, key), quota)


class Counting:
    """A process that counts in Redis."""

    def __init__(self, url: str) -> None:
        self.mirror = Mirror(SystemClock())
        self.store = RedisLimits(url, timeout_s=20, mirror=self.mirror)

    async def spend(self, *windows: Window, past: Sequence[Barrier] = ()) -> bool:
        """As a gateway asks: alone while the server is away."""
        try:
            spent = await self.store.spend(windows, past)
        except StoreUnavailable:
            return self.mirror.spend_alone(windows, past).admitted
        self.mirror.saw(spent, past)
        return spent.admitted

    async def times(self, one: Window, times: int) -> int:
        return sum([await self.spend(one) for _ in range(times)])

    async def back(self) -> None:
        """Until the server answers."""
        async with asyncio.timeout(30):
            while True:
                with suppress(StoreUnavailable):
                    await self.store.spend([window(key="any", limit=10_000)])
                    return
                await asyncio.sleep(0.02)

    async def beats(self, true: Callable[[], bool]) -> None:
        """Until it is true."""
        async with asyncio.timeout(30):
            while not true():
                self.store._beat()
                await asyncio.sleep(0.02)


@asynccontextmanager
async def counting(server: Server, how_many: int = 1) -> AsyncIterator[list[Counting]]:
    all_of_them = [Counting(server.url) for _ in range(how_many)]
    try:
        yield all_of_them
    finally:
        for one in all_of_them:
            await one.store.close()


async def test_each_hears_how_many_are_alive(server: Server) -> None:
    async with counting(server, 3) as (first, second, third):
        await first.spend(window())
        assert first.mirror.gateways == 1
        await second.spend(window())
        assert second.mirror.gateways == 2
        await third.spend(window())
        await first.beats(lambda: first.mirror.gateways == 3)


async def test_who_is_gone_is_counted_no_more_after_some_seconds(server: Server) -> None:
    async with counting(server, 2) as (first, second):
        await first.spend(window())
        await second.spend(window())
        await second.store.close()
        await first.beats(lambda: first.mirror.gateways == 2)
        for member in server.run("ZRANGE", "scopegate:{w}:live:gateway", 0, -1):  # five seconds pass
            server.run("ZINCRBY", "scopegate:{w}:live:gateway", -5_000_001, member)
        await first.beats(lambda: first.mirror.gateways == 1)


def test_fewer_are_believed_when_some_beats_have_said_so() -> None:
    mirror = Mirror(SystemClock())
    presence = Presence(mirror, SystemClock(), lambda: b"$0\r\n\r\n", "gateway")
    believed = []
    for count in (4, 1, 1, 1, 1, 1, 1, 2):
        presence.heard([count, b"m", 0])
        believed.append(mirror.gateways)
    assert believed == [4, 4, 4, 4, 4, 4, 1, 2]


async def test_workers_are_not_counted_among_gateways(server: Server) -> None:
    worker = RedisLimits(server.url, timeout_s=20, role="worker")
    async with counting(server) as (gateway,):
        await worker.spend([window()])
        await gateway.spend(window())
        assert gateway.mirror.gateways == 1
    await worker.close()


# ── the clock ───────────────────────────────────────────────────────────────────────────────────────────────────────
# As the scripts see it, a server's clock was set when its time does not follow on that of the last beat.


def set_clock(server: Server, by_us: int) -> None:
    server.run("HINCRBY", CLOCK, "server", -by_us)


@pytest.mark.parametrize("by_us", [-HOUR_US, -70_000_000, 70_000_000, HOUR_US])
@pytest.mark.parametrize("burst", [0, 3])
async def test_a_servers_clock_that_is_set_neither_empties_nor_freezes_windows(
    server: Server, by_us: int, burst: int
) -> None:
    async with counting(server) as (one,):
        full, short = window(burst=burst), window(2, 3_000, key="short", burst=burst and 2)
        assert await one.times(full, 4) == 3
        assert await one.times(short, 3) == 2
        set_clock(server, by_us)
        assert await one.times(full, 2) == 0, "at once, before any beat"
        assert await one.times(short, 1) == 0
        await one.beats(lambda: abs(time.time_ns() // 1000 - int(server.run("HGET", CLOCK, "server"))) < 1_000_000)
        assert abs(behind_us(server)) < 2_000_000
        assert await one.times(full, 2) == 0
        async with asyncio.timeout(20):  # a span and what the clock stood still
            while not await one.spend(short):
                await asyncio.sleep(0.1)


def behind_us(server: Server) -> int:
    """How far the clock of all is behind the server's."""
    told, now = server.run("HMGET", CLOCK, "server", "now")
    return int(told) - int(now)


async def test_keys_that_end_because_the_clock_was_set_ahead_are_put_back(server: Server) -> None:
    """By an hour: the server ends all keys at once."""
    async with counting(server, 2) as (one, other):
        full, elsewhere = window(), window(key="elsewhere")
        ban = ban_of("strict", "banned", BanRule(1, 1_000, 60_000), "", 0, 1)
        seat = Seats("strict", "seat", 1, "holder")
        assert await one.times(full, 4) == 3
        assert await other.times(elsewhere, 4) == 3
        assert not await one.spend(full, past=[ban])
        assert await one.spend(window(key="seat"), past=[seat])
        keys = [key for key in server.run("KEYS", "*") if ":live:" not in key and not key.endswith(":clock")]
        server.run("DEL", *keys)
        set_clock(server, HOUR_US)
        assert await one.times(full, 3) == 0
        assert not await one.spend(window(key="free"), past=[ban])
        assert not await one.spend(window(key="free"), past=[Seats("strict", "seat", 1, "another")])
        await other.beats(lambda: server.run("EXISTS", f"scopegate:{{w}}:{elsewhere.key}"))
        await other.back()
        assert await other.times(elsewhere, 3) == 0
        assert await other.times(full, 3) == 0, "it is in the server again"
        assert not await other.spend(window(key="free"), past=[ban])
        assert not await other.spend(window(key="free"), past=[Seats("strict", "seat", 1, "third")])
        assert all(server.run("PTTL", key) > 0 for key in server.run("KEYS", "*"))


async def test_time_without_a_gateway_is_time(server: Server) -> None:
    """The first beat of a process tells nothing of what passed before it."""
    async with counting(server, 2) as (before, after):
        assert await before.times(window(), 4) == 3
        await before.store.close()
        server.run("HINCRBY", CLOCK, "server", -HOUR_US)  # it was beaten, and
        server.run("HINCRBY", CLOCK, "now", -HOUR_US)  # counted, an hour ago
        times = server.run("LRANGE", key := f"scopegate:{{w}}:{window().key}", 0, -1)
        server.run("DEL", key)
        server.run("RPUSH", key, *[int(time) - HOUR_US for time in times])
        assert await after.times(window(), 4) == 3


async def test_a_process_that_was_cut_off_for_an_hour_brings_an_hour_along(server: Server) -> None:
    clock = ManualClock()
    presence = Presence(None, clock, lambda: b"$0\r\n\r\n", "gateway")

    async def ask(command: bytes) -> object:
        words = command.split(b"\r\n")[2::2]
        with server.client() as outside:
            count, mark, was_set = outside.execute_command(*words)
        return [count, mark.encode(), was_set]

    await presence.come(ask)
    for field in ("server", "now"):
        server.run("HINCRBY", CLOCK, field, -HOUR_US)
    clock.advance(3_600)
    await presence.come(ask)
    assert abs(behind_us(server)) < 2_000_000


# ── data that are lost ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_bans_and_seats_come_back_too_and_those_that_were_given_meanwhile(server: Server) -> None:
    ban, later = (ban_of("strict", key, BanRule(1, 1_000, 60_000), "", 0, 1) for key in ("banned", "later"))
    before, meanwhile, left = (Seats("strict", f"seat-{name}", 1, name) for name in ("before", "meanwhile", "left"))
    async with counting(server, 2) as (one, other):
        assert await one.times(window(), 4) == 3
        assert not await one.spend(window(), past=[ban])
        for each in (before, left):
            assert await one.spend(window(key=each.key), past=[each])
        server.kill()
        one.store.leave([left])
        one.mirror.leave([left])
        while not one.mirror._debts:
            await one.spend(window(key="some"))
        assert await one.spend(window(key=meanwhile.key), past=[meanwhile])
        assert not await one.spend(window(), past=[later])
        server.start()
        await one.back()
        await other.back()
        barriers: list[Barrier] = [ban, later, *[replace(each, holder="other") for each in (before, meanwhile)]]
        for barrier in barriers:
            assert not await other.spend(window(key="free"), past=[barrier]), barrier
        assert await other.spend(window(key="free"), past=[replace(left, holder="other")])
        for each in (before, meanwhile):
            one.store.leave([each])
        await one.spend(window(key="some"))
        for each in (before, meanwhile):
            assert await other.spend(window(key=f"free-{each.key}"), past=[replace(each, holder="other")])


@pytest.mark.parametrize("burst", [0, 3])
async def test_a_server_that_comes_back_empty_is_told_what_was_counted(server: Server, burst: int) -> None:
    async with counting(server) as (one,):
        windows = [window(key=str(n), burst=burst) for n in range(300)]
        for each in windows:
            assert await one.times(each, 2) == 2
        server.kill()
        server.start()
        await asyncio.sleep(0.05)  # the loop reads of the hang-up
        assert [await one.times(each, 2) for each in windows] == [1] * 300
        assert all(server.run("PTTL", f"scopegate:{{w}}:{each.key}") > 0 for each in windows)


async def test_one_that_kept_its_data_is_not_told_again(server: Server) -> None:
    async with counting(server) as (one,):
        assert await one.times(window(), 2) == 2
        server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        assert await one.times(window(), 2) == 1


async def test_who_flushes_a_server_that_runs_begins_anew(server: Server) -> None:
    async with counting(server) as (one,):
        assert await one.times(window(), 4) == 3
        server.run("FLUSHALL")
        assert await one.times(window(), 4) == 3


async def test_a_server_that_kept_its_data_hears_of_the_bans_given_meanwhile(server: Server) -> None:
    ban = ban_of("strict", "banned", BanRule(1, 1_000, 60_000), "", 0, 1)
    async with counting(server, 2) as (one, other):
        assert await one.times(window(), 4) == 3
        await other.back()
        assert not one.mirror.spend_alone([window()], [ban]).admitted
        server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        await one.back()
        await other.back()
        assert not await other.spend(window(key="free"), past=[ban])


async def test_many_admissions_of_one_key_come_back_whole(server: Server) -> None:
    async with counting(server) as (one,):
        wide = window(limit=20_000)
        for _ in range(15_000):
            one.mirror.spend_alone([wide])
        assert (await one.store.spend([wide])).standings[0].remaining == 4_999
