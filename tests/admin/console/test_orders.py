"""Open orders: seen, and discarded after asking."""

from __future__ import annotations

from scopegate.admin.app import create_admin
from scopegate.leads.job import LeadOrder, OrderState
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, Reader, form_token


async def test_orders_are_discarded_after_asking(home: House) -> None:
    for n in range(3):
        words = {"text": "SECRETWORDS"}
        await home.outbox.put(LeadOrder(f"ord-{n}", "lead-photos", "submit-lead", f"r-{n}", house.NOW_MS + n, words))
    await home.outbox.overdue(house.NOW_MS + 2)
    async with house.client(create_admin(home.sources(), None), headers=HTML | SAME) as client:
        page = await client.get("/orders")
        assert page.text.count('name="order"') == 2, "one that is pending is not discarded"
        assert "SECRETWORDS" not in page.text
        fields = {"form": form_token(page.text), "order": ["ord-0", "ord-1", "ord-2", "ord-9"]}
        asked = await client.post("/orders/act", data=fields)
        assert "Discard 4 orders?" in Reader(asked.text).text
        assert await home.outbox.count(OrderState.UNKNOWN) == 2
        done = await client.post("/orders/act", data={**fields, "sure": "yes"})
        assert done.headers["location"] == "/orders?count=2"
        assert "2 discarded." in (await client.get("/orders?count=2")).text
        assert (await client.post("/orders/act", data={"form": fields["form"]})).status_code == 400
    assert [order.order_id for order in await home.outbox.open(9)] == ["ord-2"]
    assert {(one.actor, one.name, one.subject) for one in await home.jobs.actions()} == {
        ("this machine", "discard", "ord-0"),
        ("this machine", "discard", "ord-1"),
    }


async def test_an_empty_house_has_a_page(home: House) -> None:
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        assert "No order is open." in (await client.get("/orders")).text
