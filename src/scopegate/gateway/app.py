"""The gateway process: what its connections share, the ticker that keeps time for them, and the Starlette app and
uvicorn server around it.

Proxied exchanges never pass through ASGI: the protocol hands them to the pipeline (measured: that is half the cost of
a request). Starlette keeps the lifespan, and whatever is served that is not proxied.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

from starlette.applications import Starlette

from scopegate import logs, metrics, serving
from scopegate.clock import Clock
from scopegate.gateway.access import AccessLog
from scopegate.gateway.crowd import Crowd
from scopegate.gateway.intake import Intake
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.protocol import ClientConnection
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.signin import SignIn
from scopegate.policy.policy import Policy, Upstream

TICK_S = 0.25
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Request bodies held back in this process, all together."""
_log = logs.get("gateway")


class Gateway:
    """Shared by all connections of this process. `rules` is replaced as a whole, never edited."""

    def __init__(
        self, policy: Policy, limiter: Limiter, signin: SignIn | None, intake: Intake | None, clock: Clock
    ) -> None:
        """`signin` may be missing where no route asks for it, `intake` where no route offloads."""
        self.loop = asyncio.get_running_loop()
        self.limiter = limiter
        self.signin = signin
        self.intake = intake
        self.connections: set[ClientConnection] = set()
        self.crowd = Crowd()
        self.in_flight = 0
        self.held_bytes = 0
        self.max_held_bytes = MAX_HELD_BYTES
        self.draining = False
        self._clock = clock
        self.access = AccessLog(self.now_ms)
        self._pools: dict[Upstream, UpstreamPool] = {}
        self._id_prefix = os.urandom(8).hex().encode()
        self._ids = itertools.count(1)
        self._date = (0, b"")
        self._flushed_s = 0.0
        self.rules = Ruleset(policy, self._pool_for)
        metrics.declare(policy)
        metrics.POLICY_LOADED.set(self.now_s())

    def _pool_for(self, upstream: Upstream) -> UpstreamPool:
        if upstream not in self._pools:
            self._pools[upstream] = UpstreamPool(upstream, self.loop)
            self._pools[upstream].start()
        return self._pools[upstream]

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def next_request_id(self) -> bytes:
        """24 hex digits: 16 drawn at start, 8 counted."""
        return b"%b%08x" % (self._id_prefix, next(self._ids) & 0xFFFFFFFF)

    def http_date(self) -> bytes:
        second = int(self.now_s())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    async def tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(self.loop.time())

    def tick(self, now: float) -> None:
        """Deadlines, idle connections, and once a second what was counted."""
        for connection in [c for c in self.connections if c.deadline_s <= now]:
            connection.on_deadline()
        for pool in self._pools.values():
            pool.expire(now)
        self.access.flush()
        if now - self._flushed_s >= 1.0:
            self._flushed_s = now
            self.flush()

    def flush(self) -> None:
        """Move what was counted into the metrics."""
        self.rules.flush()
        metrics.IN_FLIGHT.set(self.in_flight)
        metrics.CONNECTIONS.set(len(self.connections))
        for upstream, pool in self._pools.items():
            metrics.UPSTREAM_CONNECTIONS.labels(upstream.name, "in_use").set(sum(s.in_use for s in pool.servers))
            metrics.UPSTREAM_CONNECTIONS.labels(upstream.name, "idle").set(sum(s.idle for s in pool.servers))
            for state, count in pool.states().items():
                metrics.UPSTREAM_SERVERS.labels(upstream.name, state.value).set(count)

    async def close(self) -> None:
        """What is still open after the drain time is broken; orders under way are finished."""
        for connection in list(self.connections):
            connection.break_off()
        if self.intake is not None:
            await self.intake.close()
        if self.signin is not None:
            await self.signin.close()
        await self.limiter.close()
        for pool in self._pools.values():
            await pool.close()
        self.access.flush()
        self.flush()


def create_app(gateway: Gateway) -> Starlette:
    """The app that uvicorn runs: connections find their gateway in the lifespan's state."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Gateway]]:
        yield {"gateway": gateway}

    return Starlette(lifespan=lifespan)


async def serve(gateway: Gateway, sock: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Serve on `sock` until `stop`, then drain and close the gateway. `ready` is called once connections are taken."""
    ticking = asyncio.create_task(gateway.tick_for_ever())
    try:
        await serving.serve(
            create_app(gateway), sock, stop, ready, drain_s=gateway.rules.timeouts.drain_s, http=ClientConnection
        )
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await gateway.close()
