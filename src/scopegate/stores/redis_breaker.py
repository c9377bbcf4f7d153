"""Circuit breakers shared by all workers: one hash in Redis per breaker, each step one script on Redis' own clock.

Keys are `scopegate:breaker:NAME`, with a time to live; a breaker that was lost starts closed. Made by `wiring`, called
by the metered client.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scopegate.clock import Clock
from scopegate.errors import ConfigError, Problem
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.stores.redis_errors import translated
from scopegate.stores.redis_pool import pool_of

_SCRIPT = files("scopegate.stores").joinpath("breaker.lua").read_bytes()
_KEPT_MS = 24 * 3600 * 1000  # after the last change, beyond the cool-down

LEASE_S = 30.0
"""How long a probe holds its place unless it ends: a killed worker's probe frees it then."""


class RedisBreakers:
    """`BreakerStore` on a Redis or Valkey server (7.0 or newer). Every call ends or raises StoreUnavailable within
    `timeout_s`. `clock` replaces Redis' time in tests. Raises ConfigError for a URL that is none."""

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = LEASE_S,
        timeout_s: float = 0.5,
        connections: int = 8,
        clock: Clock | None = None,
    ) -> None:
        self._redis = _connect(url, timeout_s, connections)
        self._script = self._redis.register_script(_SCRIPT)
        self._lease_ms = round(lease_s * 1000)
        self._timeout_s = timeout_s
        self._clock = clock

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied:
        granted, value, probe = await self._step("admit", name, rule)
        return Permit(value, probe=bool(probe)) if granted else Denied(value / 1000)

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None:
        await self._step("record", name, rule, permit.generation, outcome.value)

    async def state(self, name: str, rule: BreakerRule) -> str:
        phase: bytes = await self._step("phase", name, rule)
        return phase.decode()

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _step(self, step: str, name: str, rule: BreakerRule, *more: int | str) -> Any:
        now: int | str = "" if self._clock is None else round(self._clock.monotonic_s() * 1000)
        cooldown_ms = round(rule.cooldown_s * 1000)
        kept_ms = _KEPT_MS + cooldown_ms + self._lease_ms
        arguments = [step, now, rule.failures, cooldown_ms, self._lease_ms, kept_ms, *more]
        with translated():
            async with asyncio.timeout(self._timeout_s):
                return await self._script(keys=[f"scopegate:breaker:{name}"], args=arguments)


def _connect(url: str, timeout_s: float, connections: int) -> Redis:
    try:
        pool = pool_of(
            url,
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise ConfigError([Problem("REDIS_URL", "", "is not a redis://, rediss:// or unix:// address")]) from None
    return Redis(connection_pool=pool)
