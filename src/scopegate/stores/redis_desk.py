"""Looking at windows in Redis, and acting on them: for operators, not for requests. Made by `wiring` and the command
line."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scopegate.clock import SystemClock
from scopegate.errors import ConfigError, Problem
from scopegate.limits.window import Window
from scopegate.stores.ports import Holding
from scopegate.stores.redis_errors import translated
from scopegate.stores.redis_pool import pool_of

_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class About:
    """What a server says of itself. `ahead_s`: how far its clock is before ours; `took_ms`: one answer's time."""

    version: str
    memory_policy: str
    took_ms: int
    ahead_s: float


class RedisDesk:
    """`LimitDesk` on a Redis or Valkey server. Raises ConfigError for a URL that is none."""

    def __init__(self, url: str) -> None:
        try:
            self._redis = Redis(connection_pool=pool_of(url, retry=Retry(NoBackoff(), 0), socket_timeout=_TIMEOUT_S))
        except ValueError:
            raise ConfigError([Problem("REDIS_URL", "", "is not a redis://, rediss:// or unix:// address")]) from None
        self._peek, self._sentence = _script("peek.lua"), _script("sentence.lua")

    async def look(self, windows: Sequence[Window]) -> list[Holding]:
        """See `LimitDesk.look`."""
        words = [word for window in windows for word in _span_and_interval(window)]
        reply = await self._run(self._peek, windows, words)
        return [Holding(*each) for each in zip(reply[::2], reply[1::2], strict=True)]

    async def forget(self, windows: Sequence[Window]) -> int:
        """See `LimitDesk.forget`."""
        with translated():
            async with asyncio.timeout(_TIMEOUT_S):
                return int(await self._redis.delete(*map(_key, windows)))

    async def sentence(self, windows: Sequence[Window]) -> None:
        """See `LimitDesk.sentence`."""
        await self._run(self._sentence, windows, [window.quota.span_ms * 1000 for window in windows])

    async def about(self) -> About:
        """Raises StoreUnavailable, also where no answer comes within a second."""
        clock = SystemClock()
        with translated():
            async with asyncio.timeout(_TIMEOUT_S):
                said = await self._redis.info()
                began_ms = clock.now_ms()
                seconds, micros = await self._redis.time()
        took_ms = clock.now_ms() - began_ms
        version = said.get("valkey_version") or said.get("redis_version", "unknown")
        ahead_ms = seconds * 1000 + micros / 1000 - (began_ms + took_ms / 2)
        return About(str(version), str(said.get("maxmemory_policy", "unknown")), took_ms, ahead_ms / 1000)

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _run(self, script: str, windows: Sequence[Window], words: Sequence[int]) -> Any:
        with translated():
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._redis.execute_command("EVAL", script, len(windows), *map(_key, windows), "", *words)


def _script(name: str) -> str:
    folder = files("scopegate.stores")
    return folder.joinpath("window.lua").read_text() + folder.joinpath(name).read_text()


def _key(window: Window) -> str:
    return f"scopegate:{{w}}:{window.key}"


def _span_and_interval(window: Window) -> tuple[int, int]:
    quota = window.quota
    return quota.span_ms * 1000, quota.interval_us if quota.burst else 0
