"""What the demo's story plays on: real processes on free loopback ports, and a state directory of their own.

The demo app, a simulated Claude (unless the real API is asked for) and `scopegate up` run under one supervisor and end
with it. Here is what they are given; `story` is what happens then.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from scopegate.supervise.supervisor import Child

LOOPBACK = "127.0.0.1"
SIMULATED_LATENCY_S = 0.15
"""What the simulated Claude takes for an answer. The real one takes seconds."""

SIMULATION_FIELD = "x-simulated-claude"
"""Every answer of a simulated Claude carries it, see `claude`."""

_POLL_S = 0.1
_PROBE_S = 5.0

_POLICY = """\
# The demo's policy: gateway.yaml in small, for an app on this machine.
version: 1
server:
  listen: {gateway}
  timeouts: {{drain: 10s}}
admin:
  listen: {admin}
upstreams:
  web:
    servers: ["http://{app}"]
tiers:
  strict: {{limit: 10 per 10s, key: client_ip, on_store_error: local}}
  lenient: {{limit: 100 per 10s, key: client_ip, on_store_error: allow}}
routes:
  - {{name: submit-lead, match: POST /api/leads, tier: strict, body: {{max: 256KiB, types: [application/json]}},
     offload: lead-photos}}
  - {{name: presign, match: POST /api/uploads/presign, tier: strict, body: {{max: 16KiB, types: [application/json]}}}}
  - {{name: upload, match: "PUT /photos/*", tier: lenient,
     body: {{max: 8MiB, types: [image/jpeg, image/png, image/webp]}}}}
  - {{name: read-api, match: "GET /api/**", tier: lenient}}
  - {{name: everything-else, match: "ANY /**", tier: lenient}}
offloads:
  lead-photos:
    lead_id: response.id
    contractor: request.contractorSlug
    photos: request.photos[].url
    text: request.projectDescription
    photo_hosts: ["{app}"]
    deliver: {{url: "http://{app}/api/internal/lead-analysis", secret: "${{SCOPEGATE_WEBHOOK_SECRET}}"}}
    starts: 60 per 1m
ai:
  model: claude-haiku-5-5
  budgets:
    - {{name: demo, limit: 1 USD per day, warn_at: [50%], when_spent: fail}}
promises:
  - {{request: POST /api/leads, route: submit-lead, tier: strict}}
"""


@dataclass(frozen=True, slots=True)
class RealAPI:
    """The API of the user's key instead of a simulation of ours. `base_url` None for Anthropic's own address;
    `is_simulated` when what answers there says that it is a simulated Claude."""

    api_key: str
    base_url: str | None
    is_simulated: bool = False

    @property
    def words(self) -> str:
        """What the story calls it: nothing is called real that only might be."""
        if self.base_url is None:
            return "the real API"
        return f"{'a simulated Claude' if self.is_simulated else 'the API'} at {self.base_url}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. Addresses are `host:port`; `claude` is our simulation, None when `live` is used."""

    state: Path
    gateway: str
    admin: str
    app: str
    claude: str | None
    admin_token: str
    children: tuple[Child, ...]
    live: RealAPI | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the model is a simulation: ours, or one that the user pointed us at."""
        return self.claude is not None or (self.live is not None and self.live.is_simulated)

    @property
    def logs(self) -> Sequence[Path]:
        return tuple(child.output for child in self.children if child.output is not None)


def build(state: Path, environ: Mapping[str, str], live: RealAPI | None, app_socket: socket.socket) -> Stage:
    """Write the policy and name the processes. `app_socket` listens already and is handed to the app."""
    app = _address(app_socket)
    gateway, admin, claude = free_addresses(3)
    (state / "logs").mkdir(mode=0o700)
    config = state / "gateway.yaml"
    config.write_text(_POLICY.format(gateway=gateway, admin=admin, app=app), encoding="utf-8")
    token, key = secrets.token_urlsafe(24), f"simulated-{secrets.token_hex(8)}"
    env = clean(environ) | {
        "SCOPEGATE_STATE_DIR": str(state / "scopegate"),
        "SCOPEGATE_ADMIN_TOKEN": token,
        "SCOPEGATE_WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "ANTHROPIC_API_KEY": key if live is None else live.api_key,
    }
    base_url = f"http://{claude}" if live is None else live.base_url
    if base_url is not None:
        env["ANTHROPIC_BASE_URL"] = base_url
    children = [_app(state, env, app_socket)]
    if live is None:
        children.append(_simulated_claude(state, env, claude, key))
    children.append(_up(state, env, config, tuple(child.name for child in children)))
    return Stage(state, gateway, admin, app, None if live else claude, token, tuple(children), live)


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what would lead the demo to somebody's real Redis, database or account."""
    ours = ("SCOPEGATE_", "ANTHROPIC_", "PROMETHEUS_")
    names = ("REDIS_URL", "DATABASE_URL")
    return {name: value for name, value in environ.items() if not name.startswith(ours) and name not in names}


def free_addresses(count: int) -> list[str]:
    """Addresses nobody listens on at this moment, each another one."""
    held = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [_address(sock) for sock in held]
    finally:
        for sock in held:
            sock.close()


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{host}:{port}"


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module)


def _app(state: Path, env: Mapping[str, str], sock: socket.socket) -> Child:
    directory = state / "app"
    directory.mkdir(mode=0o700)
    argv = (*_python("scopegate.demo.app"), "--fd", str(sock.fileno()), "--state", str(directory))
    return Child("demo app", argv, env, pass_fds=(sock.fileno(),), output=state / "logs" / "app.log")


def _simulated_claude(state: Path, env: Mapping[str, str], address: str, key: str) -> Child:
    host, _, port = address.rpartition(":")
    options = ("--host", host, "--port", port, "--api-key", key, "--latency", str(SIMULATED_LATENCY_S))
    argv = (*_python("scopegate.demo.claude"), *options)

    async def ready() -> None:
        await answering(f"http://{address}/")

    return Child("simulated Claude", argv, env, ready=ready, ours=False, output=state / "logs" / "claude.log")


def _up(state: Path, env: Mapping[str, str], config: Path, after: tuple[str, ...]) -> Child:
    argv = (*_python("scopegate"), "up", "-c", str(config))
    return Child("scopegate up", argv, env, after=after, output=state / "logs" / "scopegate.log")


def names_simulation(base_url: str) -> bool:
    """Whether what answers there says of itself that it is a simulated Claude. No key is sent. False when nothing
    answers: the calls will say so."""
    try:
        with httpx.Client(timeout=_PROBE_S) as client, client.stream("GET", base_url) as answer:
            return SIMULATION_FIELD in answer.headers
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


async def answering(url: str) -> None:
    """Returns once something answers there with a 2xx."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(_POLL_S)


def tail(path: Path, lines: int = 20) -> str:
    """The end of a log, for a failure's report."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
