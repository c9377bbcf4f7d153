"""Nine ways in which a Redis fails, under load on a real gateway: what visitors get, what waits, and when it is over.

Verdicts count outcomes: a fault lasts until visitors of every path were served during it, which nobody is who waits for
Redis. Run with `-s --full` it prints the figures of `docs/limits.md`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.flows.processes import Scopegate, scopegate, wait_until
from tests.ports import free_port
from tests.valkey import Server

PATIENCE_S = 30.0
SERVED = 20  # answers to each path while a fault lasts
LIMIT = 10
_POLICY = """\
version: 1
server: {{listen: "127.0.0.1:{port}", timeouts: {{drain: 1s}}}}
upstreams: {{web: {{servers: ["http://127.0.0.1:{app}"]}}}}
tiers:
  local: {{limit: 100000 per 60s, on_store_error: local}}
  allow: {{limit: 100000 per 60s, on_store_error: allow}}
  deny: {{limit: 100000 per 60s, on_store_error: deny}}
  ten: {{limit: {limit} per 60s, on_store_error: local}}
routes:
  - {{name: local, match: GET /local, tier: local}}
  - {{name: allow, match: GET /allow, tier: allow}}
  - {{name: deny, match: GET /deny, tier: deny}}
  - {{name: ten, match: GET /ten, tier: ten}}
  - {{name: free, match: GET /free, tier: none}}
"""
PATHS = ("local", "allow", "deny", "ten")
FREE = "free"
"""What asks nothing of Redis: whoever waits there waits for the machine."""


class Answer(NamedTuple):
    path: str
    at_s: float
    took_s: float
    status: int
    store_error: str


class Relay:
    """Stands between the gateway and Redis: keeps bytes back, or hangs up."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s / 2)
                writer.write(data)
        self._writers.discard(writer)
        writer.transport.abort()

    def reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.reset()
        await asyncio.gather(*self._serving)


class Stage:
    """Redis, the relay, an app, the gateway, and its visitors."""

    def __init__(self, redis: Server, relay: Relay, port: int, gateway: Scopegate) -> None:
        self.redis = redis
        self.relay = relay
        self.gateway = gateway
        self._port = port
        self.answers: list[Answer] = []

    async def visit(self, path: str, stop: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while not stop.is_set():
            begun_s = time.monotonic()
            writer.write(f"GET /{path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            await reader.readexactly(int(fields.get("content-length", "0")))
            took_s, status = time.monotonic() - begun_s, int(head.split()[1])
            said = fields.get("x-ratelimit-store-error", "")
            self.answers.append(Answer(path, begun_s, took_s, status, said))
            await asyncio.sleep(0.004)
        writer.transport.abort()
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """Serving, and with Redis."""
        stop = asyncio.Event()
        visiting = asyncio.create_task(self.visit("local", stop))
        settled = await self.until(lambda: bool(self.answers) and not self.is_away(), 20)
        stop.set()
        await visiting
        self.answers.clear()
        assert settled

    def is_away(self) -> bool:
        """As the last answers say."""
        return any(answer.store_error for answer in self.answers[-8:])

    def is_served_since(self, moment_s: float, during: str) -> bool:
        """Whether every path has answers to requests that began after that moment, some of them without Redis where it
        is `away`."""
        since = [answer for answer in self.answers if answer.at_s >= moment_s]
        served = Counter(answer.path for answer in since)
        away = {answer.path for answer in since if answer.store_error}
        return all(served[path] >= SERVED for path in PATHS) and (not during or away == set(PATHS))

    async def until(self, true: Callable[[], bool], most_s: float) -> bool:
        give_up_s = time.monotonic() + most_s
        while not true() and time.monotonic() < give_up_s:
            await asyncio.sleep(0.01)
        return true()


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def _app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    writer.transport.abort()


@pytest.fixture
async def stage(server: Server, tmp_path: Path) -> AsyncIterator[Stage]:
    relay, port = Relay(server.port), free_port()
    await relay.start()
    async with await asyncio.start_server(_app, "127.0.0.1", 0) as app:
        config = tmp_path / "gateway.yaml"
        config.write_text(_POLICY.format(port=port, app=app.sockets[0].getsockname()[1], limit=LIMIT))
        environ = {
            "REDIS_URL": f"redis://:word@127.0.0.1:{relay.port}/0",
            "SCOPEGATE_STATE_DIR": str(tmp_path / "state"),
        }
        server.run("CONFIG", "SET", "requirepass", "word")
        server._password = "word"
        with scopegate(["gateway", "-c", str(config)], tmp_path, environ) as gateway:
            assert await asyncio.to_thread(wait_until, lambda: is_listening(port)), gateway.errors.read_text()
            stage = Stage(server, relay, port, gateway)
            await stage.settle()
            yield stage
        await relay.stop()
        await asyncio.sleep(0.1)  # the app hears that the gateway is gone


@asynccontextmanager
async def load(stage: Stage) -> AsyncIterator[None]:
    stop = asyncio.Event()
    visitors = [asyncio.create_task(stage.visit(path, stop)) for path in (*PATHS, FREE) * 2]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*visitors)


# ── the faults: each begins, and gives the way to end it ────────────────────────────────────────────────────────────

End = Callable[[], Awaitable[None]]
# What talks to the server does so in a thread: our loop is the visitors' stopwatch.


async def refused(stage: Stage) -> End:
    await asyncio.to_thread(stage.redis.kill)
    return lambda: asyncio.to_thread(_start, stage.redis)


def _start(redis: Server) -> None:
    """With the password that it had."""
    redis._command += ["--requirepass", "word"]
    redis.start()


async def hung(stage: Stage) -> End:
    stage.redis.pause()

    async def end() -> None:
        stage.redis.resume()

    return end


async def reset(stage: Stage) -> End:
    """Again and again, while it lasts."""

    async def hang_up() -> None:
        while True:
            stage.relay.reset()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(hang_up())

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    return end


async def wrong_password(stage: Stage) -> End:
    await asyncio.to_thread(stage.redis.run, "CONFIG", "SET", "requirepass", "other")
    stage.redis._password = "other"
    stage.relay.reset()

    async def end() -> None:
        await asyncio.to_thread(stage.redis.run, "CONFIG", "SET", "requirepass", "word")
        stage.redis._password = "word"

    return end


async def loading(stage: Stage) -> End:
    """It comes back with a file that takes it a while to read."""
    await asyncio.to_thread(stage.redis.run, "EVAL", "for n = 1, 3000 do redis.call('SET', 'other:' .. n, 'x') end", 0)
    await asyncio.to_thread(stage.redis.run, "SAVE")
    await asyncio.to_thread(stage.redis.kill)
    stage.redis._command += ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]
    start = asyncio.create_task(asyncio.to_thread(_start, stage.redis))

    async def end() -> None:
        await start

    return end


