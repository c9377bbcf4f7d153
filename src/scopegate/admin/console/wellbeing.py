"""Health: every part of this installation, how it is, and since when. Comes up whatever is away."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scopegate.admin.console.live import Live
from scopegate.admin.console.pages import Pages
from scopegate.admin.console.reading import query_of
from scopegate.admin.health import HealthChecks, is_ready

_MEANINGS = {
    "database": "leads, jobs, calls and money",
    "redis": "wake-ups, limits of several gateways",
    "limit_store": "limits, as the gateways find it",
    "spool": "lead orders on this machine's disk",
    "gateway": "the public port",
    "worker": "the jobs",
}


class HealthPage:
    def __init__(self, health: HealthChecks, pages: Pages, live: Live) -> None:
        self._health, self._pages, self._live = health, pages, live

    def routes(self) -> list[Route]:
        return [Route("/health", self.show), Route("/live/health", self.follow)]

    async def show(self, request: Request) -> Response:
        query_of(request, [])
        return self._pages.answer(request, "health.html", **await self._values())

    async def follow(self, request: Request) -> Response:
        query_of(request, [])

        async def part() -> str:
            return self._pages.text(request, "health_live.html", **await self._values())

        return self._live.stream(part)

    async def _values(self) -> dict[str, Any]:
        states = await self._health.states()
        return {
            "states": states,
            "since": self._health.since,
            "meanings": _MEANINGS,
            "is_ready": is_ready(states),
            "processes": await self._health.processes(),
        }
