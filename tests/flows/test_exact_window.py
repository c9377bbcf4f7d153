"""A limit is a promise: two gateway processes that share a Valkey admit together exactly what one would."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from scopegate.process import serving
from tests.flows.processes import Scopegate, scopegate, wait_until
from tests.ports import free_port

_POLICY = """\
version: 1
server: {{listen: "127.0.0.1:{port}", timeouts: {{drain: 1s}}}}
upstreams: {{web: {{servers: ["http://127.0.0.1:{app}"]}}}}
tiers: {{hundred: {{limit: 100 per 60s, key: client_ip, on_store_error: deny}}}}
routes: [{{name: everything, match: ANY /**, tier: hundred}}]
"""


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    sock.setblocking(False)
    return sock


async def ask(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_200_requests_at_once_through_two_processes_admit_exactly_100(tmp_path: Path, valkey_url: str) -> None:
    sock, stop = listening(), asyncio.Event()
    app = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("ok"))])
    serving_app = asyncio.create_task(serving.serve(app, sock, stop, lambda: None, drain_s=lambda: 1))
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        for port in ports:
            start(stack, tmp_path, port, sock.getsockname()[1], valkey_url)
        assert await asyncio.to_thread(wait_until, lambda: all(map(is_listening, ports)))
        answers = await asyncio.gather(*(ask(ports[n % 2]) for n in range(200)))
    stop.set()
    await serving_app
    assert {status: answers.count(status) for status in set(answers)} == {200: 100, 429: 100}


def start(stack: ExitStack, folder: Path, port: int, app: int, valkey_url: str) -> Scopegate:
    config = folder / f"{port}.yaml"
    config.write_text(_POLICY.format(port=port, app=app))
    environ = {
        "REDIS_URL": valkey_url,
        "SCOPEGATE_STATE_DIR": str(folder / f"state-{port}"),
        "SCOPEGATE_LIMIT_TIMEOUT": "1s",  # a machine that is slow for a moment is no outage here
    }
    return stack.enter_context(scopegate(["gateway", "-c", str(config)], folder, environ))
