"""One connection to Redis: what leaves together, whom an answer belongs to, and how each end of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hiredis import ReplyError

from scopegate.stores.redis_link import Ask, Link, Outage, bulk, outage, pack
from tests.valkey import Server

TIMEOUT_S = 20.0
"""Where nothing hangs: a slow machine must not look like an outage."""
PING = pack(b"PING")


class Told:
    """A waiter that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self._told = asyncio.Event()

    def answered(self, reply: object) -> None:
        self.said.append(reply)
        self._told.set()

    def failed(self, outage: Outage) -> None:
        self.said.append(outage)
        self._told.set()

    async def first(self) -> object:
        async with asyncio.timeout(30):
            await self._told.wait()
        return self.said[0]

    async def kind(self) -> str:
        said = await self.first()
        assert isinstance(said, Outage), said
        return said.kind


def sent(link: Link, *words: bytes) -> Told:
    told = Told()
    link.send(pack(*words), told)
    return told


@asynccontextmanager
async def linked(url: str, *setup: bytes, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Link]:
    link = Link(url, timeout_s=timeout_s, setup=setup)
    try:
        yield link
    finally:
        await link.close()


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server that answers as it likes; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_commands_as_they_go_over_the_wire() -> None:
    assert bulk(b"a\r\n") == b"$3\r\na\r\n\r\n"
    assert pack(b"SET", b"k", b"") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [("READONLY x", "readonly"), ("OOM x", "full"), ("NOAUTH x", "connect"), ("ERR x", "other")],
)
def test_an_error_answer_as_an_outage(text: str, kind: str) -> None:
    found = outage(ReplyError(text))
    assert (found.kind, found.detail) == (kind, text)
    assert len(outage(ReplyError(text + "y" * 1000)).detail) == 200


def test_each_waiter_makes_an_error_of_its_own() -> None:
    gone = Outage("reset", "closed")
    assert gone.error() is not gone.error()
    assert str(gone.error()) == "reset: closed"


async def test_answers_belong_to_the_waiters_in_the_order_sent(valkey_url: str) -> None:
    async with linked(valkey_url) as link:
        told = [sent(link, b"ECHO", b"%d" % n) for n in range(100)]
        assert [await one.first() for one in told] == [b"%d" % n for n in range(100)]
        assert {len(one.said) for one in told} == {1}
        assert isinstance(await sent(link, b"NOSUCH").first(), ReplyError)
        assert await sent(link, b"ECHO", b"still").first() == b"still"


async def test_a_turns_commands_leave_in_one_write() -> None:
    reads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reads.append(data)
            writer.write(b"+PONG\r\n" * data.count(b"PING"))

    async with answering(answer) as url, linked(url) as link:
        await sent(link, b"PING").first()
        reads.clear()
        told = [sent(link, b"PING") for _ in range(50)]
        assert [await one.first() for one in told] == [b"PONG"] * 50
    assert reads == [PING * 50]


async def test_login_database_and_setup_come_first_on_every_connection() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = [pack(b"AUTH", b"me", b"secret"), pack(b"SELECT", b"3"), pack(b"HELLO")]
        heard.append(await reader.readexactly(len(b"".join(greeting))))
        writer.write(b"+OK\r\n" * 3)
        heard.append(await reader.readexactly(len(PING)))
        writer.write(b"+PONG\r\n")

    async with answering(answer) as url:
        url = url.replace("redis://", "redis://me:secret@") + "/3"
        async with linked(url, pack(b"HELLO")) as link:
            for _ in range(2):
                told = sent(link, b"PING")
                assert await told.first() == b"PONG"
                await until(lambda: link._wire is None)  # it hangs up after each answer
    assert heard == [b"".join((pack(b"AUTH", b"me", b"secret"), pack(b"SELECT", b"3"), pack(b"HELLO"))), PING] * 2


async def test_a_setup_that_is_refused_is_an_outage_and_tried_again() -> None:
    attempts = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await reader.readexactly(len(pack(b"SETUP")))
        writer.write(b"-OOM no room\r\n" if attempts == 1 else b"+OK\r\n")
        while await reader.read(65536):
            writer.write(b"+PONG\r\n")

    async with answering(answer) as url, linked(url, pack(b"SETUP")) as link:
        assert await sent(link, b"PING").kind() == "full"
        assert await sent(link, b"PING").kind() == "full", "at once, while it tries again behind"
        await until(lambda: link._wire is not None)
        assert await sent(link, b"PING").first() == b"PONG"
    assert attempts == 2


