"""Money: the same sums as the API and the command tell, and every budget with what is left of it."""

from __future__ import annotations

import csv
import io

import pytest

from scopegate.admin.app import create_admin
from scopegate.admin.console.money import as_csv
from scopegate.types import Json
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, Reader
from tests.admin.console.test_job import done_job


async def test_spend_budgets_and_the_cost_of_a_lead(home: House) -> None:
    job = await done_job(home)  # 1.2345 dollars
    other = await house.add_job(home.outbox, "other", "plumbers")
    await house.book(home.ledger, other, 765_500, "call-2")
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        page = Reader((await client.get("/money")).text)
        usage = (await client.get("/api/usage?by=contractor")).json()
    assert sum(row["cost_usd_micros"] for row in usage["rows"]) == 2_000_000
    assert "The last 30 days: $2.0000, 2 calls, 1 leads finished" in page.text
    assert "per finished lead $2.0000" in page.text
    for said in (
        "contractor-day",
        "2027-01-15, roofers",
        "2027-01-15, plumbers",
        "$1.2345",
        "$0.7655",
        "$20.00",
        "month expected",
    ):
        assert said in page.text, said
    assert job.lead.lead_id in page.text


async def test_an_empty_house_has_a_page(home: House) -> None:
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        page = Reader((await client.get("/money?days=7")).text)
        assert (await client.get("/money?days=8")).status_code == 400
        assert (await client.get("/money.csv?by=secret")).status_code == 400
        assert (await client.get("/money.csv")).text == "day\r\n"
    assert "No budget has been drawn on" in page.text
    assert page.tags.count("rect") == 7, "each day has its bar"


@pytest.mark.parametrize("by", ["day", "model", "step", "contractor", "lead", "offload"])
async def test_the_file_has_every_row(home: House, by: str) -> None:
    await done_job(home)
    async with house.client(create_admin(home.sources(), None)) as client:
        answer = await client.get(f"/money.csv?by={by}")
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert row["cost_usd_micros"] == "1234500"
    assert f"by-{by}.csv" in answer.headers["content-disposition"]


@pytest.mark.parametrize("key", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(key: str) -> None:
    row: dict[str, Json] = {"key": key, "cost_usd_micros": 1, "unknown_usd_micros": 0}
    [_, told] = csv.reader(io.StringIO(as_csv("lead", [row]).decode(), newline=""))
    assert told[0] == f"'{key}"
