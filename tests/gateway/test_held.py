"""Bodies that are held here are bounded: all of them together, and those of one client, who closes no route for others.

All that may be held is 80,000 bytes here, a client's share 10,000.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.app import body_of
from tests.gateway.client import Client
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

A, AS_NEIGHBOUR, B = "2001:db8:0:1::7", "2001:db8:0:1::8", "2001:db8:0:2::7"


def judged(name: str, **settings: str) -> dict[str, Any]:
    body = {"types": ["application/json"], "json": {}}
    return {"name": name, "match": f"POST /{name}", "tier": "none", "body": body, **settings}


POLICY: dict[str, Any] = {
    "server": {"trusted_proxies": ["127.0.0.0/8"]},
    "routes": [
        judged("judged"),
        judged("watched", mode="watch"),
        {
            "name": "lead",
            "match": "POST /lead",
            "tier": "none",
            "offload": "photos",
            "body": {"types": ["application/json"]},
        },
        {"name": "rest", "match": "ANY /**", "tier": "none", "body": {"buffer": "on"}},
    ],
    "offloads": {
        "photos": {
            "lead_id": "response.id",
            "text": "request.text",
            "photos": "request.photos",
            "photo_hosts": ["photos.example"],
            "deliver": {"url": "http://127.0.0.1:9/hook", "secret": "${HOOK_SECRET}"},
        }
    },
    "ai": {"model": "claude-haiku-5-5"},
}


@pytest_asyncio.fixture(loop_scope="module")
async def rig(gates: Rigs) -> AsyncIterator[Rig]:
    rig = await gates.start(**POLICY)
    rig.gateway.shared.held.most_bytes = 80_000
    yield rig


def head(path: str, address: str, framing: str) -> bytes:
    lines = (f"X-Forwarded-For: {address}", framing, "Content-Type: application/json")
    return f"POST {path} HTTP/1.1\r\n".encode() + HOST + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def sized(path: str, address: str, size: int) -> bytes:
    """A JSON text of `size` bytes, behind its head."""
    return head(path, address, f"Content-Length: {size}") + json.dumps("x" * (size - 2)).encode()


CHUNKED = "Transfer-Encoding: chunked"


async def holding(rig: Rig, path: str, address: str, size: int) -> Client:
    """A client whose body lacks its last byte."""
    client, before = await rig.connect(), rig.gateway.shared.held.bytes
    client.send(sized(path, address, size)[:-1])
    await eventually(lambda: rig.gateway.shared.held.bytes == before + size - 1)
    return client


@pytest.mark.parametrize(("path", "code"), [("/judged", "overloaded"), ("/lead", "intake_full")])
async def test_one_client_holds_its_share_and_the_route_stays_open_for_others(rig: Rig, path: str, code: str) -> None:
    rig.app.default = body_of(b'{"id": "lead-1"}')
    first = await holding(rig, path, A, 6000)
    reply = await (await rig.connect()).ask(sized(path, AS_NEIGHBOUR, 6000))
    assert (reply.status, reply.code) == (503, code)
    assert (await (await rig.connect()).ask(sized(path, B, 6000))).status == 200
    assert (await (await rig.connect()).ask(sized(path, A, 2000))).status == 200
    first.send(b'"')
    assert (await first.answer()).status == 200
    assert (await (await rig.connect()).ask(sized(path, AS_NEIGHBOUR, 6000))).status == 200
    assert rig.gateway.shared.held.bytes == 0


@pytest.mark.parametrize(("path", "code"), [("/judged", "overloaded"), ("/lead", "intake_full")])
async def test_the_share_holds_for_bodies_that_were_let_in_before_it_was_used_up(
    rig: Rig, path: str, code: str
) -> None:
    """Heads first: each alone would fit."""
    clients = [await rig.connect() for _ in range(4)]
    for client in clients:
        client.send(head(path, A, "Content-Length: 6000"))
    await eventually(lambda: rig.gateway.shared.in_flight == 4)
    for client in clients[:3]:
        client.send(b'"' + b"x" * 3000)
    await eventually(lambda: rig.gateway.shared.held.bytes == 9003)
    clients[3].send(b'"' + b"x" * 3000)
    assert (await clients[3].answer()).code == code
    await eventually(lambda: rig.gateway.shared.held.bytes == 9003)
    assert rig.app.began == 0


@pytest.mark.parametrize("path", ["/judged", "/lead"])
async def test_a_body_alone_may_be_larger_than_the_share(rig: Rig, path: str) -> None:
    """As large as its route allows: else such a route would take nothing."""
    rig.app.default = body_of(b'{"id": "lead-1"}')
    first = await holding(rig, path, A, 60_000)
    assert (await (await rig.connect()).ask(sized(path, A, 100))).status == 503
    first.send(b'"')
    assert (await first.answer()).status == 200


async def test_beyond_the_share_a_chunked_body_goes_on_as_it_comes(rig: Rig) -> None:
    """Only whose share is used up: the others' are held to their end, or to their limit."""
    await holding(rig, "/judged", A, 9_999)
    other, mine = await rig.connect(), await rig.connect()
    other.send(head("/x", B, CHUNKED) + b"400\r\n" + b"x" * 1024)
    mine.send(head("/x", AS_NEIGHBOUR, CHUNKED) + b"400\r\n" + b"x" * 1024)
    await eventually(lambda: rig.app.began == 1 and rig.gateway.shared.held.bytes == 9_998 + 1024)
    for client in (other, mine):
        client.send(b"\r\n0\r\n\r\n")
        assert (await client.answer()).status == 200
    assert {(each.get(b"x-real-ip")[0], each.framing) for each in rig.app.requests} == {
        (B.encode(), "length"),
        (AS_NEIGHBOUR.encode(), "chunked"),
    }


async def test_where_rules_are_watched_a_body_beyond_the_share_passes(rig: Rig) -> None:
    await holding(rig, "/judged", A, 6000)
    assert (await (await rig.connect()).ask(sized("/watched", A, 6000))).status == 200
