"""Open orders: leads that gave no job and were not refused, and closing those of which no job is wanted."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scopegate.admin.console.audit import write_down
from scopegate.admin.console.pages import Pages, known, link
from scopegate.admin.console.reading import form_of, query_of
from scopegate.admin.credentials import Credentials, Who
from scopegate.admin.sources import Sources
from scopegate.leads.job import OrderState

MOST = 500
DISCARDABLE = (OrderState.UNKNOWN, OrderState.UNREADABLE)


class OrdersPage:
    def __init__(self, sources: Sources, pages: Pages, credentials: Credentials) -> None:
        self._s, self._pages, self._credentials = sources, pages, credentials

    def routes(self) -> list[Route]:
        return [Route("/orders", self.show), Route("/orders/act", self.act, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        query = query_of(request, ["count"])
        count = query.get("count", "")
        return self._pages.answer(
            request,
            "orders.html",
            orders=await self._s.outbox.open(MOST),
            discardable=DISCARDABLE,
            most=MOST,
            done=count if count.isascii() and count.isdigit() else "",
        )

    async def act(self, request: Request) -> Response:
        """Asks first, with how many; with `sure` they are discarded."""
        form, who = await form_of(request, self._credentials), known(request)
        ids = list(dict.fromkeys(form.all("order")))
        if not 0 < len(ids) <= MOST:
            raise HTTPException(400, f"Select 1 to {MOST} orders first.")
        if form.one("sure") != "yes":
            return self._pages.answer(request, "discard.html", orders=ids)
        count = 0
        for order_id in ids:
            count += await self._discard(order_id, who)
        return RedirectResponse(link("/orders", count=str(count)), 303)

    async def _discard(self, order_id: str, who: Who) -> bool:
        """False where it is closed already, or was never there."""
        held = await self._s.outbox.get(order_id)
        if held is None or held.state not in DISCARDABLE:
            return False
        await write_down(self._s, who, "discard", order_id)
        await self._s.outbox.settle(held.order, OrderState.REFUSED, None, None)
        return True
