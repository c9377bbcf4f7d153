"""Whether this installation can do its work: named checks, each answered within a second.

`ok`, `failed` and `timeout` are all that is told: probes carry no credentials. A role is `gone` when this process has
seen one of it alive and sees none now; a role that was never here is not spoken of, it may run elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from scopegate import logs
from scopegate.clock import Clock, SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.metrics import totals

log = logs.get("admin")

Check = Callable[[], Awaitable[object]]
"""Returns when all is well, raises when not."""

CHECK_TIMEOUT_S = 1.0
_WATCHED_ROLES = ("gateway", "worker")
_STORE_UP = "scopegate_limit_store_up"


class HealthChecks:
    """`checks` by name; `directory` is where the processes of this installation count, None when unknown."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        directory: Path | None,
        timeout_s: float = CHECK_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        self._checks = dict(checks)
        self._directory = directory
        self._timeout_s = timeout_s
        self._seen: set[str] = set()
        self._clock = clock or SystemClock()
        self._last: dict[str, str] = {}
        self.since: dict[str, int] = {}
        """By name, when its state was first seen to be what it is (Unix milliseconds)."""

    async def states(self) -> Mapping[str, str]:
        """The state of each check by name, all of them asked at once."""
        answers = await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
        states = dict(zip(self._checks, answers, strict=True))
        found = {**states, **await self._roles()}
        for name, state in found.items():
            if self._last.get(name) != state:
                self._last[name], self.since[name] = state, self._clock.now_ms()
        return found

    async def _ask(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(self._timeout_s):
                await check()
        except TimeoutError:
            return "timeout"
        except Exception as fault:
            log.warning("admin.check_failed", check=name, error=type(fault).__name__, error_detail=str(fault))
            return "failed"
        return "ok"

    async def processes(self) -> Mapping[str, int]:
        """Living processes by role; empty where that is unknown."""
        return {} if self._directory is None else await asyncio.to_thread(totals.living, self._directory)

    async def _roles(self) -> Mapping[str, str]:
        if self._directory is None:
            return {}
        living = await asyncio.to_thread(totals.living, self._directory)
        self._seen.update(role for role in _WATCHED_ROLES if role in living)
        return {role: "ok" if role in living else "gone" for role in _WATCHED_ROLES if role in self._seen}


async def limit_store(directory: Path) -> None:
    """Whether the limit store answers all gateways. Raises StoreUnavailable when one of them says it does not, and what
    reading the directory raises."""
    snapshot = await asyncio.to_thread(totals.read, directory)
    up = [sample.value for family in snapshot.families for sample in family.samples if sample.name == _STORE_UP]
    if up and min(up) < 1:
        raise StoreUnavailable("connect", "a gateway counts without it")


def is_ready(states: Mapping[str, str]) -> bool:
    return all(state == "ok" for state in states.values())
