"""Servers that real Sentinels watch: the master is killed while requests are counted, and its replica takes over."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from scopegate.clock import SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.limits.window import Quota, Window, window_key
from scopegate.policy.sentinels import parse
from scopegate.stores.mirror import Mirror
from scopegate.stores.queue import ArqMessenger
from scopegate.stores.redis_limits import RedisLimits
from scopegate.stores.sentinel import master_of
from tests.ports import free_port
from tests.valkey import Server, binary

report = sys.stdout.write


class House:
    """A master, a replica of it and a Sentinel."""

    def __init__(self, folder: Path) -> None:
        for name in ("one", "two"):
            (folder / name).mkdir()
        self.master = Server(folder / "one").start()
        self.replica = Server(folder / "two", "valkey", "--replicaof", "127.0.0.1", str(self.master.port)).start()
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n"
        )
        with (folder / "log").open("wb") as log:
            command = [binary("valkey"), str(config), "--sentinel"]
            self.sentinel = subprocess.Popen(command, stdout=log, stderr=log)
        self.url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.port}/mymaster/0"

    def knows_its_replica(self) -> bool:
        try:
            with Redis(port=self.port, decode_responses=True) as client:
                told = client.execute_command("INFO", "sentinel")["master0"]
                return bool(told["slaves"] == 1 and told["status"] == "ok")
        except (RedisError, KeyError):
            return False

    def close(self) -> None:
        self.sentinel.kill()
        self.sentinel.wait()
        self.master.kill()
        self.replica.kill()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    give_up_s = time.monotonic() + 30
    try:
        while not house.knows_its_replica():
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        yield house
    finally:
        house.close()


async def test_never_more_than_the_limit_over_a_failover(house: House) -> None:
    mirror = Mirror(SystemClock())
    store = RedisLimits(house.url, mirror=mirror, timeout_s=0.5)
    states: list[bool] = []
    store.listen(lambda error: states.append(error is None))
    await store.open()
    quota = Quota(10, 600_000)
    window = Window("w", window_key("w", quota, "k"), quota)
    admitted = asked = 0

    async def ask() -> None:
        nonlocal admitted, asked
        asked += 1
        try:
            spent = await store.spend([window])
            mirror.saw(spent)
        except StoreUnavailable:
            spent = mirror.spend_alone([window])
        admitted += spent.admitted

    for _ in range(6):
        await ask()
    house.master.kill()
    killed_s = time.monotonic()
    while True not in states[-1:] and time.monotonic() < killed_s + 30:
        await ask()
        await asyncio.sleep(0.02)
    report(f"counted by the replica {time.monotonic() - killed_s:.2f} s after the kill; {asked} asked\n")
    assert states[:2] == [False, True]
    assert await master_of(parse(house.url)) == ("127.0.0.1", house.replica.port)
    for _ in range(20):
        await ask()
    assert admitted == 10
    assert house.replica.run("LLEN", f"scopegate:{{w}}:{window.key}") == 10
    await store.close()


async def test_jobs_are_announced_to_the_master_of_the_moment(house: House) -> None:
    messenger = ArqMessenger(house.url, SystemClock())
    await messenger.ping()
    house.master.kill()
    give_up_s = time.monotonic() + 30
    while True:
        try:
            await messenger.wake("job")
            break
        except StoreUnavailable:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.1)
    assert house.replica.run("ZCARD", "scopegate:wake") == 1
    await messenger.close()


async def test_no_sentinel_that_knows_is_an_outage() -> None:
    store = RedisLimits("redis+sentinel://127.0.0.1:1/mymaster", timeout_s=0.5)
    await store.open()
    quota = Quota(1, 1000)
    with pytest.raises(StoreUnavailable):
        await store.spend([Window("w", window_key("w", quota, "k"), quota)])
    await store.close()
