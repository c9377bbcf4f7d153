"""The gateway process: what its connections share, the policy's replacement by a newer one, the ticker that keeps time
for them, and the Starlette app and uvicorn server around it.

Proxied exchanges never pass through ASGI: the protocol hands them to the pipeline (measured: that is half the cost of
a request). Starlette keeps the lifespan, and whatever is served that is not proxied.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

from starlette.applications import Starlette

from scopegate import logs
from scopegate.clock import Clock
from scopegate.gateway.access import AccessLog
from scopegate.gateway.crowd import Crowd
from scopegate.gateway.intake import Intake
from scopegate.gateway.late import LateSignIn
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.protocol import ClientConnection
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.signin import SignIn
from scopegate.gateway.streams import Streams
from scopegate.limits.health import ServerState
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import Policy, Upstream
from scopegate.process import serving

TICK_S = 0.25
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Request bodies held back in this process, all together."""
SHARE_OF_HELD = 8
"""One client holds at most an eighth of that."""
_log = logs.get("gateway")


class Gateway:
    """Shared by all connections of this process. `rules` is replaced as a whole, never edited."""

    def __init__(
        self, policy: Policy, limiter: Limiter, signin: SignIn | LateSignIn | None, intake: Intake | None, clock: Clock
    ) -> None:
        """`signin` may be missing where no route will ever ask for it, `intake` where none will offload."""
        self.loop = asyncio.get_running_loop()
        self.limiter = limiter
        self.signin = signin
        self.intake = intake
        self.connections: set[ClientConnection] = set()
        self.crowd = Crowd()
        self.idle: dict[ClientConnection, None] = {}
        """Connections without a request, in the order in which they became so."""
        self.unread: set[ClientConnection] = set()
        """Those that are not read from right now: their clients' ends have to be looked for."""
        self.askers = Crowd()
        """Whose requests those in flight are."""
        self.streams = Streams()
        self.in_flight = 0
        self.held_bytes = 0
        self.max_held_bytes = MAX_HELD_BYTES
        self.holders = Crowd()
        """Whose bytes those held are."""
        self.draining = False
        self._clock = clock
        self.access = AccessLog(self.now_ms)
        self._pools: dict[tuple[Upstream, bytes], UpstreamPool] = {}
        self._id_prefix = os.urandom(8).hex().encode()
        self._ids = itertools.count(1)
        self.draw_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311 (trace ids must differ, not be secret)
        self._date = (0, b"")
        self._flushed_s = 0.0
        self._ending: set[asyncio.Task[None]] = set()
        self._retired: list[Ruleset] = []
        """Replaced, and still counted: requests that began with them go on."""
        self._coming: frozenset[UpstreamPool] = frozenset()
        """Of a policy that is being adopted: nobody uses them yet."""
        self._gauged: set[str] = set()
        self.rules = _build(policy, self._pools_of(policy))
        metrics.POLICY_LOADED.set(self.now_s())

    # ── the policy ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _pools_of(self, policy: Policy) -> Mapping[Upstream, UpstreamPool]:
        """One for each upstream; an unchanged one keeps its pool with its connections and what is known of its health.
        Another certificate authority in the same file makes another upstream of it."""
        pools: dict[Upstream, UpstreamPool] = {}
        for upstream in policy.upstreams.values():
            key = (upstream, _content(upstream.tls.ca_file))
            if key not in self._pools:
                self._pools[key] = UpstreamPool(upstream, self.loop)
                self._pools[key].start()
            pools[upstream] = self._pools[key]
        return pools

    async def adopt(self, policy: Policy) -> None:
        """Serve by `policy` from now on; requests under way keep the rules they began with. Limits go on counting:
        their windows are found by tier, quota and key. What is heavy happens in a thread, the swap itself is one
        assignment. Raises what building raises, and nothing has changed then."""
        try:
            pools = self._pools_of(policy)
            self._coming = frozenset(pools.values())
            rules = await asyncio.to_thread(_build, policy, pools)
        except BaseException:
            self._coming = frozenset()
            self._let_go()
            raise
        self._retired.append(self.rules)
        self.rules = rules
        self._coming = frozenset()
        metrics.POLICY_LOADED.set(self.now_s())

    def _let_go(self) -> None:
        """Forget rules that no request needs any more, after they were counted, and the pools that nobody else uses."""
        in_use = {connection.rules_in_use() for connection in self.connections}
        self._retired = [rules for rules in self._retired if rules in in_use]
        needed = self.rules.pools.union(self._coming, *(rules.pools for rules in self._retired))
        for key in [key for key, pool in self._pools.items() if pool not in needed]:
            task = self.loop.create_task(self._pools.pop(key).close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

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

    def may_hold(self, group: str, more: int, own: int = 0) -> bool:
        """Whether there is room for `more` bytes of a body of this client, `own` bytes of which are held already. One
        client has its share of it, but a single body may be as large as its route allows."""
        if self.held_bytes + more > self.max_held_bytes:
            return False
        held = self.holders.of(group)
        return held == own or held + more <= self.max_held_bytes // SHARE_OF_HELD

    def make_room(self) -> bool:
        """For one more connection: that without a request for longest ends. False when all have one."""
        for connection in self.idle:
            connection.give_way()
            return True
        return False

    async def tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(self.loop.time())

    def tick(self, now: float) -> None:
        """Deadlines, idle connections, and once a second what was counted."""
        for connection in [c for c in self.connections if c.deadline_s <= now]:
            connection.on_deadline()
        for connection in list(self.unread):
            connection.look_for_end()
        for pool in self._pools.values():
            pool.expire(now)
        self.access.flush()
        if now - self._flushed_s >= 1.0:
            self._flushed_s = now
            self.flush()

    def flush(self) -> None:
        """Move what was counted into the metrics."""
        self.rules.flush()
        if self._retired:
            for rules in self._retired:
                rules.flush()
            self._let_go()
        metrics.IN_FLIGHT.set(self.in_flight)
        for kind, count in self.streams.open.items():
            metrics.STREAMS.labels(kind.value).set(count)
        metrics.CONNECTIONS.set(len(self.connections))
        self._gauge_upstreams()

    def _gauge_upstreams(self) -> None:
        """By name: an upstream that was changed has two pools for a while, one that was removed none."""
        found: dict[str, Counter[str]] = {name: Counter() for name in self._gauged}
        for pool in self._pools.values():
            counts = found.setdefault(pool.upstream.name, Counter())
            counts["in_use"] += sum(server.in_use for server in pool.servers)
            counts["idle"] += sum(server.idle for server in pool.servers)
            if pool in self.rules.pools:
                counts.update(pool.states())
        self._gauged.update(found)
        for name, counts in found.items():
            for state in ("in_use", "idle"):
                metrics.UPSTREAM_CONNECTIONS.labels(name, state).set(counts[state])
            for server_state in ServerState:
                metrics.UPSTREAM_SERVERS.labels(name, server_state.value).set(counts[server_state])

    def break_off(self) -> None:
        """The drain time is over: end what is still open, and say so in the access log."""
        for connection in list(self.connections):
            connection.break_off()

    async def close(self) -> None:
        """What is still open is broken off; orders under way are finished."""
        self.break_off()
        if self.intake is not None:
            await self.intake.close()
        if self.signin is not None:
            await self.signin.close()
        await self.limiter.close()
        for pool in self._pools.values():
            await pool.close()
        await asyncio.gather(*self._ending)
        self.access.flush()
        self.flush()


def _build(policy: Policy, pools: Mapping[Upstream, UpstreamPool]) -> Ruleset:
    """Everything that grows with the number of routes. Safe in a thread: it touches nothing that serves."""
    metrics.declare(policy)
    return Ruleset(policy, pools.__getitem__)


def _content(file: str | None) -> bytes:
    """What tells two contents of a file apart; empty for none."""
    if file is None:
        return b""
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:
        return b""


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
            create_app(gateway),
            sock,
            stop,
            ready,
            drain_s=lambda: gateway.rules.timeouts.drain_s,
            break_off=gateway.break_off,
            http=ClientConnection,
        )
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await gateway.close()
