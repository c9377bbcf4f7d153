"""What of a body is at the app before all of it is here: where bodies go on as they come, and where they are held back.

The app is a socket that tells what it has had, byte by byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.app import OK
from tests.gateway.client import Client
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

FORM = b"Content-Type: multipart/form-data; boundary=B\r\n"
CHUNKED, EXPECTING = b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"
FILE = b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
CLOSING = b"\r\n--B--\r\n"


class Listening:
    """The app. It answers what it is told to once it has the end of a chunked body, or never."""

    def __init__(self) -> None:
        self.had = bytearray()
        self.connections = 0
        self.answer = OK
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            while data := await reader.read(65536):
                self.had += data
                if self.had.endswith(b"0\r\n\r\n") or self.had.startswith(b"GET"):
                    writer.write(self.answer)
        except ConnectionError:
            pass
        finally:
            self.open.discard(writer)
            writer.close()


class Served:
    def __init__(self, rig: Rig, app: Listening) -> None:
        self.rig = rig
        self.app = app

    async def sends(self, path: bytes, fields: bytes, body: bytes) -> Client:
        client = await self.rig.connect()
        client.send(b"POST " + path + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body)
        return client

    async def speaks(self, answer: bytes) -> None:
        """Have the app answer once, on a connection that ends."""
        self.app.answer = answer
        client = await self.rig.connect()
        assert (await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
        for writer in self.app.open:
            writer.transport.abort()
        await eventually(lambda: not self.app.open)
        await client.close()
        self.app.had.clear()
        self.app.connections = 0

    async def has(self, text: bytes) -> None:
        await eventually(lambda: text in self.app.had, lambda: bytes(self.app.had))


def route(name: str, **body: Any) -> dict[str, Any]:
    return {"name": name, "match": f"POST /{name}", "tier": "none", "body": {"max": "3MiB", **body}}


ROUTES = [
    route("plain"),
    route("small", max="8B"),
    route("held", buffer="on"),
    route("form", multipart={}),
    route("form-on", multipart={"file": "10B"}, buffer="off"),
    route("form-watched", multipart={}) | {"mode": "watch"},
    {"name": "rest", "match": "GET /**", "tier": "none"},
]


@asynccontextmanager
async def serving(gates: Rigs) -> AsyncIterator[Served]:
    app = Listening()
    with closing(await asyncio.start_server(app.serve, "127.0.0.1", 0)) as server:
        yield Served(
            await gates.start(servers=[f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"], routes=ROUTES), app
        )


@pytest_asyncio.fixture(loop_scope="module")
async def served(gates: Rigs) -> AsyncIterator[Served]:
    """An app that has spoken HTTP/1.1 before."""
    async with serving(gates) as served:
        await served.speaks(OK)
        yield served


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


@pytest.mark.parametrize("path", [b"/plain", b"/form-on", b"/form-watched"])
@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 1000\r\n"], ids=["chunked", "length"])
async def test_a_body_goes_on_as_it_comes(served: Served, path: bytes, framing: bytes) -> None:
    begun = FILE + b"12"
    client = await served.sends(path, FORM + framing, chunk(begun) if framing == CHUNKED else begun)
    await served.has(begun)
    assert served.rig.gateway.shared.held.bytes == 0
    if framing == CHUNKED:
        client.send(chunk(b"345"))
        await served.has(b"345")
        client.send(chunk(CLOSING) + b"0\r\n\r\n")
        assert (await client.answer()).status == 200


async def _held(served: Served, size: int) -> None:
    await eventually(lambda: served.rig.gateway.shared.held.bytes == size)
    assert served.app.connections == 0


@pytest.mark.parametrize("answer", [b"", OK.replace(b"1.1", b"1.0")], ids=["nothing yet", "HTTP/1.0"])
async def test_who_is_not_known_to_read_chunks_gets_a_length(gates: Rigs, answer: bytes) -> None:
    """RFC 9112 6.1. One that passes over Transfer-Encoding would take the body for its next request."""
    async with serving(gates) as served:
        if answer:
            await served.speaks(answer)
        client = await served.sends(b"/plain", CHUNKED, chunk(b"1234"))
        await _held(served, 4)
        client.send(chunk(b"5678") + b"0\r\n\r\n")
        await served.has(b"content-length: 8\r\n")
        assert b"transfer-encoding" not in served.app.had
        await client.close()
        client = await served.sends(b"/form-on", FORM + CHUNKED, chunk(FILE))  # the policy's own word
        await served.has(FILE)


@pytest.mark.parametrize("path", [b"/held", b"/form"])
async def test_a_body_is_held_back_where_the_route_says_so_or_judges_it(served: Served, path: bytes) -> None:
    client = await served.sends(path, FORM + CHUNKED, chunk(FILE))
    await _held(served, len(FILE))
    client.send(chunk(CLOSING) + b"0\r\n\r\n")
    await served.has(b"content-length: %d\r\n" % len(FILE + CLOSING))
    await served.has(FILE + CLOSING)


async def test_one_of_known_length_is_held_back_likewise(served: Served) -> None:
    client = await served.sends(b"/held", b"Content-Length: 5\r\n", b"1234")
    await _held(served, 4)
    client.send(b"5")
    await served.has(b"\r\n\r\n12345")


async def test_what_is_too_large_to_be_held_goes_on(served: Served) -> None:
    mib = b"x" * (1024 * 1024)
    client = await served.sends(b"/held", CHUNKED, chunk(mib))
    await served.has(mib[:1000])
    client.send(chunk(mib) + b"0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert b"transfer-encoding: chunked\r\n" in served.app.had


@pytest.mark.parametrize("more", [b"9", b"9" * 300_000])
async def test_over_its_limit_a_body_is_cut_and_the_app_never_has_its_end(served: Served, more: bytes) -> None:
    client = await served.sends(b"/small", CHUNKED, chunk(b"1234"))
    await served.has(b"1234")
    client.send(chunk(b"5678") + chunk(more) + b"0\r\n\r\n")
    reply = await client.answer()
    assert (reply.status, reply.code, reply.get(b"connection")) == (413, "body_too_large", [b"close"])
    await eventually(lambda: not served.app.open)
    assert b"0\r\n\r\n" not in served.app.had
    assert b"9" not in served.app.had.partition(b"\r\n\r\n")[2]


async def test_a_form_that_is_passed_on_is_judged_all_the_same(served: Served) -> None:
    client = await served.sends(b"/form-on", FORM + CHUNKED, chunk(FILE + b"1234567"))
    await served.has(b"1234567")
    client.send(chunk(b"8901") + chunk(CLOSING) + b"0\r\n\r\n")
    assert (await client.answer()).code == "file_too_large"
    await eventually(lambda: not served.app.open)
    assert b"--B--" not in served.app.had


async def test_a_body_that_turns_out_to_be_none_is_cut(served: Served) -> None:
    client = await served.sends(b"/plain", CHUNKED, chunk(b"1234"))
    await served.has(b"1234")
    client.send(b"z\r\n")
    assert (await client.answer()).code == "bad_framing"
    await eventually(lambda: not served.app.open)
    assert b"0\r\n\r\n" not in served.app.had


async def test_who_leaves_in_the_midst_takes_the_request_along(served: Served) -> None:
    client = await served.sends(b"/plain", CHUNKED, chunk(b"1234"))
    await served.has(b"1234")
    await client.close()
    await eventually(lambda: not served.app.open)
    assert served.app.connections == 1
    assert b"0\r\n\r\n" not in served.app.had


async def test_the_body_is_asked_for_once_the_app_is_reached(served: Served, gates: Rigs) -> None:
    """A client that waits for 100 sends nothing to an app that is away."""
    client = await served.sends(b"/plain", EXPECTING + CHUNKED, b"")
    assert (await client.interim()).status == 100
    assert served.app.connections == 1
    away = await gates.start(servers=["http://127.0.0.1:9"])
    away.servers[0].version = "1.1"
    client = await away.connect()
    client.send(b"POST / HTTP/1.1\r\n" + HOST + EXPECTING + CHUNKED + b"\r\n")
    reply = await client._answer("POST")
    assert (reply.status, reply.code) == (502, "upstream_connect")


@pytest.mark.parametrize("status", [b"401 No", b"413 No"])
async def test_an_answer_before_the_end_reaches_a_client_that_goes_on_sending(served: Served, status: bytes) -> None:
    client = await served.sends(b"/plain", CHUNKED, chunk(b"1234"))
    await served.has(b"1234")
    (app,) = served.app.open
    app.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nno")
    client.send(chunk(b"x" * 3_000_000) + b"0\r\n\r\n")
    reply = await client.answer()
    assert (reply.status, reply.body, reply.get(b"connection")) == (int(status[:3]), b"no", [b"close"])
    assert await client.ends() == b""
    await eventually(lambda: not served.app.open)


@pytest.mark.parametrize(
    ("versions", "reads"),
    [(("", ""), False), (("1.1", ""), True), (("1.1", "1.1"), True), (("1.1", "1.0"), False), (("", "1.0"), False)],
)
async def test_one_server_of_old_is_enough_for_all_to_get_a_length(
    gates: Rigs, versions: tuple[str, str], reads: bool
) -> None:
    rig = await gates.start(servers=["http://127.0.0.1:9", "http://127.0.0.1:11"])
    pool = rig.gateway.shared.rules.plan(rig.gateway.shared.rules.policy.routes[0]).pool
    for server, version in zip(pool.servers, versions, strict=True):
        server.version = version
    assert pool.reads_chunks is reads
