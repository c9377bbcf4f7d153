"""Policy: the file in force by its lines, what each process serves, and what a request would meet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scopegate.admin.app import create_admin
from scopegate.admin.sources import PolicyFile, Serving
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, Reader

FILE = PolicyFile("/etc/gateway.yaml", "version: 1\nupstream: https://u:SECRET@app\n", "0123456789ab")
REFUSED = Serving(
    7, "host", "0123456789ab", house.NOW_MS, "refused", ("gateway.yaml:3:1 what is wrong",), ("server.listen",), True
)


async def test_the_file_in_force_has_line_numbers_and_no_password(home: House) -> None:
    app = create_admin(replace(home.sources(), policy_file=lambda: FILE, serving=lambda: [REFUSED]), None)
    async with house.client(app, headers=HTML) as client:
        text = (await client.get("/policy")).text
    assert '<li id="line-1">version: 1</li>' in text
    assert "https://•••@app" in text
    assert "SECRET" not in text
    for said in ("7 reads the file", "refused gateway.yaml:3:1 what is wrong", "server.listen"):
        assert said in Reader(text).text
    assert "not the one in force" not in text


async def test_a_file_that_is_refused_now_says_why(home: House) -> None:
    file = replace(FILE, digest="other", problems=("gateway.yaml:2:1 no such setting",))
    async with house.client(
        create_admin(replace(home.sources(), policy_file=lambda: file), None), headers=HTML
    ) as client:
        page = Reader((await client.get("/policy")).text)
    assert "gateway.yaml:2:1 no such setting" in page.text
    assert "the last good one stays in force" in page.text
    assert "not the one in force" in page.text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("url=/x&method=POST", "Answer the app's Route submit-lead, line 0"),
        ("url=/x&method=GET", "Answer 405, by the gateway Route none"),
        ("url=https://h/a/b?c=d&method=post", "Answer the app's"),
        ("url=//evil&method=POST", "Answer"),
    ],
)
async def test_a_request_is_explained(home: House, query: str, said: str) -> None:
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        answer = await client.get(f"/policy?{query}")
    assert answer.status_code == 200
    assert said in Reader(answer.text).text


@pytest.mark.parametrize("query", ["url=/x&method=G%20T", "url=http://[&method=GET", "url=/%C3%BC"])
async def test_what_is_no_request_is_refused(home: House, query: str) -> None:
    async with house.client(create_admin(home.sources(), None), headers=HTML) as client:
        assert (await client.get(f"/policy?{query}")).status_code == 400
