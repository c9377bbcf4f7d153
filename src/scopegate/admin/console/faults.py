"""What went wrong, for whoever asked: a page for people, a problem document for programs."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from scopegate import logs
from scopegate.admin.access import is_for_people
from scopegate.admin.answers import problem
from scopegate.admin.console.pages import Pages

log = logs.get("admin")

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 409: "conflict"}


class Faults:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def refused(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        code = _CODES.get(exc.status_code, "error")
        return self._told(request, exc.status_code, code, exc.detail, exc.headers)

    async def away(self, request: Request, exc: Exception) -> Response:
        log.warning("admin.store_unavailable", error=type(exc).__name__, error_detail=str(exc))
        return self._told(request, 503, "store_unavailable", "The database does not answer.", {"retry-after": "5"})

    async def broken(self, request: Request, exc: Exception) -> Response:
        log.error("admin.bug", exc=exc)
        return self._told(request, 500, "internal", "Something broke here; the log has the details.")

    def _told(
        self, request: Request, status: int, code: str, detail: str, fields: Mapping[str, str] | None = None
    ) -> Response:
        if not is_for_people(request.scope, request.headers):
            return problem(status, code, detail, fields)
        answer = self._pages.answer(request, "fault.html", status, code=status, detail=detail)
        answer.headers.update(fields or {})
        return answer
