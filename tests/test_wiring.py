"""Each role as it is put together: it serves what it was given and what it is given later, and ends when told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml

from scopegate import settings as environment
from scopegate import wiring
from scopegate.following.follower import Applying
from scopegate.policy.policy import Policy
from scopegate.settings import Settings
from tests.policies import compiled, compiled_with, document, route

EMPTY = compiled_with()
SHOP = compiled_with(routes=[route(match="POST /shop")])
OFFLOADING = compiled(
    yaml.safe_dump(
        document(
            routes=[route(match="POST /leads", body={"types": ["application/json"]}, offload="photos")],
            offloads={
                "photos": {
                    "lead_id": "response.id",
                    "photos": "request.photos",
                    "text": "request.text",
                    "photo_hosts": ["127.0.0.1"],
                    "deliver": {"url": "http://127.0.0.1:1/in", "secret": "${HOOK_SECRET}"},
                }
            },
            ai={"model": "claude-haiku-5-5"},
        )
    ),
    {"HOOK_SECRET": "a webhook secret for tests"},
)


@dataclass
class Role:
    """A role while it runs, and what it said of itself. `follow` is how it is given a newer policy."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    serves: asyncio.Event = field(default_factory=asyncio.Event)
    followed: asyncio.Event = field(default_factory=asyncio.Event)
    said: int = 0
    adopts: list[Applying] = field(default_factory=list)
    has_left: bool = False

    def ready(self) -> None:
        self.said += 1
        self.serves.set()

    async def follow(self, adopt: Applying) -> None:
        self.adopts.append(adopt)
        self.followed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.has_left = True

    async def adopt(self, policy: Policy) -> None:
        await self.followed.wait()
        await self.adopts[0](policy)


@asynccontextmanager
async def running(serve: Callable[[Role], Awaitable[None]]) -> AsyncIterator[Role]:
    """From readiness to its end, which nothing but `stop` brings about."""
    role = Role()
    task = asyncio.ensure_future(serve(role))
    async with asyncio.timeout(20):
        await asyncio.wait({task, asyncio.create_task(role.serves.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.exception()
        yield role
        assert not task.done(), "it goes on until it is told to stop"
        role.stop.set()
        await task
    assert (role.said, len(role.adopts), role.has_left) == (1, 1, True)


def settings(folder: Path, **more: str) -> Settings:
    return environment.load({"SCOPEGATE_STATE_DIR": str(folder), **more})


@pytest.fixture
def sock() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@asynccontextmanager
async def asking(sock: socket.socket) -> AsyncIterator[httpx.AsyncClient]:
    host, port = sock.getsockname()
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield client


# ── gateway ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_gateway_answers_by_the_policy_and_then_by_the_newer_one(tmp_path: Path, sock: socket.socket) -> None:
    def serve(role: Role) -> Awaitable[None]:
        return wiring.serve_gateway(settings(tmp_path), SHOP, sock, role.stop, role.ready, role.follow)

    async with running(serve) as role, asking(sock) as client:
        assert [(await client.get(path)).status_code for path in ("/shop", "/other")] == [405, 404]
        await role.adopt(compiled_with(routes=[route(match="POST /other")]))
        assert [(await client.get(path)).status_code for path in ("/shop", "/other")] == [404, 405]
    assert [path.name for path in tmp_path.iterdir()] == [wiring.TOP_FOLDER], "no lead, no database"


# ── worker ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def worker(settings: Settings, policy: Policy) -> Callable[[Role], Awaitable[None]]:
    return lambda role: wiring.serve_worker(settings, policy, role.stop, role.ready, role.follow)


async def test_a_worker_without_work_is_ready_and_opens_nothing(tmp_path: Path) -> None:
    async with running(worker(settings(tmp_path, ANTHROPIC_API_KEY="sk-ant-x"), EMPTY)) as role:
        await role.adopt(SHOP)
    assert list(tmp_path.iterdir()) == []


async def test_a_worker_begins_once_a_policy_offloads_something(tmp_path: Path) -> None:
    async with running(worker(settings(tmp_path, ANTHROPIC_API_KEY="sk-ant-x"), EMPTY)) as role:
        await role.adopt(OFFLOADING)
        while not (tmp_path / "scopegate.db").exists():  # its first look for jobs
            await asyncio.sleep(0.01)
        await role.adopt(EMPTY)
        await role.adopt(OFFLOADING)


async def test_a_worker_without_a_key_asks_no_model(tmp_path: Path) -> None:
    async with running(worker(settings(tmp_path), OFFLOADING)):
        await asyncio.sleep(0)
    assert list(tmp_path.iterdir()) == []


# ── admin ───────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_an_admin_process_shows_the_policy_in_force(tmp_path: Path, sock: socket.socket) -> None:
    def serve(role: Role) -> Awaitable[None]:
        return wiring.serve_admin(settings(tmp_path), SHOP, sock, role.stop, role.ready, role.follow)

    async with running(serve) as role, asking(sock) as client:
        assert SHOP.digest in (await client.get("/metrics")).text
        await role.adopt(OFFLOADING)
        newer = (await client.get("/metrics")).text
        assert OFFLOADING.digest in newer
        assert SHOP.digest not in newer


async def test_redis_is_checked_where_there_is_one(tmp_path: Path, sock: socket.socket, valkey_url: str) -> None:
    def serve(role: Role) -> Awaitable[None]:
        with_redis = settings(tmp_path, REDIS_URL=valkey_url)
        return wiring.serve_admin(with_redis, SHOP, sock, role.stop, role.ready, role.follow)

    async with running(serve), asking(sock) as client:
        assert (await client.get("/readyz")).json()["checks"]["redis"] == "ok"
