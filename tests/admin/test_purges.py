"""Purges over the admin port: by its token, or signed by the app."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from scopegate.admin.app import create_admin
from scopegate.admin.purges import MAX_BODY_BYTES, BadPurge, purge_of
from scopegate.admin.sources import Sources
from scopegate.caching.purges import Purge, PurgeKind
from scopegate.clock import ManualClock
from scopegate.leads.webhook import signed_fields
from tests.policies import compiled_with

SECRET = "whsec_c2NvcGVnYXRlLXdlYmhvb2sta2V5"
TOKEN = "an admin token of tests"
NOW_MS = 1_795_507_200_000
URL = "/api/cache/purge"


class _Nothing:
    counts = None

    async def record(self, action: object) -> None:
        """That it was done by hand."""


@pytest.mark.parametrize(
    ("told", "purge"),
    [
        ({"url": "https://A.example/x?q=1"}, Purge(PurgeKind.URL, b"a.example/x?q=1")),
        ({"url": "A.example/X"}, Purge(PurgeKind.URL, b"a.example/X")),
        ({"prefix": "/blog/", "soft": "1"}, Purge(PurgeKind.PREFIX, b"/blog/", soft=True)),
        ({"tag": "news", "soft": True}, Purge(PurgeKind.TAG, b"news", soft=True)),
        ({"all": "1", "soft": "0"}, Purge(PurgeKind.ALL, b"")),
    ],
)
def test_what_is_purged(told: dict[str, object], purge: Purge) -> None:
    assert purge_of(told) == purge


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"url": "/x", "tag": "y"},
        {"url": ""},
        {"url": "x"},
        {"url": "ftp://a/x"},
        {"url": "/a b"},
        {"url": "/x#y"},
        {"tag": "x" * 300},
        {"tag": 7},
        {"tag": "ü"},
        {"change": "/x"},
        {"url": "/x", "soft": "maybe"},
        {"url": "/x\n"},
    ],
)
def test_what_is_no_purge(told: dict[str, object]) -> None:
    with pytest.raises(BadPurge):
        purge_of(told)


class Desk:
    """Remembers what was purged."""

    def __init__(self) -> None:
        self.purges: list[Purge] = []

    async def purge(self, purge: Purge) -> int:
        self.purges.append(purge)
        return len(self.purges)

    async def close(self) -> None: ...


def port(desk: Desk | None, *, secret: str | None = SECRET) -> httpx.AsyncClient:
    policy = compiled_with()
    policy = replace(policy, cache=replace(policy.cache, purge_secret=None if secret is None else SecretStr(secret)))
    nothing: Any = _Nothing()
    sources = Sources(
        policy=lambda: policy,
        jobs=nothing,
        ledger=nothing,
        outbox=nothing,
        retention=nothing,
        clock=ManualClock(NOW_MS),
        purges=desk,
    )
    transport = httpx.ASGITransport(create_admin(sources, SecretStr(TOKEN)))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def signed(body: bytes, *, secret: str = SECRET, at_s: int = NOW_MS // 1000) -> dict[str, str]:
    return signed_fields([secret], "msg_1", at_s, body)


async def test_by_the_token() -> None:
    desk = Desk()
    async with port(desk) as client:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        found = await client.post(URL, params={"tag": "news"}, headers=bearer)
        assert (found.status_code, found.json()) == (200, {"purge": 1})
        assert (await client.post(URL, params={"tag": "news"})).status_code == 401
        assert (await client.post(URL, params={"no": "news"}, headers=bearer)).status_code == 409
    assert desk.purges == [Purge(PurgeKind.TAG, b"news")]


async def test_signed_by_the_app() -> None:
    desk = Desk()
    body = json.dumps({"tag": "news", "soft": True}).encode()
    async with port(desk) as client:
        assert (await client.post(URL, content=body, headers=signed(body))).json() == {"purge": 1}
        for fields in (
            signed(body, secret="another secret of sixteen bytes"),
            signed(body, at_s=NOW_MS // 1000 - 301),
            signed(b"{}"),
            {"webhook-signature": "v1,x"},
        ):
            assert (await client.post(URL, content=body, headers=fields)).status_code == 401
        for bad in (b"[]", b"{", b'{"tag": "a", "tag": "b"}', b"x" * (MAX_BODY_BYTES + 1)):
            assert (await client.post(URL, content=bad, headers=signed(bad))).status_code == 409
        other = await client.get("/api/jobs", headers=signed(body))
        assert other.status_code == 401, "a signature opens nothing else"
    assert desk.purges == [Purge(PurgeKind.TAG, b"news", soft=True)]


async def test_where_nobody_can_sign_or_hear() -> None:
    body = b'{"all": true}'
    async with port(Desk(), secret=None) as client:
        assert (await client.post(URL, content=body, headers=signed(body))).status_code == 401
    async with port(None) as client:
        assert (await client.post(URL, content=body, headers=signed(body))).status_code == 409
