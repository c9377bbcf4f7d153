"""Processes replaced under load: one after another, as a whole on a kept socket, or because one was killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scopegate.demo.stage import clean
from tests.flows.load import endless_app, load, quick_app
from tests.flows.processes import is_running, wait_until
from tests.flows.test_reload import Place

IDLE_MIB = 64
"""The promise is 60; the rest is for a measured run under coverage."""

ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == NAME:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""
BLOCKED = (
    ABSENT.replace("NAME", "sys.argv[1]")
    + """
from scopegate.cli.main import main
raise SystemExit(main(sys.argv[2:]))
"""
)
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "scopegate", "gateway"])
"""


async def test_a_rolling_restart_under_load_costs_no_request(tmp_path: Path, valkey_url: str, full: bool) -> None:
    async with quick_app() as app:
        place = Place(tmp_path, app, workers=2)
        rounds = 50 if full else 2
        with place.run(environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "info"}) as gateway:
            leader = await asyncio.to_thread(place.up)
            first = gateway.pids()
            async with load(place.gateway, 8) as seen:
                for n in range(1, rounds + 1):
                    os.kill(leader.pid, signal.SIGUSR2)
                    await asyncio.to_thread(wait_until, lambda n=n: len(gateway.events("gateways.replaced")) == n)
            assert len(gateway.events("gateways.replaced")) == rounds
            assert len(gateway.events("child.started")) == 2 + 2 * rounds
            assert {entry["code"] for entry in gateway.events("child.ended")} == {0}
            assert not set(first.values()) & set(gateway.pids().values())
            assert not gateway.events("child.restarts"), "asked for is not crashed"
    assert dict(seen.failures) == {}
    assert seen.closes > 0, "kept connections were told that they end"
    assert seen.ok > 100 * rounds


@pytest.mark.parametrize(("command", "workers"), [("gateway", 1), ("gateway", 2), ("up", 2)])
async def test_a_stop_under_load_cuts_nothing(tmp_path: Path, valkey_url: str, command: str, workers: int) -> None:
    """Every request has its whole answer, or its connection is refused: who was let in is served."""
    async with quick_app() as app:
        place = Place(tmp_path, app, workers=workers)
        with place.run(command, environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "info"}) as running:
            await asyncio.to_thread(place.up)
            async with load(place.gateway, 16) as kept, load(place.gateway, 8, keep=False) as fresh:
                await asyncio.sleep(0.5)
                assert await asyncio.to_thread(running.stop) == 0
            assert not running.events("child.killed")
    for seen in (kept, fresh):
        assert set(seen.failures) <= {"connect: ConnectionRefusedError"}
        assert seen.ok > 20
    assert fresh.failures, "the port was closed while they still came"


@pytest.mark.parametrize(("command", "workers"), [("gateway", 1), ("gateway", 2), ("up", 2)])
async def test_what_is_open_when_the_drain_time_is_over_is_broken_off_and_logged(
    tmp_path: Path, valkey_url: str, command: str, workers: int
) -> None:
    """An answer without a length must not seem to have ended well; nobody had to be killed."""
    async with endless_app() as app:
        place = Place(tmp_path, app, workers=workers)
        place.replace(place.text().replace("drain: 5s", "drain: 500ms"))
        with place.run(command, environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "info"}) as running:
            assert await asyncio.to_thread(wait_until, lambda: len(place.living()) == (1 if workers == 1 else 3))
            reader, writer = await asyncio.open_connection(*place.gateway.split(":"))
            writer.write(b"GET /endless HTTP/1.0\r\nHost: a.example\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(running.stop))
            with pytest.raises(ConnectionResetError):
                await reader.read()
            took_s = time.monotonic() - began
            writer.transport.abort()
            assert await stopping == 0
            assert not running.events("child.killed")
            [request] = [entry for entry in running.events("request") if entry["path"] == "/endless"]
    assert request["note"] == "stopped"
    assert took_s > 0.45, "not before the drain time was over"


@pytest.mark.parametrize(("command", "workers"), [("gateway", 1), ("gateway", 2), ("up", 1)])
def test_a_wish_to_reload_during_the_start_is_remembered(
    tmp_path: Path, valkey_url: str, command: str, workers: int
) -> None:
    """The start is held where it reads the file, which is a pipe."""
    place = Place(tmp_path, "127.0.0.1:9", workers=workers)
    text = place.file.read_bytes()
    place.file.unlink()
    os.mkfifo(place.file)
    with place.run(command, environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "info"}) as running:
        pipe = os.open(place.file, os.O_WRONLY)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
            running.process.send_signal(number)
        place.replace(text.decode())
        os.write(pipe, text)
        os.close(pipe)
        leader = wait_until(lambda: next((one for one in place.living() if one.heard), None))
        assert leader is not None, running.errors.read_text()
        assert (leader.pid, leader.heard, leader.outcome) == (running.process.pid, 1, "unchanged")
        assert not running.events("gateways.replaced")
        assert running.stop() == 0


