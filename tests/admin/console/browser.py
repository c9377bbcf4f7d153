"""A browser without JavaScript: it signs in, follows forms and keeps its cookie."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
from starlette.types import ASGIApp

from tests.admin import house

HTML = {"accept": "text/html"}
SAME = {"sec-fetch-site": "same-origin"}


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

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def browser(app: ASGIApp) -> httpx.AsyncClient:
    return house.client(app, headers=HTML | SAME)


async def sign_in(client: httpx.AsyncClient, token: str = house.TOKEN, name: str = "Anna") -> httpx.Response:
    return await client.post("/signin", data={"name": name, "token": token, "next": "/jobs"})


def form_token(page: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]{64})"', page)
    assert found is not None, "there is a form"
    return found[1]
