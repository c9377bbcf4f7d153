"""A name that leads elsewhere, nowhere, or to several addresses: real sockets, and a resolver that the test has."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from scopegate.errors import UpstreamError
from scopegate.gateway.names import HOLDS_S, HostName
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.policy.policy import Origin, Upstream, UpstreamTimeouts
from tests.gateway.rig import ON_ONE_LOOP, eventually

pytestmark = ON_ONE_LOOP


class Resolved:
    """A loop that asks the test for addresses, and whose time can be set forward; all else is the loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ahead_s = 0.0
        self.addresses: list[str] = []
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    def time(self) -> float:
        return self._loop.time() + self.ahead_s

    async def getaddrinfo(self, _host: str, port: int, **_options: int) -> list[Any]:
        self.asked += 1
        await self.answers.wait()
        await asyncio.sleep(0)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        infos: list[Any] = []
        for address in self.addresses:
            infos += socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return infos

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@asynccontextmanager
async def listening(address: str, port: int = 0) -> AsyncIterator[int]:
    """A server at an address of this machine that answers nothing. Its port."""
    server = await asyncio.start_server(lambda _r, writer: writers.append(writer), address, port)
    writers: list[asyncio.StreamWriter] = []
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@asynccontextmanager
async def pool_of(loop: Resolved, port: int, *, connect_s: float = 2.0) -> AsyncIterator[UpstreamPool]:
    upstream = Upstream("web", (Origin("http", "app.test", port),), UpstreamTimeouts(connect_s, 5.0, 60.0), None)
    pool = UpstreamPool(upstream, cast(asyncio.AbstractEventLoop, loop))
    try:
        yield pool
    finally:
        await pool.close()
    await eventually(lambda: not pool.servers[0].open)


async def connected(pool: UpstreamPool) -> UpstreamConnection:
    found = pool.acquire(fresh=True)
    return found if isinstance(found, UpstreamConnection) else await found.future


async def test_an_answer_of_the_resolver_holds_for_a_while_and_is_asked_for_once_by_all() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.1"]
    name = HostName("app.test", 80, cast(asyncio.AbstractEventLoop, loop))
    await asyncio.gather(*(name.addresses() for _ in range(5)))
    assert loop.asked == 1
    loop.ahead_s = HOLDS_S - 0.1
    await name.addresses()
    assert loop.asked == 1
    loop.ahead_s = HOLDS_S + 0.1
    await name.addresses()
    assert loop.asked == 2
    name.forget()
    await name.addresses()
    assert loop.asked == 3


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.1"]
    name = HostName("app.test", 80, cast(asyncio.AbstractEventLoop, loop))
    first, second = asyncio.ensure_future(name.addresses()), asyncio.ensure_future(name.addresses())
    await asyncio.sleep(0)
    first.cancel()
    assert [info[4][0] for info in await second] == ["127.0.0.1"]


async def test_while_the_resolver_is_away_the_last_answer_holds() -> None:
    loop = Resolved()
    name = HostName("app.test", 80, cast(asyncio.AbstractEventLoop, loop))
    with pytest.raises(OSError, match="not known"):
        await name.addresses()
    loop.addresses = ["127.0.0.1"]
    await name.addresses()
    loop.addresses, loop.ahead_s = [], HOLDS_S + 1
    assert [info[4][0] for info in await name.addresses()] == ["127.0.0.1"]


async def test_a_resolver_that_does_not_answer_is_waited_for_shortly_and_once() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.1"]
    name = HostName("app.test", 80, cast(asyncio.AbstractEventLoop, loop), patience_s=0.05)
    await name.addresses()
    loop.ahead_s = HOLDS_S + 1
    loop.answers.clear()
    for _ in range(3):
        assert [info[4][0] for info in await name.addresses()] == ["127.0.0.1"]
    assert name.is_known()
    loop.addresses = ["127.0.0.2"]
    loop.answers.set()
    await eventually(lambda: name.leads_to("127.0.0.2"))
    assert loop.asked == 2


async def test_a_server_that_came_back_at_another_address_is_found_at_once() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.2"]
    async with listening("127.0.0.2") as port, pool_of(loop, port) as pool:
        (await connected(pool)).give_back()
    async with listening("127.0.0.3", port):
        loop.addresses = ["127.0.0.3"]
        async with pool_of(loop, port) as again:
            again.servers[0].dialler.name = pool.servers[0].dialler.name  # with the old answer, which still holds
            connection = await connected(again)
            assert connection.peer == "127.0.0.3"
            connection.give_back()


async def test_what_idles_at_an_old_address_is_closed() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.2"]
    async with listening("127.0.0.2") as port, listening("127.0.0.3", port), pool_of(loop, port) as pool:
        old = await connected(pool)
        old.give_back()
        pool.expire(loop.time())
        assert old.is_usable()
        loop.addresses, loop.ahead_s = ["127.0.0.3"], HOLDS_S + 1
        pool.expire(loop.time())
        await eventually(lambda: loop.asked == 2)
        await asyncio.sleep(0.01)
        pool.expire(loop.time())
        assert not old.is_usable()
        new = await connected(pool)
        assert new.peer == "127.0.0.3"
        new.give_back()


async def test_a_pool_that_is_never_idle_leaves_an_old_address_too() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.2"]
    async with listening("127.0.0.2") as port, listening("127.0.0.3", port), pool_of(loop, port) as pool:
        old = await connected(pool)
        loop.addresses, loop.ahead_s = ["127.0.0.3"], HOLDS_S + 1
        pool.expire(loop.time())
        await eventually(lambda: loop.asked == 2)
        await asyncio.sleep(0.01)
        pool.expire(loop.time())
        assert old.is_usable()  # its exchange goes on
        old.give_back()
        assert not old.is_usable()
        new = await connected(pool)
        assert new.peer == "127.0.0.3"
        new.give_back()


async def test_a_name_that_leads_nowhere_is_an_app_that_cannot_be_reached() -> None:
    loop = Resolved()
    async with pool_of(loop, 80) as pool:
        with pytest.raises(UpstreamError) as caught:
            await connected(pool)
        assert (caught.value.kind, caught.value.sent) == ("connect", False)


async def test_an_address_that_swallows_everything_costs_a_quarter_of_a_second() -> None:
    """RFC 8305: the next address is tried beside it, not after its time is over."""
    with socket.socket() as full:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:  # its queue is full now: the kernel drops what else comes
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.2", port))
        loop = Resolved()
        loop.addresses = ["127.0.0.2", "127.0.0.3"]
        async with listening("127.0.0.3", port), pool_of(loop, port, connect_s=30.0) as pool:
            connection = await connected(pool)
            assert connection.peer == "127.0.0.3"
            connection.give_back()
        for sock in waiting:
            sock.close()


async def test_the_other_family_is_tried_next() -> None:
    loop = Resolved()
    loop.addresses = ["127.0.0.1", "127.0.0.2", "::1"]
    async with listening("::1") as port, pool_of(loop, port) as pool:
        connection = await connected(pool)
        assert connection.peer == "::1"
        connection.give_back()
