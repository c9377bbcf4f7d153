"""A full disk on the state directory loses no lead: none is taken until there is room again, and the client is told."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scopegate.leads.job import JobFilter, JobState
from scopegate.process import serving
from scopegate.stores.database import open_database
from scopegate.stores.jobs import SqlJobs
from tests.flows.processes import scopegate, wait_until
from tests.ports import free_port

_POLICY = """\
version: 1
server: {{listen: "127.0.0.1:{port}", timeouts: {{drain: 2s}}}}
upstreams: {{web: {{servers: ["http://127.0.0.1:{app}"]}}}}
routes:
  - {{name: submit-lead, match: POST /api/leads, tier: none, body: {{types: [application/json]}}, offload: leads}}
offloads:
  leads:
    lead_id: response.id
    photos: request.photos
    text: request.text
    photo_hosts: [photos.example.com]
    deliver: {{url: "http://127.0.0.1:{app}/done", secret: "${{SCOPEGATE_WEBHOOK_SECRET}}"}}
ai: {{model: claude-haiku-5-5}}
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Four megabytes."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "scopegate-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk never filled")


async def submit_until_taken(port: int, text: str) -> None:
    """As a visitor does who is told to try again: opening the database may take a while."""
    while (answer := await submit(port, text))[0] == 503:
        pass
    assert answer[0] == 201


async def submit(port: int, text: str) -> tuple[int, bytes]:
    body = json.dumps({"text": text, "photos": []}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = b"POST /api/leads HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


async def test_while_the_disk_is_full_no_lead_is_taken_and_none_is_lost(tmp_path: Path, small_disk: Path) -> None:
    taken: list[str] = []

    async def take(request: Request) -> JSONResponse:
        taken.append((await request.json())["text"])
        return JSONResponse({"id": f"lead-{len(taken)}"}, 201)

    app_socket = socket.create_server(("127.0.0.1", 0))
    app_socket.setblocking(False)
    stop = asyncio.Event()
    app = Starlette(routes=[Route("/api/leads", take, methods=["POST"])])
    serving_app = asyncio.create_task(serving.serve(app, app_socket, stop, lambda: None, drain_s=lambda: 1))
    port = free_port()
    config = tmp_path / "gateway.yaml"
    config.write_text(_POLICY.format(port=port, app=app_socket.getsockname()[1]))
    state = small_disk / "state"
    environ = {"SCOPEGATE_STATE_DIR": str(state), "SCOPEGATE_WEBHOOK_SECRET": "a secret of at least 16 bytes"}

    with scopegate(["gateway", "-c", str(config)], tmp_path, environ) as gateway:
        assert await asyncio.to_thread(wait_until, lambda: is_open(port))
        await submit_until_taken(port, "before")
        filler = fill(small_disk)
        status, body = await submit(port, "while full")
        assert (status, json.loads(body)["code"]) == (503, "intake_down")
        filler.unlink()
        await submit_until_taken(port, "after")
        assert len(gateway.events("order.accepted")) == 2
        assert gateway.stop() == 0

    stop.set()
    await serving_app
    database = await open_database(f"sqlite:///{state}/scopegate.db")
    jobs = await SqlJobs(database).list(JobFilter(state=JobState.QUEUED))
    await database.close()
    assert sorted(job.lead.lead_id for job in jobs) == ["lead-1", "lead-2"]
    assert taken == ["before", "after"]


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
