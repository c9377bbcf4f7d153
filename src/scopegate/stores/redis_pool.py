"""Connections of redis-py for one URL: to a server, or to the master that Sentinels name at each new connection. For
everything but limits, which have a connection of their own (`redis_link`)."""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from scopegate.policy import sentinels

_ASKED_S = 0.5


class _SentinelPool(SentinelConnectionPool):
    """Ends the connections to the Sentinels with its own."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for each in self.sentinel_manager.sentinels:
            await each.aclose()


def pool_of(url: str, **options: Any) -> ConnectionPool:
    """`options` are those of a blocking pool. Raises ValueError for a URL that is none."""
    if not url.startswith(sentinels.SCHEME):
        return BlockingConnectionPool.from_url(url, **options)
    watched = sentinels.parse(url)
    asked = {"socket_timeout": _ASKED_S, "socket_connect_timeout": _ASKED_S}
    manager = Sentinel(list(watched.sentinels), sentinel_kwargs=asked)
    options.pop("timeout", None)  # of waiting for a free connection: this kind of pool does not wait
    options.pop("max_connections", None)
    login = {"username": watched.user or None, "password": watched.password or None}
    return _SentinelPool(watched.service, manager, db=watched.db, **login, **options)  # type: ignore[no-untyped-call]
