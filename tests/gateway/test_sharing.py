"""Two gateways, one Valkey, one app: answers are shared, fetched once for both, and purged at both within a second."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from scopegate.caching.purges import Purge, PurgeKind
from scopegate.clock import SystemClock
from scopegate.stores.redis_answers import RedisAnswers
from tests.gateway.app import Answer, App, body_of
from tests.gateway.client import Client, Reply
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs, eventually
from tests.gateway.test_caching import MINUTE, request, told
from tests.valkey import Server

pytestmark = ON_ONE_LOOP

ROUTE: dict[str, Any] = {"name": "kept", "match": "ANY /**", "tier": "none", "cache": {}}


@pytest.fixture
def valkey() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="scopegate-") as folder, Server(Path(folder)) as server:
        yield server


class Pair:
    """`rigs` are two gateways in front of `app`."""

    def __init__(self, rigs: list[Rig], app: App, desk: RedisAnswers) -> None:
        self.rigs = rigs
        self.app = app
        self.desk = desk

    async def get(
        self, which: int, path: str = "/x", fields: str = "", method: str = "GET", body: bytes = b""
    ) -> Reply:
        return await (await self.rigs[which].connect()).ask(request(path, fields, method, body))

    async def is_shared(self, path: str = "/x") -> None:
        """What the first gateway fetched is there for the second."""
        store = self.rigs[0].gateway.cache._sharing
        assert store is not None
        await eventually(lambda: not store._tasks)


@pytest_asyncio.fixture(loop_scope="module")
async def pair(gates: Rigs, valkey: Server) -> AsyncIterator[Pair]:
    app = App()
    made = []
    for _ in range(2):
        rig = await gates.start(
            app=app,
            answers=lambda: RedisAnswers(valkey.url, SystemClock(), timeout_s=2),
            routes=[ROUTE],
            cache={"redis": "16MiB"},
        )
        made.append(rig)
    for rig in made:
        sharing = rig.gateway.cache._sharing
        assert sharing is not None
        await eventually(lambda sharing=sharing: sharing.holds_answers)
    desk = RedisAnswers(valkey.url, SystemClock(), timeout_s=2)
    yield Pair(made, app, desk)
    await desk.close()


async def test_what_one_fetched_the_other_has(pair: Pair) -> None:
    body = bytes(range(256)) * 2000
    pair.app.answers.append(body_of(body, fields=MINUTE))
    first = await pair.get(0)
    await pair.is_shared()
    second, third = await pair.get(1), await pair.get(1)
    assert first.body == second.body == third.body == body
    assert told(second).startswith("scopegate; hit")
    assert len(pair.app.requests) == 1


@pytest.mark.parametrize("kept", ["nothing", "expired"])
async def test_a_crowd_at_two_gateways_is_one_request(pair: Pair, full: bool, kept: str) -> None:
    """A thousand visitors with --full."""
    if kept == "expired":
        pair.app.answers.append(body_of(b"old", fields=b"cache-control: max-age=0\r\n" + b'etag: "a"\r\n'))
        await pair.get(0)
        await pair.is_shared()
        pair.app.requests.clear()
    begin = asyncio.Event()
    pair.app.answers.append(Answer([begin, body_of(b"one", fields=MINUTE)]))
    count = 500 if full else 50
    clients: list[Client] = []
    for rig in pair.rigs:
        clients += [await rig.connect() for _ in range(count)]
    for client in clients:
        client.send(request())
    await eventually(lambda: all(rig.gateway.shared.in_flight == count for rig in pair.rigs))
    await pair.app.until(lambda: len(pair.app.requests) == 1)
    await asyncio.sleep(0.1)
    begin.set()
    replies = await asyncio.gather(*(client.answer() for client in clients))
    assert {reply.body for reply in replies} == {b"one"}
    assert len(pair.app.requests) == 1


@pytest.mark.parametrize("kind", ["url", "prefix", "tag", "all"])
async def test_a_purge_holds_at_all_within_a_second(pair: Pair, kind: str) -> None:
    what = {"url": b"a.example/x", "prefix": b"/", "tag": b"news", "all": b""}[kind]
    pair.app.answers.append(body_of(b"old", fields=MINUTE + b"cache-tag: news\r\n"))
    await pair.get(0)
    await pair.is_shared()
    assert (await pair.get(1)).body == b"old"
    number = await pair.desk.purge(Purge(PurgeKind(kind), what))
    await eventually(lambda: all(rig.gateway.cache.purges.last >= number for rig in pair.rigs), patience_s=1.0)
    pair.app.answers.append(body_of(b"new", fields=MINUTE))
    assert (await pair.get(1)).body == b"new"
    assert (await pair.get(0)).body == b"new"


async def test_a_soft_purge_asks_the_app(pair: Pair) -> None:
    pair.app.answers.append(body_of(b"old", fields=MINUTE + b'etag: "a"\r\n'))
    await pair.get(0)
    number = await pair.desk.purge(Purge(PurgeKind.URL, b"/x", soft=True))
    await eventually(lambda: all(rig.gateway.cache.purges.last >= number for rig in pair.rigs))
    pair.app.answers.append(
        body_of(b"", "304 Not Modified", MINUTE + b'etag: "a"\r\n').replace(b"content-length: 0\r\n", b"")
    )
    reply = await pair.get(0)
    assert (reply.body, pair.app.requests[1].get(b"if-none-match")) == (b"old", [b'"a"'])


async def test_a_change_at_one_ends_what_the_other_keeps(pair: Pair) -> None:
    pair.app.answers.append(body_of(b"old", fields=MINUTE))
    await pair.get(0)
    await pair.is_shared()
    assert (await pair.get(1)).body == b"old"
    pair.app.answers.append(body_of(b"", "200 OK"))
    await pair.get(0, method="POST", body=b"z")
    await eventually(lambda: not pair.rigs[1].gateway.cache.shelf.count, patience_s=1.0)
    pair.app.answers.append(body_of(b"new", fields=MINUTE))
    assert (await pair.get(1)).body == b"new"


async def test_without_its_store_each_goes_on_alone(pair: Pair, valkey: Server) -> None:
    pair.app.answers.append(body_of(b"one", fields=MINUTE))
    await pair.get(0)
    valkey.kill()
    assert (await pair.get(0)).body == b"one"
    pair.app.default = body_of(b"two", fields=MINUTE)
    assert (await pair.get(0, "/y")).body == b"two"
    assert (await pair.get(1, "/y")).body == b"two"


async def test_a_store_that_was_emptied_empties_all(pair: Pair, valkey: Server) -> None:
    pair.app.answers.append(body_of(b"old", fields=MINUTE))
    await pair.get(0)
    await pair.desk.purge(Purge(PurgeKind.TAG, b"other"))
    await eventually(lambda: pair.rigs[0].gateway.cache.purges.last == 1)
    valkey.run("FLUSHALL")
    await eventually(lambda: not pair.rigs[0].gateway.cache.shelf.count)
