"""The servers of one upstream and their connections: who serves next, who waits, who is left out for a while.

Every connection is in exactly one set of its server from before it is dialled until it is closed: caps and counts are
the size of that set. What is decided about a server's health is in `limits/health`; the pipeline asks for connections,
`ruleset` holds one pool per upstream, and `app` gives it its time and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from scopegate import logs
from scopegate.errors import UpstreamError
from scopegate.gateway.dial import Dialler, tls_context
from scopegate.gateway.guard import Guard
from scopegate.gateway.health import watch
from scopegate.gateway.keeping import idles_for_s, is_sure
from scopegate.gateway.upstream import Home, UpstreamConnection
from scopegate.gateway.waiting import Connecting, Queue
from scopegate.limits import health
from scopegate.limits.health import EjectionTerms, ServerState
from scopegate.policy.policy import Origin, Upstream

_DOWN_FOR_S = 1.0
"""After a connection that could not be made, other servers are asked first for so long."""
_LONG_AGO_S = float("-inf")

_log = logs.get("upstream")


class UpstreamServer:
    """One address of an upstream with its connections."""

    def __init__(
        self, origin: Origin, upstream: Upstream, dialler: Dialler, queue: Queue, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.origin = origin
        self.dialler = dialler
        self.failing = False
        """Whether its last exchange failed: `succeeded` need not be told otherwise."""
        self.version = ""
        self.down_until = _LONG_AGO_S
        self._upstream = upstream
        self._loop = loop
        self._terms = EjectionTerms(upstream.ejection.failures, upstream.ejection.for_s)
        self._connections: set[UpstreamConnection] = set()
        self._apart: set[UpstreamConnection] = set()
        self._strayed: set[UpstreamConnection] = set()
        """Those to an address that the server's name does not lead to any more."""
        self._idle: list[UpstreamConnection] = []
        self._queue = queue
        self._waiting = queue.waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._record = health.FRESH
        self._pulse = health.Pulse()
        self._well_since_s = _LONG_AGO_S
        self._noticed = ServerState.UP
        self._credit = 0.0

    # ── its connections ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def open(self) -> int:
        return len(self._connections)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def in_use(self) -> int:
        return len(self._connections) - len(self._idle)

    @property
    def load(self) -> int:
        """Requests in flight, and those of the upstream that wait."""
        return len(self._connections) - len(self._idle) + len(self._waiting)

    def take_idle(self, *, once: bool = False) -> UpstreamConnection | None:
        """The most recently used connection that is still open; with `once`, for a request that may not be sent twice,
        only if it will surely stay so."""
        idle = self._idle
        while idle and not idle[-1].is_usable():
            idle.pop()
        if not idle or (once and not is_sure(self._loop.time() - idle[-1].idle_since, idle[-1].kept_s)):
            return None
        return idle.pop()

    def connect(self, tried: frozenset[Home] = frozenset()) -> Connecting:
        """A connection of one's own, here if there is a place, else wherever one gets free first, but at `tried`."""
        connecting = Connecting(self._loop.create_future(), tried)
        if self.is_full:
            self._queue.join(connecting)
        else:
            connecting.server = self
            self._start_connecting(connecting.future)
        return connecting

    def _has_room(self) -> bool:
        return len(self._connections) - len(self._apart) < self._upstream.connections

    @property
    def is_full(self) -> bool:
        """Whether one more request would have to wait."""
        return not self._idle and len(self._connections) - len(self._apart) >= self._upstream.connections

    def _start_connecting(self, future: asyncio.Future[UpstreamConnection]) -> None:
        """In a free place, or in that of the connection which has idled for longest."""
        if not self._has_room():
            oldest = self._idle.pop(0)
            self._connections.remove(oldest)  # before its end is told: its place is taken
            oldest.abort()
        connection = UpstreamConnection(self)
        self._connections.add(connection)
        task = self._loop.create_task(self.dialler.open(lambda: connection))
        self._tasks.add(task)
        task.add_done_callback(partial(self._dialled, connection, future))

    def _dialled(
        self, connection: UpstreamConnection, future: asyncio.Future[UpstreamConnection], task: asyncio.Task[None]
    ) -> None:
        """However it ended, also when it was given up before it began."""
        self._tasks.discard(task)
        if task.cancelled():
            self._unreachable(connection, future, UpstreamError("connect", "given up", sent=False), blame=False)
            return
        error = task.exception()
        if error is None and connection.is_usable():
            self.down_until = _LONG_AGO_S
            self._hand_over(connection, future)
            return
        if not isinstance(error, UpstreamError):
            reason = "closed at once" if error is None else type(error).__name__
            error = UpstreamError("connect", reason, sent=False)
        self._unreachable(connection, future, error)

    def _hand_over(self, connection: UpstreamConnection, future: asyncio.Future[UpstreamConnection]) -> None:
        if future.done():
            self.released(connection)
        else:
            future.set_result(connection)

    def _unreachable(
        self,
        connection: UpstreamConnection,
        future: asyncio.Future[UpstreamConnection],
        error: UpstreamError,
        *,
        blame: bool = True,
    ) -> None:
        if blame:
            self.down_until = self._loop.time() + _DOWN_FOR_S
            self.failed()
        if not future.done():
            future.set_exception(error)
        self._drop(connection)

    def released(self, connection: UpstreamConnection) -> None:
        """The connection is free again: the longest waiting request gets it."""
        if self._closed or connection in self._strayed:
            self._drop(connection)
            return
        if self._waiting:
            connecting = self._queue.next_for(self)
            if connecting is not None:
                connecting.future.set_result(connection)
                return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """The connection has ended; telling it twice changes nothing. Its place goes to who waits."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._apart.discard(connection)
        self._strayed.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.fill()

    def set_apart(self, connection: UpstreamConnection) -> None:
        """Its place goes to who waits: streams are bounded by the connections of clients, not by this pool."""
        if connection in self._connections:
            self._apart.add(connection)
            self.fill()

    def fill(self) -> None:
        """Give the places that are free to who waits."""
        while self._waiting and not self._closed and not self.is_full:
            connecting = self._queue.next_for(self)
            if connecting is None:
                return
            connection = self.take_idle(once=True)
            if connection is not None:
                connecting.future.set_result(connection)
            else:
                self._start_connecting(connecting.future)

    def _drop(self, connection: UpstreamConnection) -> None:
        connection.abort()
        self.closed(connection)

    def expire(self, now_s: float) -> None:
        """Close the connections that have been idle for longer than the policy or the app says."""
        most_s = self._upstream.timeouts.idle_s
        for connection in [c for c in self._idle if now_s - c.idle_since > min(most_s, idles_for_s(c.kept_s))]:
            connection.abort()
        self._follow_name()

    def _follow_name(self) -> None:
        """Leave an address that the server's name does not lead to any more: what idles there is closed now, what is in
        use once its exchange is over."""
        name = self.dialler.name
        if name is None or not self._connections:
            return
        if not name.is_known():
            name.look_up()  # for the next time
        self._strayed = {c for c in self._connections if c.peer and not name.leads_to(c.peer)}
        for connection in [c for c in self._idle if c in self._strayed]:
            connection.abort()

    async def close(self) -> None:
        """No new connections, and none is kept; those in use end with their exchange."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.dialler.name is not None:
            await self.dialler.name.close()
        for connection in list(self._idle):
            self._drop(connection)

    # ── its health ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def failures(self) -> int:
        return self._record.failures

    def state(self, now_s: float) -> ServerState:
        if not self._pulse.well:
            return ServerState.UNHEALTHY
        return ServerState.EJECTED if health.is_out(self._record, now_s) else ServerState.UP

    def succeeded(self) -> None:
        """It gave an answer."""
        self.failing = False
        self._record = health.succeeded(self._record)

    def failed(self) -> None:
        """It gave none, and is to blame."""
        now_s = self._loop.time()
        self.failing = True
        self._record = health.failed(self._record, self._terms, now_s)
        self.notice(now_s)

    def answered(self, well: bool) -> None:
        """To the health question."""
        asked = self._upstream.health
        assert asked is not None
        now_s, was_well = self._loop.time(), self._pulse.well
        self._pulse = health.answered(self._pulse, well, asked.unhealthy_after, asked.healthy_after)
        if self._pulse.well and not was_well:
            self._well_since_s = now_s
        self.notice(now_s)

    def notice(self, now_s: float) -> None:
        """Log what has changed, once."""
        state = self.state(now_s)
        if state is self._noticed:
            return
        self._noticed = state
        words = {"upstream": self._upstream.name, "server": self.origin.authority, "state": state.value}
        if state is ServerState.UP:
            _log.info("upstream.server_back", **words)
        else:
            _log.warning("upstream.server_out", **words)

    def is_steady(self, now_s: float) -> bool:
        """Up, and for so long that it gets its full share."""
        return self.down_until <= now_s and self.state(now_s) is ServerState.UP and self._share(now_s) == 1.0

    def takes_part(self, now_s: float, servers: int) -> bool:
        """Whether it may be chosen now, as one of so many. One that has come back saves up for its turn."""
        part = self._share(now_s)
        self._credit = min(1.0, self._credit + part / servers)
        return part == 1.0 or self._credit >= 0.999

    def chosen(self) -> UpstreamServer:
        self._credit = 0.0
        return self

    def _share(self, now_s: float) -> float:
        back_s = max(self._record.until_s, self._well_since_s)
        return health.share(now_s - back_s, self._upstream.ejection.slow_start_s)


