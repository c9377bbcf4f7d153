"""A real gateway on a loopback socket, in the test's own loop, with a recording app behind it.

The policy is YAML read by `policy.compile`; the outbox is SQL on a file. Rigs of a module are stopped together at its
end (a stop takes uvicorn a few tenths of a second); after each test `settled` wants every counter back at zero.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from scopegate.clock import Clock, SystemClock
from scopegate.following.source import Source, reader_beside
from scopegate.gateway import app as gateway_app
from scopegate.gateway.app import Gateway
from scopegate.gateway.identity import Identities
from scopegate.gateway.intake import MAX_UNRECORDED, Intake
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.pool import UpstreamServer
from scopegate.gateway.protocol import ClientConnection
from scopegate.gateway.signin import SignIn
from scopegate.gateway.top import TopKeys
from scopegate.policy.policy import Policy
from scopegate.stores.late import LateDatabase
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.mirror import Mirror
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.ports import AnswerStore, LimitStore, Messenger, OrderSpool, Outbox
from scopegate.stores.queue import NoMessenger
from scopegate.stores.spool import Spool
from tests.gateway.app import App
from tests.gateway.client import Client

ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module", loop_factories=["uvloop"])
"""For modules that serve: one loop for the module, of the kind that serves in production."""

HOST = b"Host: a.example\r\n"
JWT_SECRET = "a shared secret of the tests, longer than 32 bytes"
ENVIRON = {"JWT_SECRET": JWT_SECRET, "HOOK_SECRET": "a webhook secret for tests"}

Section = Mapping[str, Any]


def policy_of(
    servers: Sequence[str],
    *,
    limits: Section | None = None,
    timeouts: Section | None = None,
    upstream: Section | None = None,
    pool: Section | None = None,
    server: Section | None = None,
    **sections: Any,
) -> Policy:
    """A policy in which everything goes to `servers`, unless `sections` say something else. `upstream` are its
    time-outs, `pool` its other settings."""
    bounds = dict(limits or {})
    one_address = bounds.get("connections", 4096)  # all visitors of a test have it
    document: dict[str, Any] = {
        "version": 1,
        "server": {
            "limits": {
                "connections_per_client": one_address,
                "in_flight_per_client": bounds.get("in_flight", 512),
                **bounds,
            },
            "timeouts": {"drain": "1s", **(timeouts or {})},
            **(server or {}),
        },
        "upstreams": {
            "web": {"servers": list(servers), "timeouts": {"connect": "2s", **(upstream or {})}, **(pool or {})}
        },
        "routes": [{"name": "all", "match": "ANY /**", "tier": "none"}],
        **sections,
    }
    file = Path("gateway.yaml")
    source = Source(file, yaml.safe_dump(document).encode(), reader_beside(file))
    review = source.examine(ENVIRON, lenient=False)
    assert review.policy is not None, review.problems
    return review.policy


class Rig:
    """One gateway process without the process."""

    def __init__(
        self, gateway: Gateway, app: App, intake: Intake | None, database: LateDatabase | None, http: httpx.AsyncClient
    ) -> None:
        self.gateway = gateway
        self._http = http
        self.app = app
        self.intake = intake
        self.database = database
        self.stop = asyncio.Event()
        self.top = TopKeys()
        self.clients: list[Client] = []
        self._serving: asyncio.Task[None] | None = None
        self.port = self.redirect_port = 0

    async def serve(self, kernel_bytes: int | None) -> None:
        sock = socket.socket()
        if kernel_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
        sock.bind(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        ready, redirecting = asyncio.Event(), None
        if self.gateway.shared.rules.policy.server.redirect is not None:
            redirecting = socket.create_server(("127.0.0.1", 0))
            self.redirect_port = redirecting.getsockname()[1]
        serving = gateway_app.serve(self.gateway, sock, self.stop, ready.set, redirecting)
        self._serving = asyncio.create_task(serving)
        await asyncio.wait({self._serving, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), self._serving

    async def connect(self, *, read_ahead_bytes: int = 65536, kernel_bytes: int | None = None) -> Client:
        client = await Client.connect(self.port, read_ahead_bytes=read_ahead_bytes, kernel_bytes=kernel_bytes)
        self.clients.append(client)
        return client

    @property
    def connections(self) -> list[ClientConnection]:
        """From the visitors."""
        return [each for each in self.gateway.connections.open if isinstance(each, ClientConnection)]

    @property
    def servers(self) -> list[UpstreamServer]:
        return [server for plan in self.gateway.shared.rules.plans() for server in plan.pool.servers]

    async def settled(self) -> None:
        """Nobody is served any more: visitors are gone, and nothing of them is left."""
        for client in self.clients:
            await client.close()
        self.clients.clear()
        shared, connections = self.gateway.shared, self.gateway.connections

        def left() -> dict[str, int]:
            in_use = sum(server.in_use for server in self.servers)
            counts = {"in_flight": shared.in_flight, "held_bytes": shared.held.bytes, "in_use": in_use}
            return counts | {
                "connections": len(connections.open),
                "clients": len(connections.clients),
                "askers": len(shared.askers),
                "holders": len(shared.held.holders),
                "idle": len(connections.idle),
            }

        await eventually(lambda: not any(left().values()), left)
        assert self.app.faults == []
        assert [server.open for server in self.servers] == [server.idle for server in self.servers]

    async def stopped(self) -> None:
        self.stop.set()
        assert self._serving is not None
        await self._serving
        await asyncio.sleep(0.01)
        await self.app.stop()
        await self._http.aclose()
        if self.database is not None:
            await self.database.close()
        assert {server.open for server in self.servers} == {0}


class Rigs:
    """The rigs of one module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Rig] = []
        self._fresh: list[Rig] = []
        self._apps: set[App] = set()

    async def start(
        self,
        *,
        app: App | None = None,
        servers: Sequence[str] | None = None,
        store: LimitStore | None = None,
        clock: Clock | None = None,
        outbox: Outbox | None = None,
        spool: OrderSpool | None = None,
        messenger: Messenger | None = None,
        max_unrecorded: int = MAX_UNRECORDED,
        kernel_bytes: int | None = None,
        answers: Callable[[], AnswerStore] | None = None,
        **policy: Any,
    ) -> Rig:
        """See `policy_of` for the rest. `kernel_bytes`: how much the kernel takes for a client that does not read."""
        app = app or App()
        if not app.port:
            await app.start()
        self._apps.add(app)
        clock = clock or SystemClock()
        rules = policy_of(servers or [app.url], **policy)
        limiter = Limiter(store or MemoryLimits(clock), Mirror(clock))
        http = httpx.AsyncClient(trust_env=False)
        signin = SignIn(Identities(http, clock)) if rules.auths else None
        database, intake = None, None
        if rules.offloads:
            database = LateDatabase(f"sqlite:///{self._folder / f'leads-{len(self._made)}.db'}")
            spool = spool or Spool(self._folder / f"spool-{len(self._made)}")
            writing = outbox or SqlOutbox(database)
            intake = Intake(writing, messenger or NoMessenger(), spool, clock, max_unrecorded=max_unrecorded)
            intake.open()
        rig = Rig(Gateway(rules, limiter, signin, intake, clock, answers), app, intake, database, http)
        rig.top = limiter.top
        await rig.serve(kernel_bytes)
        self._made.append(rig)
        self._fresh.append(rig)
        return rig

    async def settled(self) -> None:
        """After each test."""
        fresh, self._fresh = self._fresh, []
        for rig in fresh:
            await rig.settled()
        gc.collect(0)

    async def stopped(self) -> None:
        try:
            await asyncio.gather(*(rig.stopped() for rig in self._made))
        finally:
            await asyncio.gather(*(app.stop() for app in self._apps))


async def eventually(reached: Any, told: Any = None, patience_s: float = 20.0) -> None:
    """Wait until it is true; nothing tells when."""
    try:
        async with asyncio.timeout(patience_s):
            while not reached():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(told() if told is not None else reached) from None


class Lines(logging.Handler):
    """What was logged, while attached."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