async def test_a_server_that_hangs_fails_all_that_wait_and_then_at_once(server: Server) -> None:
    async with linked(server.url, timeout_s=0.2) as link:
        await sent(link, b"PING").first()
        server.pause()
        told = [sent(link, b"PING") for _ in range(20)]
        assert [await one.kind() for one in told] == ["timeout"] * 20
        late = sent(link, b"PING")
        assert late.said == [Outage("timeout", "no answer in time")], "nobody waits for a server known to hang"
        server.resume()
        await until(lambda: link._wire is not None)
        assert await sent(link, b"PING").first() == b"PONG"


async def test_a_hang_up_fails_what_was_under_way_and_the_next_command_connects_again() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"DIE" not in await reader.readexactly(len(pack(b"DIE"))):
            writer.write(b"+OK\r\n")
            await reader.read()

    async with answering(answer) as url, linked(url) as link:
        assert await sent(link, b"DIE").kind() == "reset"
        assert await sent(link, b"YES").first() == b"OK"


async def test_what_is_no_redis_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with answering(answer) as url, linked(url) as link:
        assert await sent(link, b"PING").kind() == "other"


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PING))
        writer.write(b"+PONG\r\n+PONG\r\n")
        await reader.read()

    async with answering(answer) as url, linked(url) as link:
        assert await sent(link, b"PING").first() == b"PONG"
        await until(lambda: link._wire is None)


async def test_a_server_that_is_left_is_an_outage_until_it_is_prepared_again(valkey_url: str) -> None:
    heard: list[Outage | None] = []
    prepared: list[object] = []

    async def prepare(ask: Ask) -> None:
        prepared.append(await ask(pack(b"CLIENT", b"ID")))

    async with linked(valkey_url) as link:
        link.tell(prepare, heard.append)
        assert await sent(link, b"CLIENT", b"ID").first() == prepared[0]
        link.leave(Outage("full", "no room"))
        assert await sent(link, b"PING").kind() == "full"
        await until(lambda: len(heard) == 2)
        assert await sent(link, b"CLIENT", b"ID").first() == prepared[1] != prepared[0]
    assert heard == [Outage("full", "no room"), None]


async def test_a_server_that_is_slow_to_prepare_stays_away_and_nobody_waits(valkey_url: str) -> None:
    heard: list[Outage | None] = []
    slow = [True]

    async def prepare(ask: Ask) -> None:
        if slow:
            await ask(pack(b"BLPOP", b"none", b"0"))

    async with linked(valkey_url, timeout_s=0.2) as link:
        link.tell(prepare, heard.append)
        assert await sent(link, b"PING").kind() == "timeout"
        for _ in range(5):
            assert (sent(link, b"PING")).said == [Outage("timeout", "no connection in time")]
        slow.clear()
        await until(lambda: heard[-1] is None)
        assert await sent(link, b"PING").first() == b"PONG"
    assert len(heard) == 2


async def test_who_waits_for_a_connection_waits_no_longer_than_for_an_answer() -> None:
    connected = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(pack(b"SETUP")))
        await connected.wait()
        writer.write(b"+OK\r\n")
        while await reader.read(65536):
            writer.write(b"+PONG\r\n")

    async with answering(answer) as url, linked(url, pack(b"SETUP"), timeout_s=0.1) as link:
        assert await sent(link, b"PING").kind() == "timeout"
        connected.set()  # the attempt went on
        await until(lambda: link._wire is not None)
        assert await sent(link, b"PING").first() == b"PONG"


async def test_closed_it_answers_nobody_any_more(server: Server) -> None:
    link = Link(server.url, timeout_s=TIMEOUT_S, setup=())
    await sent(link, b"PING").first()
    server.pause()
    under_way = sent(link, b"PING")
    await asyncio.sleep(0)
    await link.close()
    assert await under_way.kind() == "reset"
    assert await sent(link, b"PING").kind() == "connect"
    server.resume()


async def test_closed_before_it_is_connected_it_fails_what_waits(valkey_url: str) -> None:
    link = Link(valkey_url, timeout_s=TIMEOUT_S, setup=())
    told = sent(link, b"PING")
    await link.close()
    assert await told.kind() == "connect"
    assert len(told.said) == 1


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


async def test_opened_it_is_connected_or_known_to_be_away(server: Server) -> None:
    async with linked(server.url) as link:
        await link.open()
        assert link._wire is not None
    server.kill()
    async with linked(server.url) as link:
        await link.open()
        assert [outage.kind for outage in sent(link, b"PING").said if isinstance(outage, Outage)] == ["connect"]
