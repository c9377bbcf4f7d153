"""What went wrong, for people and for programs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.admin.app import create_admin
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import JobFilter
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML


class Broken:
    """Jobs that cannot be read."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def list(self, wanted: JobFilter) -> None:
        raise self.fault

    async def counts(self) -> None:
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (StoreUnavailable("connect", "postgres://SECRET"), 503, "The database does not answer."),
        (RuntimeError("SECRET"), 500, "Something broke here"),
    ],
)
async def test_a_fault_has_a_page_and_a_document(home: House, fault: Exception, status: int, words: str) -> None:
    sources = replace(home.sources(), jobs=Broken(fault))  # type: ignore[arg-type]
    async with house.client(create_admin(sources, None)) as client:
        page, document = await client.get("/jobs", headers=HTML), await client.get("/api/jobs", headers=HTML)
    assert page.status_code == document.status_code == status
    assert words in page.text
    assert document.headers["content-type"] == "application/problem+json"
    assert "SECRET" not in page.text + document.text


async def test_what_is_not_there_says_so(home: House) -> None:
    async with house.client(create_admin(home.sources(), None)) as client:
        page, document = await client.get("/nowhere", headers=HTML), await client.get("/nowhere")
    assert (page.status_code, document.json()["code"]) == (404, "not_found")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
