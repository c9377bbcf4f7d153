"""The first page: what it says, and that nothing a visitor wrote can act in it."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from pydantic import SecretStr

from scopegate.admin.app import create_admin
from scopegate.admin.page import Overview, render
from scopegate.admin.scrape import BudgetState
from scopegate.leads.job import JobState, Lead, LeadJob
from tests.admin import house
from tests.admin.conftest import House

PAYLOADS = [
    "<script>alert(1)</script>",
    "</td><script src=//evil.example></script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<!--<script>-->alert(1)",
    "<style>*{background:url(//evil.example)}</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example>",
    "<form action=//evil.example><button>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "\x00<script>",
    "\u202e<script>",
    "\ud800<b>",
    "]]><script>",
    "{{7*7}}${7*7}<%=7*7%>",
    "+ADw-script+AD4-",
    "\x1b[31mred",
    "a\r\nSet-Cookie: x=1",
]
TAGS = {
    "html", "head", "meta", "title", "link", "body", "h1", "h2", "p", "dl", "div", "dt", "dd", "ul", "li", "a",
    "table", "thead", "tbody", "tr", "th", "td", "span", "form", "button", "meter",
}  # fmt: skip


class Reader(HTMLParser):
    """All tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def job(**changes: object) -> LeadJob:
    plain = LeadJob(
        job_id="job_1",
        offload="lead-photos",
        lead=Lead("lead-1", "roofers", "words", ()),
        request_id="req-1",
        state=JobState.FAILED,
        created_ms=house.NOW_MS,
        due_ms=house.NOW_MS,
        error_code="auth",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def overview(jobs: list[LeadJob]) -> Overview:
    ai = house.policy().ai
    assert ai is not None
    standings = [BudgetState(ai.budgets[0], 1_500_000, 250_000)]
    return Overview("2027-01-15T08:00:00.000Z", "abc", {"database": "ok"}, {"failed": 1}, 1_500_000, 7, standings, jobs)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_in_any_field_becomes_a_tag_or_an_attribute(payload: str) -> None:
    jobs = [
        job(job_id=payload),
        job(lead=Lead(payload, payload, payload, (payload,))),
        job(error_code=payload),
        job(offload=payload, request_id=payload, replay_of=payload),
    ]
    hostile, plain = Reader(render(overview(jobs))), Reader(render(overview([job(), job(), job(), job()])))
    assert hostile.tags == plain.tags
    assert set(hostile.tags) <= TAGS
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    addresses = [value for name, value in hostile.attributes if name in ("href", "action", "src")]
    assert all(value.startswith("/") and not value.startswith("//") for value in addresses)
    render(overview(jobs)).encode()


def test_there_is_nothing_inline() -> None:
    names = {name for name, _ in Reader(render(overview([job()]))).attributes}
    assert not {name for name in names if name.startswith("on")}
    assert "style" not in names


def test_only_a_failed_job_can_be_replayed() -> None:
    pages = {state: render(overview([job(state=state)])) for state in JobState}
    assert {state for state, page in pages.items() if "<form" in page} == {JobState.FAILED, JobState.DEAD}


def test_the_day_and_its_budgets_are_shown() -> None:
    words = Reader(render(overview([job()]))).words
    assert "$1.500000" in words
    assert "$20.000000" in words
    assert "$0.250000" in words
    assert "7" in words


async def test_the_page_over_a_real_database(home: House) -> None:
    hostile = await house.add_job(home.outbox, "<script>alert(1)</script>", '"><img src=x>')
    await house.fail_job(home.jobs, hostile)
    await house.book(home.ledger, hostile, 1_234_567)
    async with house.client(create_admin(home.sources(), SecretStr(house.TOKEN)), token=house.TOKEN) as client:
        answer = await client.get("/")
        style = await client.get("/static/console.css")
    page = Reader(answer.text)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "<script>alert(1)</script>" in page.words
    assert page.words.count("$1.234567") == 3  # the day, and what the two budgets without `per` have spent
    assert style.headers["content-type"].startswith("text/css")


async def test_an_empty_house_has_a_page(home: House) -> None:
    async with house.client(create_admin(home.sources(), None)) as client:
        assert "No lead has come in yet." in (await client.get("/")).text