async def test_a_killed_process_refuses_nobody_and_is_replaced(tmp_path: Path, valkey_url: str) -> None:
    async with quick_app() as app:
        place = Place(tmp_path, app, workers=2)
        with place.run(environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "info"}) as gateway:
            await asyncio.to_thread(place.up)
            async with load(place.gateway, 8) as seen:
                await asyncio.sleep(0.3)
                os.kill(gateway.pids()["gateway-1"], signal.SIGKILL)
                assert await asyncio.to_thread(wait_until, lambda: len(gateway.events("child.ready")) == 3)
                before = seen.ok
                await asyncio.sleep(0.3)
            assert seen.ok > before
    cut = sum(count for kind, count in seen.failures.items() if kind.startswith("cut: "))
    assert cut == seen.failures.total(), "only what the killed process had in hand is lost"
    assert cut <= 8


async def test_a_restart_on_a_socket_of_the_service_manager_leaves_no_gap(tmp_path: Path) -> None:
    """LISTEN_FDS as systemd sets them: the old process drains while the next one starts on the same socket."""
    async with quick_app() as app:
        place = Place(tmp_path, app)
        with socket.create_server(("127.0.0.1", int(place.gateway.rpartition(":")[2]))) as sock:
            running = _activated(place, sock)
            try:
                await asyncio.to_thread(place.up)
                async with load(place.gateway, 4) as seen:
                    for _ in range(3):
                        await asyncio.sleep(0.3)
                        before, running = running, _activated(place, sock, running)
                        assert await asyncio.to_thread(before.wait, 20) == 0
                        await asyncio.to_thread(place.up)
            finally:
                running.terminate()
                assert running.wait(20) == 0
    assert dict(seen.failures) == {}
    assert seen.ok > 100


def _activated(
    place: Place, sock: socket.socket, after: subprocess.Popen[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """`after` is asked to stop first: between the two only the kernel's backlog takes connections."""
    if after is not None:
        after.terminate()
    fd = sock.fileno()
    env = clean(os.environ) | {"HOME": str(place.folder)}
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, str(fd)], cwd=place.folder, env=env, pass_fds=(fd,), stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("library", ["httptools", "uvicorn"])
@pytest.mark.parametrize("command", ["gateway", "up"])
def test_nothing_starts_without_the_parser_it_was_proven_with(tmp_path: Path, library: str, command: str) -> None:
    place = Place(tmp_path, "127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, library, command],
        cwd=tmp_path, env=clean(os.environ), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines() == [
        f"{library}: not installed: the gateway serves with this library and with no other in its place"
    ]
    assert place.status() == 0


def test_a_supervisor_whose_gateways_cannot_start_ends_with_their_code(tmp_path: Path, valkey_url: str) -> None:
    """The supervisor finds the parser; its children do not."""
    Place(tmp_path, "127.0.0.1:9", workers=2)
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT.replace("NAME", "'httptools'"))
    words = "import os, sys; os.environ['PYTHONPATH'] = sys.argv[1]; from scopegate.cli.main import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{words}; raise SystemExit(main(['gateway']))", str(tmp_path / "absent")],
        cwd=tmp_path,
        env=clean(os.environ) | {"HOME": str(tmp_path), "REDIS_URL": valkey_url, "SCOPEGATE_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "httptools: not installed" in done.stderr
    assert '"event":"child.given_up"' in done.stderr
    assert not [pid for pid in map(int, re.findall(r'"pid":(\d+)', done.stderr)) if is_running(pid)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_gateway_is_small(tmp_path: Path, valkey_url: str) -> None:
    """With limits in Redis, sign-in and an offload configured, before the first lead and the first token."""
    from tests.flows.test_reload import AUTH_AND_OFFLOAD, GUARDED, SECRET

    place = Place(tmp_path, "127.0.0.1:9")
    place.replace(place.text(more=AUTH_AND_OFFLOAD, routes=GUARDED))
    environ = {"REDIS_URL": valkey_url, "JWT_SECRET": SECRET, "HOOK_SECRET": "a webhook secret for tests"}
    with place.run(environ=environ) as gateway:
        assert wait_until(lambda: place.status("/few")) == 502
        rollup = Path(f"/proc/{gateway.process.pid}/smaps_rollup").read_text()
        rss_kib = int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]
        assert rss_kib < IDLE_MIB * 1024, f"{rss_kib / 1024:.1f} MiB"
        mapped = Path(f"/proc/{gateway.process.pid}/maps").read_text()
        assert "_rust.abi3" not in mapped, "cryptography is loaded by the first token"
