"""What was done by hand: who, what, when. And writing it down."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scopegate import logs
from scopegate.admin.console.pages import Pages, link
from scopegate.admin.console.reading import query_of, read
from scopegate.admin.credentials import Who
from scopegate.admin.sources import Sources
from scopegate.errors import StoreError
from scopegate.leads.job import Action

log = logs.get("admin")

PAGE = 100


class AuditPage:
    def __init__(self, sources: Sources, pages: Pages) -> None:
        self._s, self._pages = sources, pages

    def routes(self) -> list[Route]:
        return [Route("/audit", self.show)]

    async def show(self, request: Request) -> Response:
        query = query_of(request, ["subject", "before"])
        before = read(query, "before", lambda text: int(text[:15]), "a number")
        subject = query.get("subject")
        found = await self._s.jobs.actions(subject, PAGE + 1, before)
        older = link("/audit", subject=subject, before=found[PAGE - 1].number) if len(found) > PAGE else None
        return self._pages.answer(
            request, "audit.html", actions=found[:PAGE], older=older, subject=subject or "", is_first=before is None
        )


async def write_down(sources: Sources, who: Who, name: str, subject: str, detail: str = "") -> None:
    """Before it is done. While the database is away the log alone has it: a ban does not wait for that."""
    log.info("admin.acted", actor=who.name, action=name, subject=subject[:200], detail=detail)
    try:
        await sources.jobs.record(Action(sources.clock.now_ms(), who.name, name, subject, detail))
    except (StoreError, TimeoutError) as outage:
        log.warning("admin.not_written_down", actor=who.name, action=name, error_detail=str(outage))
