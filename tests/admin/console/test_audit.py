"""What was done by hand, by whom: each action is a row, and rows are paged."""

from __future__ import annotations

import re
from dataclasses import replace

from scopegate.admin.app import create_admin
from scopegate.admin.console import audit
from scopegate.admin.console.audit import write_down
from scopegate.admin.credentials import ConsoleRole, Who
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import Action
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, Reader

ANNA = Who("anna", ConsoleRole.OPERATOR, "session", "s")


async def test_who_did_what_when(home: House) -> None:
    await write_down(home.sources(), ANNA, "ban", "203.0.113.9", "for an hour")
    await write_down(home.sources(), ANNA, "discard", "order-1")
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        page = Reader((await client.get("/audit")).text)
        of_one = Reader((await client.get("/audit?subject=order-1")).text)
    assert "2027-01-15 08:00:00 anna ban 203.0.113.9 for an hour" in page.text
    assert "203.0.113.9" not in of_one.text
    assert "anna discard order-1" in of_one.text


async def test_pages_follow_one_another(home: House) -> None:
    for n in range(audit.PAGE + 20):
        await home.jobs.record(Action(house.NOW_MS + n, "anna", "pause", f"offload-{n}"))
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        first = await client.get("/audit")
        [older] = re.findall(r'href="([^"]+)" rel="next"', first.text)
        second = await client.get(older.replace("&amp;", "&"))
        assert (await client.get("/audit?before=x")).status_code == 400
    seen = re.findall(r"offload-\d+", first.text + second.text)
    assert len(seen) == len(set(seen)) == audit.PAGE + 20
    assert 'rel="next"' not in second.text


async def test_an_action_does_not_wait_for_a_database_that_is_away(home: House) -> None:
    class Away:
        async def record(self, action: Action) -> None:
            raise StoreUnavailable("connect", "gone")

    await write_down(replace(home.sources(), jobs=Away()), ANNA, "ban", "203.0.113.9")  # type: ignore[arg-type]