class UpstreamPool:
    """The servers of one upstream. Raises ConfigError when its TLS settings cannot be used."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = upstream
        self._loop = loop
        tls = tls_context(upstream)
        most = upstream.waiting * len(upstream.servers)
        self._queue = queue = Queue(most, upstream.timeouts.queue_s, self._may_serve, loop)
        self.servers = tuple(
            UpstreamServer(origin, upstream, Dialler(origin, upstream, tls, loop), queue, loop)
            for origin in upstream.servers
        )
        self.guard = Guard(upstream, loop) if upstream.breaker is not None else None
        self._turn = 0
        self._watching: list[asyncio.Task[None]] = []

    @property
    def reads_chunks(self) -> bool:
        """Whether its servers are known to speak HTTP/1.1: nobody else need know what a chunked body is (RFC 9112
        6.1)."""
        versions = {server.version for server in self.servers}
        return "1.1" in versions and "1.0" not in versions

    def start(self) -> None:
        """Begin to ask the servers whether they are well, if the policy says so. `close` ends it."""
        asked = self.upstream.health
        if asked is not None and not self._watching:
            self._watching = [self._loop.create_task(watch(server, asked, self._loop)) for server in self.servers]

    def acquire(
        self, tried: frozenset[Home] = frozenset(), *, fresh: bool = False, once: bool = False
    ) -> UpstreamConnection | Connecting:
        """A connection at once when one is idle, else one to wait for. `fresh`: idle ones are not trusted; `once`: only
        those that will surely not be closed meanwhile, for the request may not be sent twice."""
        if tried and len(tried) >= len(self.servers):
            tried = frozenset()  # each was: then any will do
        server = self.servers[0] if len(self.servers) == 1 else self._choose(tried)
        connection = None if fresh else server.take_idle(once=once)
        return connection if connection is not None else server.connect(tried)

    def _choose(self, tried: frozenset[Home]) -> UpstreamServer:
        """The one with a free place and the fewest requests in flight among those that are up; those that are even take
        turns."""
        now_s = self._loop.time()
        self._turn = turn = (self._turn + 1) % len(self.servers)
        left = self.servers[turn:] + self.servers[:turn]
        if tried:
            left = tuple(server for server in left if server not in tried)
        if all(server.is_steady(now_s) for server in left):
            return min(left, key=lambda server: (server.is_full, server.load))
        up = [server for server in left if server.state(now_s) is ServerState.UP]
        if not up:  # refusing everybody would be no better than asking the least bad one
            return min(left, key=lambda server: (server.is_full, server.failures, server.load))
        ready = [server for server in up if server.takes_part(now_s, len(up))] or up
        if all(server.is_full for server in ready):
            ready = [server for server in up if not server.is_full] or ready
        return min(ready, key=lambda server: (server.down_until > now_s, server.is_full, server.load)).chosen()

    def _may_serve(self, server: Home) -> bool:
        """Whether those that wait may be sent to it: it is up, or no server is."""
        now_s = self._loop.time()
        up = [each for each in self.servers if each.state(now_s) is ServerState.UP]
        return not up or server in up

    def expire(self, now_s: float) -> None:
        """Called a few times a second."""
        for server in self.servers:
            server.expire(now_s)
            server.notice(now_s)
            server.fill()  # it may be up again

    def states(self) -> Mapping[ServerState, int]:
        """How many servers there are in each state."""
        now_s = self._loop.time()
        states = [server.state(now_s) for server in self.servers]
        return {state: states.count(state) for state in ServerState}

    async def close(self) -> None:
        watching, self._watching = self._watching, []
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        self._queue.close()
        for server in self.servers:
            await server.close()