async def read_only(stage: Stage) -> End:
    await asyncio.to_thread(stage.redis.run, "REPLICAOF", "127.0.0.1", "1")

    async def end() -> None:
        await asyncio.to_thread(stage.redis.run, "REPLICAOF", "NO", "ONE")

    return end


async def full(stage: Stage) -> End:
    await asyncio.to_thread(stage.redis.run, "CONFIG", "SET", "maxmemory", "1")

    async def end() -> None:
        await asyncio.to_thread(stage.redis.run, "CONFIG", "SET", "maxmemory", "0")

    return end


async def flushed(stage: Stage) -> End:
    """NOSCRIPT, which nobody may notice."""
    await asyncio.to_thread(stage.redis.run, "SCRIPT", "FLUSH")

    async def end() -> None:
        await asyncio.to_thread(stage.redis.run, "SCRIPT", "FLUSH")

    return end


async def slow(stage: Stage) -> End:
    stage.relay.delay_s = 0.2

    async def end() -> None:
        stage.relay.delay_s = 0.0

    return end


FAULTS = {
    "refused": refused,
    "hung (SIGSTOP)": hung,
    "reset": reset,
    "wrong password": wrong_password,
    "LOADING": loading,
    "READONLY": read_only,
    "OOM": full,
    "NOSCRIPT": flushed,
    "200 ms of latency": slow,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_no_visitor_waits_for_a_redis_that_fails(stage: Stage, name: str, full: bool) -> None:
    least_s = 1.5 if full else 0.2
    async with load(stage):
        await asyncio.sleep(least_s)
        begun_s = time.monotonic()
        end = await FAULTS[name](stage)
        await asyncio.sleep(least_s)
        during = "" if name == "NOSCRIPT" else "away"
        assert await stage.until(lambda: stage.is_served_since(begun_s, during), PATIENCE_S), "they wait for Redis"
        await end()
        ended_s = time.monotonic()
        assert await stage.until(lambda: not stage.is_away(), PATIENCE_S), "it does not come back"
        back_s = time.monotonic()
        assert await stage.until(lambda: stage.is_served_since(back_s, ""), PATIENCE_S)
    _show(stage, name, begun_s, ended_s, back_s)
    statuses = {path: Counter(answer.status for answer in stage.answers if answer.path == path) for path in PATHS}
    assert set(statuses["local"]) == {200}
    assert set(statuses["allow"]) == {200}
    assert set(statuses["deny"]) <= {200, 503}
    assert set(statuses["ten"]) == {200, 429}
    assert statuses["ten"][200] == LIMIT, "through outage and return, never one more"
    said = {path: {answer.store_error for answer in stage.answers if answer.path == path} for path in PATHS}
    assert said["local"] <= {"", "local"}
    assert said["allow"] <= {"", "allow"}
    assert said["deny"] <= {"", "deny"}
    if name != "NOSCRIPT":
        assert said["deny"] == {"", "deny"}
        assert statuses["deny"][503]
    if name not in ("NOSCRIPT", "reset"):
        assert stage.gateway.events("limit_store.down")
        assert stage.gateway.events("limit_store.up")


def _show(stage: Stage, name: str, begun_s: float, ended_s: float, back_s: float) -> None:
    limited = [answer for answer in stage.answers if answer.path != FREE]
    quiet = [answer.took_s for answer in limited if answer.at_s < begun_s - 0.1]
    during = [answer for answer in stage.answers if begun_s - 0.1 <= answer.at_s <= back_s]
    took_s = [answer.took_s for answer in during if answer.path != FREE]
    free_s = [answer.took_s for answer in during if answer.path == FREE]
    denied = sum(answer.status == 503 for answer in during)
    cells = (
        name,
        *(_ms(quiet, 0.99), _ms(took_s, 0.99), _ms(took_s, 1.0), _ms(free_s, 1.0)),
        f"{denied} of {sum(answer.path == 'deny' for answer in during)}",
        f"{max(0.0, back_s - ended_s):.2f} s",
    )
    sys.stdout.write(f"\n| {' | '.join(cells)} |\n")


def _ms(times_s: list[float], share: float) -> str:
    times_s = sorted(times_s)
    return f"{times_s[min(len(times_s) - 1, int(len(times_s) * share))] * 1000:.0f} ms"
