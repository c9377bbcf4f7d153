"""A policy replaced under load, by signal, command or a changed file: what is kept, what is refused, what is said."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from scopegate.demo.stage import clean
from scopegate.following import standing
from scopegate.following.standing import Standing
from tests.flows.load import load, quick_app
from tests.flows.processes import Scopegate, posted, scopegate, wait_until
from tests.ports import free_addresses

SECRET = "a shared secret of the tests, longer than 32 bytes"
STATE = ".scopegate"
BROKEN = "version: 1\nroutes: [{name: x}]\n"


def policy(
    gateway: str, admin: str, app: str, *, limit: int = 5, more: str = "", workers: int = 1, routes: str = ""
) -> str:
    return (
        f"version: 1\nserver: {{listen: {gateway}, workers: {workers}, timeouts: {{drain: 5s}}}}\n"
        f"admin: {{listen: {admin}}}\nupstreams: {{web: {{servers: ['http://{app}']}}}}\n"
        f"tiers: {{few: {{limit: {limit} per 60s, key: client_ip}}, other: {{limit: 7 per 1s, key: global}}}}\n{more}"
        f"routes:\n{routes}  - {{name: few, match: GET /few, tier: few}}\n"
        "  - {name: all, match: ANY /**, tier: none}\n"
    )


class Place:
    """A folder with a policy for free ports, and what runs there."""

    def __init__(self, folder: Path, app: str, workers: int = 1) -> None:
        self.folder = folder
        self.app = app
        self.workers = workers
        self.gateway, self.admin = free_addresses(2)
        self.file = folder / "gateway.yaml"
        self.replace(self.text())

    def text(self, **parts: Any) -> str:
        return policy(self.gateway, self.admin, self.app, workers=self.workers, **parts)

    def replace(self, text: str) -> None:
        """By renaming over it, as careful editors do."""
        fresh = self.folder / "fresh.yaml"
        fresh.write_text(text)
        fresh.rename(self.file)

    def run(self, *words: str, environ: Mapping[str, str] | None = None) -> AbstractContextManager[Scopegate]:
        return scopegate(words or ("gateway",), self.folder, environ or {})

    def status(self, path: str = "/", **fields: str) -> int:
        try:
            return httpx.get(f"http://{self.gateway}{path}", headers=fields, trust_env=False, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def living(self) -> list[Standing]:
        return standing.living(self.folder / STATE)

    def leader(self) -> Standing | None:
        return next((one for one in self.living() if one.pid == one.leader), None)

    def serving(self) -> set[str]:
        """The policies that the processes say they serve."""
        found = self.living()
        return {one.digest for one in found if len(found) == 1 or one.pid != one.leader}

    def up(self) -> Standing:
        """Waits until all processes serve."""
        processes = 1 if self.workers == 1 else self.workers + 1
        found: list[Standing] = []

        def serves() -> bool:
            found[:] = [one for one in self.living() if one.pid == one.leader]
            return bool(found) and self.status() == 200 and len(self.living()) == processes

        wait_until(serves)
        return found[0]

    def command(self) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "scopegate", "reload"]
        env = clean(os.environ) | {"HOME": str(self.folder)}
        return subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False)


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"path": self.path, "user": self.headers.get("X-Scopegate-User")})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, {"id": "lead-1"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_reloads_under_load_cost_no_request(tmp_path: Path, valkey_url: str, full: bool) -> None:
    """Two processes, two policies in turn, every tenth file a broken one."""
    async with quick_app() as app:
        place = Place(tmp_path, app, workers=2)
        texts = [place.text(limit=5), place.text(limit=6)]
        with place.run(environ={"REDIS_URL": valkey_url, "SCOPEGATE_LOG_LEVEL": "warning"}):
            leader = await asyncio.to_thread(place.up)
            async with load(place.gateway, 8) as seen:
                outcomes = [
                    await asyncio.to_thread(_reload, place, leader.pid, BROKEN if n % 10 == 9 else texts[n % 2])
                    for n in range(200 if full else 20)
                ]
                assert len(place.serving()) == 1
    refused = [outcome for outcome in outcomes if outcome == "refused"]
    assert len(refused) == len(outcomes) // 10
    assert outcomes.count("applied") == len(outcomes) - len(refused) - outcomes.count("unchanged")
    assert outcomes.count("applied") > len(outcomes) // 2
    assert dict(seen.failures) == {}
    assert seen.ok > 10 * len(outcomes)


def _reload(place: Place, pid: int, text: str) -> str:
    """Replace the file, ask for a reload, and wait for what the leader says of it. The file's change may be seen
    before the signal: then there is nothing left to apply."""
    place.replace(text)
    before = _said(place, pid)
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: _said(place, pid).heard > before.heard)
    return _said(place, pid).outcome


def _said(place: Place, pid: int) -> Standing:
    return next(one for one in place.living() if one.pid == pid)


def test_a_change_of_the_file_is_enough_and_limits_go_on_counting(tmp_path: Path, app: str) -> None:
    place = Place(tmp_path, app)
    with place.run():
        first = place.up()
        assert [place.status("/few") for _ in range(6)] == [200] * 5 + [429]
        text = place.text().replace("7 per 1s", "8 per 1s")
        place.replace(text)
        assert wait_until(lambda: place.serving() not in ({first.digest}, set()))
        assert place.status("/few") == 429, "another tier's change gives nobody a fresh limit"
        second = place.serving()
        place.file.write_text(text + "# in place\n")
        assert wait_until(lambda: place.serving() not in (second, set()))
        assert place.status("/few") == 429
        place.replace(place.text(limit=9))
        assert wait_until(lambda: place.status("/few") == 200), "a changed limit begins to count anew"


def test_a_mounted_folder_is_followed_when_its_link_is_swapped(tmp_path: Path, app: str) -> None:
    place = Place(tmp_path, app)
    for name, text in (("one", place.text()), ("two", place.text(limit=6))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.yaml").write_text(text)
    (tmp_path / "data").symlink_to("one")
    place.file.unlink()
    place.file.symlink_to("data/gateway.yaml")
    with place.run():
        first = place.up()
        (tmp_path / "fresh").symlink_to("two")
        (tmp_path / "fresh").rename(tmp_path / "data")
        assert wait_until(lambda: place.serving() not in ({first.digest}, set()))


def test_the_command_says_who_serves_what(tmp_path: Path, app: str, valkey_url: str) -> None:
    place = Place(tmp_path, app, workers=2)
    place.replace(place.text(limit=12))
    nothing = place.command()
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no gateway that follows gateway.yaml runs" in nothing.stderr
    with place.run(environ={"REDIS_URL": valkey_url}) as gateway:
        first = place.up()
        assert [place.status("/few") for _ in range(13)] == [200] * 12 + [429]
        done = place.command()
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"unchanged: 2 of 2 processes serve policy {first.digest}\n"
        place.replace(place.text(limit=12).replace("workers: 2", "workers: 3"))
        done = place.command()
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(
            r"(applied|unchanged): 2 of 2 processes serve policy [0-9a-f]{12}\n"
            r"needs a restart to apply: server.workers\n",
            done.stdout,
        )
        assert place.status("/few") == 429, "windows in Redis go on counting"
        assert gateway.events("reload.needs_restart")[0]["settings"] == ["server.workers"]
        [digest] = place.serving()
        place.replace(place.text(limit=12) + "tierz: {}\nroutez: []\n")
        done = place.command()
        assert (done.returncode, done.stdout) == (78, "")
        assert [line.partition(": ")[2] for line in done.stderr.splitlines()] == [
            "unknown key, did you mean tiers?",
            "unknown key, did you mean routes?",
            f"2 of 2 processes still serve policy {digest}",
        ]
        problems = {entry["path"]: entry["where"] for entry in gateway.events("policy.problem")}
        assert {path: where.rpartition("gateway.yaml:")[2] for path, where in problems.items()} == {
            "tierz": "9:1",
            "routez": "10:1",
        }
        assert place.serving() == {digest}
        os.kill(gateway.pids()["gateway-1"], signal.SIGKILL)
        assert wait_until(lambda: len(gateway.events("child.ready")) == 3)
        assert place.serving() == {digest}, "one that starts while the file is broken serves what the others do"
        assert place.status() == 200
        assert gateway.stop() == 0
    assert [path.name for path in (tmp_path / STATE / "gateway").iterdir()] == ["policy-copy.json"]


def test_sign_in_and_offloads_may_appear_by_a_reload(tmp_path: Path, app: str) -> None:
    place = Place(tmp_path, app)
    environ = {"JWT_SECRET": SECRET, "HOOK_SECRET": "a webhook secret for tests"}
    with place.run(environ=environ):
        first = place.up()
        assert place.status("/mine") == 200
        place.replace(place.text(more=AUTH_AND_OFFLOAD, routes=GUARDED))
        assert wait_until(lambda: place.serving() not in ({first.digest}, set()))
        token = jwt.encode({"sub": "ann", "exp": 4_000_000_000}, SECRET, "HS256")
        answer = httpx.get(
            f"http://{place.gateway}/mine", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        assert (answer.status_code, answer.json()["user"]) == (200, "ann")
        assert place.status("/mine") == 401
        sent = posted(f"http://{place.gateway}/leads", {"text": "a roof"})
        assert (sent.status_code, sent.json()) == (201, {"id": "lead-1"})
        with sqlite3.connect(tmp_path / STATE / "scopegate.db") as database:
            assert database.execute("SELECT lead_id FROM jobs").fetchall() == [("lead-1",)]
        database.close()


AUTH_AND_OFFLOAD = """\
auth: {users: {jwt: {secret: "${JWT_SECRET}", algorithms: [HS256]}}}
offloads:
  photos:
    lead_id: response.id
    photos: request.photos
    text: request.text
    photo_hosts: [127.0.0.1]
    deliver: {url: "http://127.0.0.1:3000/in", secret: "${HOOK_SECRET}"}
