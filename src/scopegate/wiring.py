"""The composition root: the only place that names concrete stores. Called by the command line and by flow tests.

Each `serve_*` opens what its role needs, calls `ready` once it serves, runs until `stop` is set, and closes everything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate import logs
from scopegate.clock import SystemClock

if TYPE_CHECKING:
    from scopegate.policy.policy import Policy
    from scopegate.settings import Settings
    from scopegate.stores.ports import LimitStore, Messenger

_log = logs.get("wiring")


def _limit_store(settings: Settings) -> LimitStore:
    if settings.redis_url is None:
        from scopegate.stores.memory import MemoryLimits

        _log.warning("limits.in_memory", reason="REDIS_URL is not set: this process counts alone")
        return MemoryLimits(SystemClock())
    from scopegate.stores.redis_limits import RedisLimits

    return RedisLimits(settings.redis_url)


def _messenger(settings: Settings) -> Messenger:
    from scopegate.stores.queue import ArqMessenger, NoMessenger

    if settings.redis_url is None:
        _log.warning("jobs.by_sweep", reason="REDIS_URL is not set: workers look for due jobs in the database")
        return NoMessenger()
    return ArqMessenger(settings.redis_url, SystemClock())


async def serve_gateway(
    settings: Settings,
    policy: Policy,
    config_path: Path,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """The edge, on a socket that listens already."""
    import httpx

    from scopegate.gateway.app import Gateway, serve
    from scopegate.gateway.identity import Identities
    from scopegate.gateway.intake import Intake
    from scopegate.gateway.limiter import Limiter
    from scopegate.gateway.signin import SignIn
    from scopegate.stores.late import LateDatabase
    from scopegate.stores.memory import MemoryLimits
    from scopegate.stores.outbox import SqlOutbox

    clock = SystemClock()
    database = LateDatabase(settings.database)
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=5.0) as http:
        gateway = Gateway(
            policy,
            Limiter(_limit_store(settings), MemoryLimits(clock), clock),
            SignIn(Identities(http, clock)),
            Intake(SqlOutbox(database), _messenger(settings), clock),
            clock,
        )
        try:
            await serve(gateway, sock, stop, ready)
        finally:
            await database.close()
