"""Wake-ups through a real Valkey: delivered once, never kept out, never unpickled, alive through its restarts."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from scopegate.clock import ManualClock, SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.stores.embedded import EmbeddedValkey
from scopegate.stores.queue import QUEUE, ArqMessenger, NoMessenger, WakeUps, _load
from tests.engines import missing


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey.find(tmp_path) or missing("Valkey")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def messenger(valkey: EmbeddedValkey) -> AsyncIterator[ArqMessenger]:
    opened = ArqMessenger(valkey.url, ManualClock())
    yield opened
    await opened.close()


class Runs:
    """A worker's side that remembers what it was told to run; `gate` holds the runs back."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.now = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._changed = asyncio.Condition()

    async def run(self, job_id: str) -> None:
        self.ids.append(job_id)
        self.now += 1
        self.most = max(self.most, self.now)
        await self._tell()
        try:
            await self.gate.wait()
            if job_id.startswith("bad"):
                raise RuntimeError("this run fails")
        finally:
            self.now -= 1
            await self._tell()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def receiving(
    valkey: EmbeddedValkey, runs: Runs, at_once: int = 10, drain_s: float = 5.0, acknowledge_s: float = 10.0
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    wake_ups = WakeUps(
        valkey.url, runs.run, SystemClock(), at_once=at_once, drain_s=lambda: drain_s, acknowledge_s=acknowledge_s
    )
    serving = asyncio.create_task(wake_ups.serve(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await serving


async def keys(valkey: EmbeddedValkey) -> set[bytes]:
    async with Redis.from_url(valkey.url) as redis:
        return {key for key in await redis.keys("*") if not key.endswith(b":health-check")}


async def test_a_wake_up_reaches_a_worker_and_leaves_nothing(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    runs = Runs()
    async with receiving(valkey, runs):
        await messenger.wake("job_1")
        await runs.until(lambda: runs.ids == ["job_1"] and not runs.now)
        async with asyncio.timeout(5):
            while await keys(valkey):
                await asyncio.sleep(0.02)


async def test_a_finished_wake_up_does_not_block_the_next(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    runs = Runs()
    async with receiving(valkey, runs):
        for n in range(1, 4):  # the clock stands still: all have the same id
            async with asyncio.timeout(5):
                while await keys(valkey):
                    await asyncio.sleep(0.02)
            await messenger.wake("job_1")
            await runs.until(lambda n=n: len(runs.ids) == n)  # type: ignore[misc]


async def test_many_at_once_are_one_and_a_later_one_is_another(valkey: EmbeddedValkey) -> None:
    clock = ManualClock()
    messenger = ArqMessenger(valkey.url, clock)
    await asyncio.gather(*(messenger.wake("job_1") for _ in range(20)))
    async with Redis.from_url(valkey.url) as redis:
        assert await redis.zcard(QUEUE) == 1
        clock.advance(10)
        await messenger.wake("job_1")
        assert await redis.zcard(QUEUE) == 2
        assert 0 < await redis.pttl(b"arq:job:" + (await redis.zrange(QUEUE, 0, 0))[0]) <= 600_000
    await messenger.close()


async def test_what_travels_is_json(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    await messenger.wake("job_1")
    async with Redis.from_url(valkey.url) as redis:
        [name] = await redis.keys("arq:job:*")
        payload = json.loads(await redis.get(name))
    assert (payload["f"], payload["a"], payload["k"]) == ("run_job", ["job_1"], {})


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


async def test_a_pickle_in_redis_is_refused_unread(
    valkey: EmbeddedValkey, messenger: ArqMessenger, tmp_path: Path
) -> None:
    crater = tmp_path / "crater"
    payload: dict[str, object] = {"t": None, "f": "run_job", "a": (Bomb(crater),), "k": {}, "et": 1}
    async with Redis.from_url(valkey.url) as redis:
        await redis.set("arq:job:evil", pickle.dumps(payload))
        await redis.zadd(QUEUE, {"evil": 1})
    runs = Runs()
    async with receiving(valkey, runs):
        await messenger.wake("job_1")
        await runs.until(lambda: runs.ids == ["job_1"])
        async with asyncio.timeout(5):
            while await keys(valkey):
                await asyncio.sleep(0.02)
    assert not crater.exists()
    pickle.loads(pickle.dumps(payload))
    assert crater.exists()  # the bomb was live


GOOD: dict[str, object] = {"t": None, "f": "run_job", "a": ["job_1"], "k": {}, "et": 1}


def test_a_wake_up_loads() -> None:
    assert _load(json.dumps(GOOD).encode()) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"a": []},
        {"a": [1]},
        {"a": ["x", "y"]},
        {"a": "x"},
        {"k": {"x": 1}},
        {"k": []},
        {"f": 1},
        {"t": "1"},
        {"et": None},
        {"et": "1"},
    ],
)
def test_anything_else_does_not(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a wake-up"):
        _load(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b"{}"])
def test_nor_does_nonsense(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        _load(raw)


async def test_malformed_wake_ups_do_not_stop_the_receiver(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    async with Redis.from_url(valkey.url) as redis:
        changes: list[dict[str, object]] = [{"et": "x"}, {"f": "other"}, {"a": [[]]}, {"t": 99}, {"k": {"a": 1}}]
        for n, change in enumerate(changes):
            await redis.set(f"arq:job:odd-{n}", json.dumps(GOOD | change))
            await redis.zadd(QUEUE, {f"odd-{n}": 1, "expired": 1})
    runs = Runs()
    async with receiving(valkey, runs):
        await messenger.wake("job_2")
        await runs.until(lambda: runs.ids == ["job_2"])


async def test_a_run_that_fails_is_logged_and_the_next_one_runs(
    valkey: EmbeddedValkey, messenger: ArqMessenger, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()
    async with receiving(valkey, runs):
        await messenger.wake("bad_1")
        await messenger.wake("job_2")
        await runs.until(lambda: set(runs.ids) == {"bad_1", "job_2"} and not runs.now)
    ours = [record for record in caplog.records if record.name.startswith("scopegate")]  # arq's tasks may end late
    assert [record.message for record in ours if record.levelname == "ERROR"] == ["queue.run_failed"]


async def test_no_more_run_at_once_than_allowed(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    runs = Runs()
    runs.gate.clear()
    for n in range(9):
        await messenger.wake(f"job_{n}")
    async with receiving(valkey, runs, at_once=3):
        await runs.until(lambda: runs.now == 3)
        runs.gate.set()
        await runs.until(lambda: len(set(runs.ids)) == 9 and not runs.now)
    assert runs.most == 3


async def test_long_runs_keep_their_slots_after_the_wake_up_is_acknowledged(
    valkey: EmbeddedValkey, messenger: ArqMessenger
) -> None:
    runs = Runs()
    runs.gate.clear()
    for n in range(6):
        await messenger.wake(f"job_{n}")
    async with receiving(valkey, runs, at_once=2, acknowledge_s=0.1):
        async with asyncio.timeout(5):
            while await keys(valkey):  # all six are acknowledged: two run, four stay due in the database
                await asyncio.sleep(0.02)
        assert (len(runs.ids), runs.now) == (2, 2)
        runs.gate.set()
        await runs.until(lambda: runs.now == 0)
        await messenger.wake("job_7")
        await runs.until(lambda: runs.ids[2:] == ["job_7"])


async def test_the_receiver_outlives_a_redis_that_restarts_empty(
    valkey: EmbeddedValkey, messenger: ArqMessenger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()
    runs.gate.clear()
    async with receiving(valkey, runs):
        await messenger.wake("job_1")
        await runs.until(lambda: runs.now == 1)
        await valkey.stop(signal.SIGKILL)
        with pytest.raises(StoreUnavailable):
            await messenger.wake("job_2")
        for log in (tmp_path / "valkey/appendonlydir").iterdir():
            log.unlink()
        async with asyncio.timeout(5):
            while "queue.unreachable" not in {record.message for record in caplog.records}:
                await asyncio.sleep(0.02)
        assert runs.now == 1  # what runs goes on without Redis
        await valkey.start()
        await messenger.wake("job_3")
        await runs.until(lambda: runs.ids == ["job_1", "job_3"])
        runs.gate.set()


async def test_stopping_waits_for_what_runs(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    runs = Runs()
    runs.gate.clear()
    async with receiving(valkey, runs):
        await messenger.wake("job_1")
        await runs.until(lambda: runs.now == 1)
        asyncio.get_running_loop().call_later(0.3, runs.gate.set)
    assert runs.gate.is_set()
    assert runs.now == 0


async def test_stopping_cancels_what_does_not_end_in_time(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    runs = Runs()
    runs.gate.clear()
    async with receiving(valkey, runs, drain_s=0.1):
        await messenger.wake("job_1")
        await runs.until(lambda: runs.now == 1)
    assert runs.now == 0
    assert not runs.gate.is_set()


async def test_stopping_while_redis_is_away_is_quick(valkey: EmbeddedValkey) -> None:
    await valkey.stop()
    async with asyncio.timeout(3):
        async with receiving(valkey, Runs()):
            await asyncio.sleep(0.1)


async def test_it_stops_at_whatever_moment_of_its_start(valkey: EmbeddedValkey) -> None:
    """Cancelled while it connects, arq went on: a worker asked to stop just then was killed 35 s later."""
    async with asyncio.timeout(60):
        for turns in range(60):
            stop = asyncio.Event()
            serving = asyncio.create_task(WakeUps(valkey.url, Runs().run, SystemClock()).serve(stop))
            for _ in range(turns):
                await asyncio.sleep(0)
            stop.set()
            await serving


async def test_a_messenger_without_redis_says_so_within_a_second_and_a_half(tmp_path: Path) -> None:
    messenger = ArqMessenger(f"unix://{tmp_path}/none", SystemClock())
    async with asyncio.timeout(1.5):
        with pytest.raises(StoreUnavailable) as caught:
            await messenger.wake("job_1")
    assert caught.value.kind == "connect"
    await messenger.close()


async def test_a_redis_that_hangs_is_a_timeout(valkey: EmbeddedValkey, messenger: ArqMessenger) -> None:
    async with Redis.from_url(valkey.url) as redis:
        pid = (await redis.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailable) as caught:
                await messenger.wake("job_1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert caught.value.kind == "timeout"


async def test_no_messenger_does_nothing() -> None:
    messenger = NoMessenger()
    await messenger.wake("job_1")
    await messenger.close()
