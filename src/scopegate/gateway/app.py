"""The gateway process: the policy's replacement by a newer one, the ticker that keeps time for all connections, and the
uvicorn server around it.

No exchange passes through ASGI: the protocol hands them to the pipeline (measured: that is half the cost of a request).
What uvicorn calls the app has a lifespan, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from scopegate import logs
from scopegate.clock import Clock
from scopegate.gateway import redirect
from scopegate.gateway.caching import Cache
from scopegate.gateway.certificates import Certificate, Certificates, load
from scopegate.gateway.connections import Connections
from scopegate.gateway.intake import Intake
from scopegate.gateway.late import LateSignIn
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.pipeline import pipeline
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.protocol import ClientConnection
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.shared import Shared
from scopegate.gateway.signin import SignIn
from scopegate.gateway.tls import TlsHandshake
from scopegate.limits.health import ServerState
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import ConnectionState, words
from scopegate.policy.policy import Policy, Upstream
from scopegate.process import serving
from scopegate.stores.ports import AnswerStore

TICK_S = 0.25
_log = logs.get("gateway")


class Gateway:
    """One process: what its requests share, its open connections, and the steps that each request goes through."""

    def __init__(
        self,
        policy: Policy,
        limiter: Limiter,
        signin: SignIn | LateSignIn | None,
        intake: Intake | None,
        clock: Clock,
        answers: Callable[[], AnswerStore] | None = None,
    ) -> None:
        """`signin` may be missing where no route will ever ask for it, `intake` where none will offload, `answers`
        where each process keeps its own alone."""
        self._loop = asyncio.get_running_loop()
        self._limiter = limiter
        self._signin = signin
        self._intake = intake
        self._pools: dict[tuple[Upstream, bytes], UpstreamPool] = {}
        self._flushed_s = 0.0
        self._ending: set[asyncio.Task[None]] = set()
        self._retired: list[Ruleset] = []
        """Replaced, and still counted: requests that began with them go on."""
        self._coming: frozenset[UpstreamPool] = frozenset()
        """Of a policy that is being adopted: nobody uses them yet."""
        self._gauged: set[str] = set()
        self.certificates = Certificates(_certificates(policy)) if policy.server.tls else None
        """None for a port that speaks plain HTTP; that only a start can change."""
        self.shared = Shared(_build(policy, self._pools_of(policy), limiter.secret), clock)
        self.connections = Connections()
        self.cache = Cache(self.shared, policy, answers)
        self.steps = pipeline(limiter, signin, intake, self.cache)
        metrics.POLICY_LOADED.set(self.shared.now_s())

    # ── the policy ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _pools_of(self, policy: Policy) -> Mapping[Upstream, UpstreamPool]:
        """One for each upstream; an unchanged one keeps its pool with its connections and what is known of its health.
        Another certificate authority in the same file makes another upstream of it."""
        pools: dict[Upstream, UpstreamPool] = {}
        for upstream in policy.upstreams.values():
            key = (upstream, _content(upstream.tls.ca_file))
            if key not in self._pools:
                self._pools[key] = UpstreamPool(upstream, self._loop)
                self._pools[key].start()
            pools[upstream] = self._pools[key]
        return pools

    async def adopt(self, policy: Policy) -> None:
        """Serve by `policy` from now on; requests under way keep the rules they began with. Limits go on counting:
        their windows are found by tier, span and key. What is heavy happens in a thread, the swap itself is one
        assignment. Raises what building raises, and nothing has changed then."""
        try:
            pools = self._pools_of(policy)
            self._coming = frozenset(pools.values())
            rules = await asyncio.to_thread(_build, policy, pools, self._limiter.secret)
            certificates = await asyncio.to_thread(_certificates, policy)
        except BaseException:
            self._coming = frozenset()
            self._let_go()
            raise
        self._retired.append(self.shared.rules)
        self.shared.rules = rules
        self.cache.adopt(policy)
        if self.certificates is not None and certificates:
            self.certificates.replace(certificates)
        self._coming = frozenset()
        metrics.POLICY_LOADED.set(self.shared.now_s())

    def _let_go(self) -> None:
        """Forget rules that no request needs any more, after they were counted, and the pools that nobody else uses."""
        in_use = self.connections.rules_in_use()
        self._retired = [rules for rules in self._retired if rules in in_use]
        needed = self.shared.rules.pools.union(self._coming, *(rules.pools for rules in self._retired))
        for key in [key for key, pool in self._pools.items() if pool not in needed]:
            task = self._loop.create_task(self._pools.pop(key).close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(self._loop.time())

    def tick(self, now: float) -> None:
        """Deadlines, idle connections, and once a second what was counted."""
        self.connections.tick(now)
        for pool in self._pools.values():
            pool.expire(now)
        self.cache.tick()
        self.shared.access.flush()
        if now - self._flushed_s >= 1.0:
            self._flushed_s = now
            self.flush()

    def flush(self) -> None:
        """Move what was counted into the metrics."""
        shared = self.shared
        shared.rules.flush()
        if self._retired:
            for rules in self._retired:
                rules.flush()
            self._let_go()
        metrics.IN_FLIGHT.set(shared.in_flight)
        for kind, count in shared.streams.open.items():
            metrics.STREAMS.labels(kind.value).set(count)
        metrics.CACHE_BYTES.set(self.cache.shelf.bytes)
        metrics.CACHE_ANSWERS.set(self.cache.shelf.count)
        metrics.CONNECTIONS.set(len(self.connections.open))
        metrics.CERTIFICATE_ENDS.set(0 if self.certificates is None else self.certificates.ends_s())
        self._gauge_upstreams()

    def _gauge_upstreams(self) -> None:
        """By name: an upstream that was changed has two pools for a while, one that was removed none."""
        found: dict[str, Counter[str]] = {name: Counter() for name in self._gauged}
        for pool in self._pools.values():
            counts = found.setdefault(pool.upstream.name, Counter())
            counts["in_use"] += sum(server.in_use for server in pool.servers)
            counts["idle"] += sum(server.idle for server in pool.servers)
            if pool in self.shared.rules.pools:
                counts.update(pool.states())
        self._gauged.update(found)
        for name, counts in found.items():
            for state in words(ConnectionState):
                metrics.UPSTREAM_CONNECTIONS.labels(name, state).set(counts[state])
            for server_state in ServerState:
                metrics.UPSTREAM_SERVERS.labels(name, server_state.value).set(counts[server_state])

    async def close(self) -> None:
        """What is still open is broken off; orders under way are finished."""
        self.connections.break_off()
        if self._intake is not None:
            await self._intake.close()
        if self._signin is not None:
            await self._signin.close()
        await self._limiter.close()
        await self.cache.close()
        for pool in self._pools.values():
            await pool.close()
        await asyncio.gather(*self._ending)
        self.shared.access.flush()
        self.flush()


def _build(policy: Policy, pools: Mapping[Upstream, UpstreamPool], secret: bytes) -> Ruleset:
    """Everything that grows with the number of routes. Safe in a thread: it touches nothing that serves."""
    metrics.declare(policy)
    return Ruleset(policy, pools.__getitem__, secret)


def _certificates(policy: Policy) -> list[Certificate]:
    return [load(files) for files in policy.server.tls]


def _content(file: str | None) -> bytes:
    """What tells two contents of a file apart; empty for none."""
    if file is None:
        return b""
    try:
        return hashlib.sha256(Path(file).read_bytes()).digest()
    except OSError:
        return b""


def state_of(gateway: Gateway) -> dict[str, Any]:
    """What `protocol.ClientConnection` and `tls.TlsHandshake` are made of."""
    return {
        "shared": gateway.shared,
        "connections": gateway.connections,
        "steps": gateway.steps,
        "certificates": gateway.certificates,
    }


_Event = MutableMapping[str, Any]
_App = Callable[[_Event, Callable[[], Awaitable[_Event]], Callable[[_Event], Awaitable[None]]], Awaitable[None]]


def create_app(gateway: Gateway) -> _App:
    """The app that uvicorn runs: connections find what they need in the lifespan's state (ASGI)."""

    async def lifespan(
        scope: _Event, receive: Callable[[], Awaitable[_Event]], send: Callable[[_Event], Awaitable[None]]
    ) -> None:
        assert scope["type"] == "lifespan", "connections have a protocol of their own"
        await receive()
        scope["state"].update(state_of(gateway))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return lifespan


async def serve(
    gateway: Gateway,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None],
    redirecting: socket.socket | None = None,
) -> None:
    """Serve on `sock` until `stop`, then drain and close the gateway. `ready` is called once connections are taken.
    `redirecting`: whoever comes there is sent to https."""
    ticking = asyncio.create_task(gateway.tick_for_ever())
    try:
        await serving.serve(
            create_app(gateway),
            sock,
            stop,
            ready,
            drain_s=lambda: gateway.shared.rules.timeouts.drain_s,
            break_off=gateway.connections.break_off,
            http=ClientConnection if gateway.certificates is None else TlsHandshake,
            beside={} if redirecting is None else {redirecting: redirect.connection},
        )
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await gateway.close()
