"""Policy: the file in force with its line numbers, what each process serves, what came of the last reloads, and what a
request would meet."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scopegate.admin.console.pages import Pages
from scopegate.admin.console.reading import query_of
from scopegate.admin.sources import Sources
from scopegate.edge.foresee import decider
from scopegate.policy.policy import Policy

_METHOD = re.compile(r"[A-Z][A-Z-]{0,19}")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


class RulesPage:
    def __init__(self, sources: Sources, pages: Pages) -> None:
        self._s, self._pages = sources, pages

    def routes(self) -> list[Route]:
        return [Route("/policy", self.show)]

    async def show(self, request: Request) -> Response:
        query = query_of(request, ["method", "url", "signed"])
        policy = self._s.policy()
        file = await asyncio.to_thread(self._s.policy_file)
        return self._pages.answer(
            request,
            "policy.html",
            file=file.path,
            lines=_lines(file.text),
            is_in_force=file.digest == policy.digest,
            problems=file.problems,
            serving=await asyncio.to_thread(lambda: list(self._s.serving())),
            digest_in_force=policy.digest,
            asked={name: query.get(name, "") for name in ("method", "url", "signed")},
            met=_met(policy, query),
        )


def _lines(text: str) -> Sequence[str]:
    """A password in an address is nobody's to read."""
    return _CREDENTIALS.sub(r"\1•••@", text).splitlines()


def _met(policy: Policy, query: Mapping[str, str]) -> Mapping[str, Any] | None:
    """What the edge decides; None where nothing was asked. Raises HTTPException."""
    if "url" not in query:
        return None
    method, url = query.get("method", "GET").upper(), query["url"]
    if not _METHOD.fullmatch(method):
        raise HTTPException(400, "method must be one of: GET, POST and such.")
    try:
        parts = urlsplit(url if not url.startswith("//") else "/" + url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target.encode("ascii")
    except ValueError:
        raise HTTPException(400, "url must be one of: /path, https://host/path, in ASCII.") from None
    without = () if query.get("signed") == "yes" else ("authorization", "cookie")
    forecast = decider(policy)(method, target, without, parts.netloc or None)
    route = next((route for route in policy.routes if route.name == forecast.route), None)
    return {"answer": forecast.answers, "route": route, "method": method, "url": url}
