"""What the demo's processes are given: a policy that compiles, and nothing of the user's own accounts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopegate import settings as environment
from scopegate.demo import stage
from scopegate.demo.stage import RealAPI, Stage
from tests import policies

THEIRS = {
    "PATH": "/bin",
    "REDIS_URL": "redis://production/0",
    "DATABASE_URL": "postgresql://production/leads",
    "ANTHROPIC_API_KEY": "sk-ant-theirs",
    "ANTHROPIC_BASE_URL": "https://theirs.example.com",
    "SCOPEGATE_STATE_DIR": "/var/lib/theirs",
    "SCOPEGATE_NONSENSE": "1",
    "PROMETHEUS_MULTIPROC_DIR": "/var/lib/theirs",
}


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def built(folder: Path, sock: socket.socket, live: RealAPI | None = None) -> Stage:
    return stage.build(folder, THEIRS, live, sock)


def test_no_process_gets_what_is_the_users_own(tmp_path: Path, sock: socket.socket) -> None:
    for child in built(tmp_path, sock).children:
        assert not [value for value in child.env.values() if "theirs" in value or "production" in value]
        assert child.env["ANTHROPIC_API_KEY"].startswith("simulated-")
        assert child.env["PATH"] == "/bin"


def test_the_policy_and_the_environment_are_such_that_up_starts(tmp_path: Path, sock: socket.socket) -> None:
    made = built(tmp_path, sock)
    env = made.children[-1].env
    settings = environment.load(env)
    policy = policies.load(tmp_path / "gateway.yaml", env)
    assert settings.anthropic_base_url == f"http://{made.claude}"
    assert settings.state_dir == tmp_path / "scopegate"
    assert policy.upstreams["web"].servers[0].authority == made.app
    assert policy.offloads["lead-photos"].photo_hosts == (made.app,)
    assert made.children[-1].argv[-2:] == ("-c", str(tmp_path / "gateway.yaml"))


def test_scopegate_starts_once_app_and_simulation_serve(tmp_path: Path, sock: socket.socket) -> None:
    made = built(tmp_path, sock)
    assert [child.name for child in made.children] == ["demo app", "simulated Claude", "scopegate up"]
    assert made.children[-1].after == ("demo app", "simulated Claude")
    assert [path.name for path in made.logs] == ["app.log", "claude.log", "scopegate.log"]


def test_with_the_real_api_there_is_no_simulation(tmp_path: Path, sock: socket.socket) -> None:
    made = built(tmp_path, sock, RealAPI("sk-ant-real", None))
    assert [child.name for child in made.children] == ["demo app", "scopegate up"]
    assert made.claude is None
    assert made.children[-1].env["ANTHROPIC_API_KEY"] == "sk-ant-real"
    assert "ANTHROPIC_BASE_URL" not in made.children[-1].env


def test_free_addresses_differ() -> None:
    assert len(set(stage.free_addresses(20))) == 20


async def test_answering_waits_for_a_2xx() -> None:
    statuses = [b"503 Busy", b"503 Busy", b"200 OK"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + statuses.pop(0) + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.wait_for(stage.answering(f"http://127.0.0.1:{port}/"), 10)
    assert statuses == []


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert stage.tail(path) == ""
    path.write_bytes(b"\n".join(str(n).encode() for n in range(30)) + b"\n\xff\n")
    assert stage.tail(path, 2) == "29\n\ufffd"
