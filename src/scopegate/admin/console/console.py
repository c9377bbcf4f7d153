"""The console: its pages and where they are. Each page is a file; here they are put together."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scopegate.admin.console.audit import AuditPage
from scopegate.admin.console.faults import Faults
from scopegate.admin.console.job import JobPage
from scopegate.admin.console.jobs import JobsPage
from scopegate.admin.console.live import Live
from scopegate.admin.console.money import MoneyPage
from scopegate.admin.console.orders import OrdersPage
from scopegate.admin.console.pages import Pages
from scopegate.admin.console.protection import ProtectionPage
from scopegate.admin.console.rules import RulesPage
from scopegate.admin.console.signin import SignInPage
from scopegate.admin.console.wellbeing import HealthPage
from scopegate.admin.credentials import Credentials
from scopegate.admin.health import HealthChecks
from scopegate.admin.sources import Sources


class Console:
    def __init__(self, sources: Sources, credentials: Credentials, health: HealthChecks) -> None:
        pages = Pages(credentials, sources.clock.now_ms, lambda: sources.policy().digest)
        live = Live(sources.clock, sources.is_stopping)
        signin = SignInPage(pages, credentials)
        self.faults, self.asking = Faults(pages), signin.asking
        self._parts = (
            signin,
            JobsPage(sources, pages, credentials, live),
            JobPage(sources, pages, credentials, live),
            OrdersPage(sources, pages, credentials),
            MoneyPage(sources, pages),
            ProtectionPage(sources, pages, credentials),
            RulesPage(sources, pages),
            HealthPage(health, pages, live),
            AuditPage(sources, pages),
        )

    def routes(self) -> Sequence[Route]:
        return [Route("/", _first), *(route for part in self._parts for route in part.routes())]


async def _first(request: Request) -> Response:
    return RedirectResponse("/jobs", 303)
