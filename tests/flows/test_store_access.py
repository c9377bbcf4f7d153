"""Redis as it stands in production: over TLS, and for a user with the least rights that limits need."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from scopegate.clock import SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.limits.barriers import BanRule, Seats, ban_of
from scopegate.limits.window import Quota, Window, amended
from scopegate.stores.mirror import Mirror
from scopegate.stores.redis_desk import RedisDesk
from scopegate.stores.redis_limits import RedisLimits
from tests.engines import missing
from tests.flows.processes import wait_until
from tests.flows.test_limit_store_outages import certificate
from tests.ports import free_port
from tests.valkey import Server

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"


def window(key: str = "") -> Window:
    return Window("a", key or uuid.uuid4().hex, Quota(3, 60_000))


def rights() -> list[str]:
    """As the guide tells them."""
    [line] = [line for line in DOCS.read_text().splitlines() if line.startswith("ACL SETUSER scopegate ")]
    return line.split()


async def use_everything(url: str) -> None:
    mirror = Mirror(SystemClock())
    store, desk = RedisLimits(url, timeout_s=10, mirror=mirror), RedisDesk(url)
    one, banned = window(), ban_of("a", uuid.uuid4().hex, BanRule(1, 60_000, 60_000), "", 0, 1)
    seats = Seats("a", uuid.uuid4().hex, 2, "me")
    mirror.spend_alone([window()])  # owed
    spent = await store.spend([one], [banned, seats])
    store.amend([amended(spent.standings[0], -1, spent.at_us)])
    for _ in range(4):
        await store.spend([one], [banned])
    store.leave([seats])
    store._beat()
    assert (await desk.look([one]))[0].counted == 3
    await desk.sentence([banned.sentence])
    assert await desk.forget([one]) == 1
    assert (await store.spend([one])).admitted
    await store.close()
    await desk.close()


async def test_the_least_rights_are_enough_and_no_more_is_allowed(server: Server) -> None:
    server.run(*rights())
    url = server.url.replace("redis://", "redis://scopegate:secret@")
    await use_everything(url)
    with server.client() as outside:
        outside.execute_command("AUTH", "scopegate", "secret")
        for refused in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("GET", "other"), ("DEL", "other")):
            with pytest.raises(NoPermissionError):
                outside.execute_command(*refused)


async def test_without_a_right_redis_is_away(server: Server) -> None:
    server.run(*rights(), "-zadd")
    store = RedisLimits(server.url.replace("redis://", "redis://scopegate:secret@"), timeout_s=10)
    with pytest.raises(StoreUnavailable):
        await store.spend([window()])
    await store.close()


@pytest.fixture
def tls_url(tmp_path: Path) -> Iterator[str]:
    """A real server that speaks TLS alone."""
    binary = shutil.which("redis-server") or missing("redis-server")
    file = certificate(tmp_path, "localhost")
    port = free_port()
    command = [binary, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--tls-cert-file", str(file), "--tls-key-file", str(file), "--tls-ca-cert-file", str(file)]
    command += ["--tls-auth-clients", "no"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={file}"
    finally:
        process.kill()
        process.wait()


async def test_a_real_server_over_tls(tls_url: str) -> None:
    store = RedisLimits(tls_url, timeout_s=10)
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await store.spend([window()])).admitted
                break
            except StoreUnavailable:  # it starts
                await asyncio.sleep(0.05)
    await store.close()
    await use_everything(tls_url)
    plain = RedisLimits(tls_url.partition("?")[0], timeout_s=10)
    with pytest.raises(StoreUnavailable):
        await plain.spend([window()])  # nobody vouches for its certificate
    await plain.close()


# ── a cluster ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Server]]:
    """Three nodes, a third of the slots each."""
    with ExitStack() as stack:
        nodes: list[Server] = []
        buses = [free_port() for _ in range(3)]  # their own choice, 10,000 above the port, may be no port at all
        for n, bus in enumerate(buses):
            folder = tmp_path / str(n)
            folder.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            nodes.append(stack.enter_context(Server(folder, "valkey", *options)))
        for n, node in enumerate(nodes):
            node.run("CLUSTER", "ADDSLOTSRANGE", n * 5461, 16383 if n == 2 else n * 5461 + 5460)
            node.run("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[0])
        assert wait_until(lambda: all("cluster_state:ok" in _info(node) for node in nodes), 60)
        yield nodes


def _info(node: Server) -> str:
    with node.client() as client:
        answer = client.execute_command("CLUSTER INFO")
    return answer if isinstance(answer, str) else " ".join(f"{key}:{value}" for key, value in answer.items())


async def test_any_node_of_a_cluster_leads_to_the_one_that_counts(cluster: list[Server]) -> None:
    one = window()
    stores = [RedisLimits(node.url, timeout_s=10) for node in cluster]
    for store in stores:
        await store.open()
    async with asyncio.timeout(30):
        admitted = []
        for store in (*stores, stores[0]):
            while True:
                try:
                    admitted.append((await store.spend([one, window()])).admitted)
                    break
                except StoreUnavailable:  # it follows the answer of the wrong node
                    await asyncio.sleep(0.02)
    assert admitted == [True, True, True, False]
    for store in stores:
        await store.close()
