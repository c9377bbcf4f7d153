"""Signing in with a token, and out again. A proxy that vouches for people needs neither."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from scopegate import logs
from scopegate.admin.access import SIGN_IN, SIGN_OUT, address_of
from scopegate.admin.console.pages import Pages, who_of
from scopegate.admin.console.reading import bare_form_of, form_of, query_of
from scopegate.admin.credentials import COOKIE, MAX_NAME_CHARS, SESSION_S, Credentials
from scopegate.metrics import catalogue as metrics

log = logs.get("admin")


class SignInPage:
    def __init__(self, pages: Pages, credentials: Credentials) -> None:
        self._pages, self._credentials = pages, credentials

    def routes(self) -> list[Route]:
        return [
            Route(SIGN_IN, self.show),
            Route(SIGN_IN, self.begin, methods=["POST"]),
            Route(SIGN_OUT, self.end, methods=["POST"]),
        ]

    def asking(self, scope: Scope) -> ASGIApp:
        """What stands in place of a page for who has not signed in."""
        request = Request(scope)
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return _Given(self._form(request, wanted if request.method == "GET" else "/", status=401))

    async def show(self, request: Request) -> Response:
        if self._credentials.is_open:
            return RedirectResponse("/", 303)
        return self._form(request, query_of(request, ["next"]).get("next", "/"))

    async def begin(self, request: Request) -> Response:
        if self._credentials.is_open:
            raise HTTPException(404, "Without an admin token nobody signs in.")
        form, tries, address = await bare_form_of(request), self._credentials.tries, address_of(request.scope)
        wanted, name = form.one("next"), form.one("name").strip()
        if wait_s := tries.wait_s(address):
            metrics.ADMIN_REFUSALS.labels("too_many_tries").inc()
            return self._form(request, wanted, f"Too many wrong tokens: try again in {wait_s:.0f} s.", 429)
        role = self._credentials.role_of(form.one("token"))
        if role is None:
            tries.add(address)
            metrics.ADMIN_REFUSALS.labels("wrong_token").inc()
            return self._form(request, wanted, "This is not a token of this console.", 401)
        if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            return self._form(request, wanted, f"Give a name of 1 to {MAX_NAME_CHARS} characters.", 400)
        log.info("admin.signed_in", actor=name, role=role.value)
        answer = RedirectResponse(own_path(wanted), 303)
        answer.set_cookie(
            COOKIE,
            self._credentials.begin(name, role),
            max_age=SESSION_S,
            httponly=True,
            secure=_is_https(request),
            samesite="lax",
        )
        return answer

    async def end(self, request: Request) -> Response:
        await form_of(request, self._credentials)
        who = who_of(request)
        if who is not None and who.by == "session":
            self._credentials.end(who)
            log.info("admin.signed_out", actor=who.name)
        answer = RedirectResponse(SIGN_IN, 303)
        answer.delete_cookie(COOKIE, httponly=True, secure=_is_https(request), samesite="lax")
        return answer

    def _form(self, request: Request, wanted: str, fault: str = "", status: int = 200) -> HTMLResponse:
        answer = self._pages.answer(request, "signin.html", status, next=own_path(wanted), fault=fault)
        if status == 401:  # of a kind that makes browsers show the page, not a box of their own
            answer.headers["www-authenticate"] = 'Bearer realm="scopegate"'
        return answer


class _Given:
    def __init__(self, answer: Response) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


def own_path(text: str) -> str:
    """Where to go on: a path of ours, never another site (`//evil.example`, `/\\evil.example`)."""
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isascii() and text.isprintable()
    return text if is_ours and not text.startswith((SIGN_IN, SIGN_OUT)) else "/"


def _is_https(request: Request) -> bool:
    """Also where a proxy ends TLS: the browser's own word."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
