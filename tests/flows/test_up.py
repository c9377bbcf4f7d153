"""`scopegate up` as people run it: real processes, a real Valkey, an app behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from scopegate.stores.embedded import EmbeddedValkey, known_binaries
from tests.engines import missing
from tests.flows.processes import Scopegate, left_running, scopegate, wait_until
from tests.ports import free_addresses


class App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def valkey() -> None:
    if next(iter(known_binaries()), None) is None:
        missing("Valkey")


class Place:
    """A folder with a policy for free ports."""

    def __init__(self, folder: Path, app: str, workers: int = 1) -> None:
        self.folder = folder
        self.gateway, self.admin = free_addresses(2)
        (folder / "gateway.yaml").write_text(
            f"version: 1\nserver: {{listen: {self.gateway}, workers: {workers}, timeouts: {{drain: 5s}}}}\n"
            f"admin: {{listen: {self.admin}}}\nupstreams: {{web: {{servers: ['http://{app}']}}}}\n"
            "tiers: {few: {limit: 5 per 60s, key: client_ip}}\n"
            "routes:\n  - {name: few, match: GET /few, tier: few}\n  - {name: all, match: ANY /**, tier: none}\n"
        )

    def status(self, path: str = "/") -> int:
        """Of the gateway; 0 while it does not answer."""
        try:
            return httpx.get(f"http://{self.gateway}{path}", trust_env=False, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> AbstractContextManager[Scopegate]:
        """A command in this folder, `up` when none is named."""
        return scopegate(words or ("up",), self.folder, environ or {})


@pytest.fixture
def place(tmp_path: Path, app: str) -> Place:
    return Place(tmp_path, app)


def test_it_serves_says_where_and_stops_cleanly(valkey: None, place: Place) -> None:
    with place.run() as up:
        said = "\n".join(up.first_lines(6))
        assert f"http://{place.gateway}  ->  http://" in said
        assert f"http://{place.admin}" in said
        assert "embedded Valkey" in said
        assert [place.status("/few") for _ in range(6)] == [200] * 5 + [429]
        ready = httpx.get(f"http://{place.admin}/readyz", trust_env=False)
        assert ready.status_code == 200, ready.text
        pids = up.pids()
        assert sorted(pids) == ["admin", "gateway", "valkey", "worker"]
        assert (place.folder / ".scopegate").stat().st_mode & 0o777 == 0o700
        assert up.stop() == 0
        assert left_running(list(pids.values()), 1) == []
        assert [entry["child"] for entry in up.events("child.ended")][-1] == "valkey"
        assert place.status() == 0


def test_status_and_doctor_see_what_runs(valkey: None, place: Place) -> None:
    with place.run() as up:
        up.first_lines(6)
        with place.run("status", "--json") as status:
            told = json.loads(status.process.communicate(timeout=60)[0])
        assert {"gateway": 1, "worker": 1, "admin": 1}.items() <= told["processes"].items()
        assert {one["digest"] for one in told["policies"]} == {told["policies"][0]["digest"]}
        assert "there is no database" in told["database"], "this policy offloads nothing"
        with place.run("doctor", "--json") as doctor:
            found = json.loads(doctor.process.communicate(timeout=60)[0])
        assert found["ok"], found
        said = [one["said"] for one in found["diagnoses"] if one["of"] in ("ports", "redis")]
        assert all("a gateway of this state directory runs" in one for one in said[:2]), said
        assert said[2].startswith("embedded")
        assert up.stop() == 0


def test_a_killed_process_is_replaced_and_limits_are_kept(valkey: None, tmp_path: Path, app: str) -> None:
    place = Place(tmp_path, app, workers=2)
    with place.run() as up:
        up.first_lines(6)
        assert [place.status("/few") for _ in range(5)] == [200] * 5
        before = up.pids()
        assert sorted(before) == ["admin", "gateway-1", "gateway-2", "valkey", "worker"]
        for name in ("gateway-1", "gateway-2", "worker"):
            os.kill(before[name], signal.SIGKILL)
        assert wait_until(lambda: len(up.events("child.ready")) >= 8)
        after = up.pids()
        assert {name for name in before if before[name] != after[name]} == {"gateway-1", "gateway-2", "worker"}
        assert place.status("/few") == 429
        assert place.status("/") == 200
        assert up.stop(signal.SIGINT) == 0


def test_kill_9_of_up_leaves_nothing_running(valkey: None, place: Place) -> None:
    with place.run() as up:
        up.first_lines(6)
        pids = list(up.pids().values())
        assert up.stop(signal.SIGKILL) == -signal.SIGKILL
        assert left_running(pids, 10) == []
    with place.run() as again:
        again.first_lines(6)
        assert place.status() == 200


def test_what_is_taken_is_said_once_and_nothing_starts(valkey: None, place: Place, tmp_path: Path, app: str) -> None:
    with place.run() as up:
        up.first_lines(6)
        with place.run() as second:
            assert second.process.wait(20) == 1
            assert f"is in use by another `scopegate up` (pid {up.process.pid})" in second.errors.read_text()
        other_state = {"SCOPEGATE_STATE_DIR": str(tmp_path / "other")}
        with place.run(environ=other_state) as third:
            assert third.process.wait(20) == 1
            assert f"cannot listen on {place.gateway}: Address already in use" in third.errors.read_text()
            assert third.pids() == {}
        assert place.status() == 200


@pytest.mark.parametrize("name", ["gateway", "worker", "admin"])
def test_each_role_runs_alone_without_redis_and_stops_cleanly(place: Place, name: str) -> None:
    with place.run(name) as role:
        if name == "gateway":
            assert wait_until(place.status) == 200
            assert [place.status("/few") for _ in range(6)] == [200] * 5 + [429]
            assert role.events("limits.in_memory")
        elif name == "admin":
            live = f"http://{place.admin}/livez"
            assert wait_until(lambda: _status(live)) == 200
        else:
            assert wait_until(lambda: role.events("worker.idle"))
        assert role.stop() == 0
        assert "Traceback" not in role.errors.read_text()


async def test_the_gateway_alone_keeps_its_own_processes(valkey: None, tmp_path: Path, app: str) -> None:
    place = Place(tmp_path, app, workers=2)
    engine = EmbeddedValkey.find(tmp_path / "engine")
    assert engine is not None
    await engine.start()
    try:
        with place.run("gateway", environ={"REDIS_URL": engine.url}) as gateway:
            assert await asyncio.to_thread(wait_until, lambda: len(gateway.events("child.ready")) == 2)
            assert sorted(gateway.pids()) == ["gateway-1", "gateway-2"]
            assert [place.status("/few") for _ in range(6)] == [200] * 5 + [429]
            assert await asyncio.to_thread(gateway.stop) == 0
            assert left_running(list(gateway.pids().values()), 1) == []
    finally:
        await engine.stop()


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code
    except httpx.TransportError:
        return 0