ai: {model: claude-haiku-5-5}
"""
GUARDED = """\
  - {name: mine, match: GET /mine, tier: none, auth: users}
  - {name: leads, match: POST /leads, tier: none, body: {types: [application/json]}, offload: photos}
"""


def test_up_brings_worker_and_admin_along(tmp_path: Path, app: str, valkey_url: str) -> None:
    place = Place(tmp_path, app)
    with place.run("up", environ={"REDIS_URL": valkey_url}) as up:
        up.first_lines(6)
        before = up.pids()
        place.replace(place.text(limit=6))
        assert wait_until(lambda: len(up.events("child.ready")) == 4)
        after = up.pids()
        assert {name for name in before if before[name] != after[name]} == {"admin"}, "the worker uses nothing of it"
        [digest] = place.serving()
        metrics = httpx.get(f"http://{place.admin}/metrics", trust_env=False).text
        assert f'policy="{digest}"' in metrics
        assert 'scopegate_reloads_total{outcome="applied"} 1.0' in metrics
        assert "scopegate_policy_stale 0.0" in metrics
        place.replace(BROKEN)
        assert wait_until(lambda: _says(place, "scopegate_policy_stale 1.0"))
        assert httpx.get(f"http://{place.admin}/readyz", trust_env=False).status_code == 200
        place.replace(place.text().replace("drain: 5s", "drain: 4s"))
        assert wait_until(lambda: len(up.events("child.ready")) == 6)
        assert {entry["child"] for entry in up.events("child.renewed")} == {"admin", "worker"}
        assert not up.events("child.restarts")
        assert wait_until(lambda: _says(place, "scopegate_policy_stale 0.0"))
        assert up.stop() == 0


def _says(place: Place, line: str) -> bool:
    try:
        return line in httpx.get(f"http://{place.admin}/metrics", trust_env=False).text
    except httpx.TransportError:
        return False
