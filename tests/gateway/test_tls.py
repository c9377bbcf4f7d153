"""A public port that speaks HTTPS: requests through it, renewed certificates, and crowds that never finish."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from tests.authority import Authority, Identity
from tests.gateway.app import Answer, End, body_of
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually, policy_of

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls(*identities: Identity) -> dict[str, object]:
    return {"tls": [{"cert": str(each.cert), "key": str(each.key)} for each in identities]}


class Visitor:
    """A client that proves the server as a browser does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, rig: Rig, authority: Authority, name: str = "a.example") -> Visitor:
        context = ssl.create_default_context(cafile=str(authority.file))
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context, server_hostname=name)
        return cls(reader, writer)

    async def ask(self, raw: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self.writer.write(raw)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def test_requests_go_through_and_the_app_is_told_of_https(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(
        server=tls(authority.issue("a.example")), headers={"h": {"hsts": {"max_age": "1h"}}}, routes=ROUTES
    )
    visitor = await Visitor.of(rig, authority)
    for _ in range(3):
        head, body = await visitor.ask(GET)
        assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"ok")
    assert b"strict-transport-security" in head.lower()
    assert rig.app.requests[-1].get(b"x-forwarded-proto") == [b"https"]
    await visitor.close()


ROUTES = [{"name": "all", "match": "ANY /**", "tier": "none", "headers": "h"}]


async def test_plain_http_on_it_is_no_request(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(GET)
    assert not (await reader.read()).startswith(b"HTTP")
    writer.close()
    assert rig.app.requests == []


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_bodies_of_any_size_pass_both_ways(gates: Rigs, authority: Authority, size: int) -> None:
    limits = {"body": "4MiB"}
    rig = await gates.start(server=tls(authority.issue("a.example")), limits=limits)
    rig.app.default = lambda received: body_of(received.body)
    visitor = await Visitor.of(rig, authority)
    sent = bytes(n % 251 for n in range(size))
    head = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
    _, body = await visitor.ask(head + sent)
    assert body == sent
    await visitor.close()


async def test_a_refusal_reaches_a_client_that_is_still_sending(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")))
    visitor = await Visitor.of(rig, authority)
    head = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3000000\r\n\r\n"
    answer, _ = await visitor.ask(head + bytes(200_000))
    assert answer.startswith(b"HTTP/1.1 413")
    visitor.writer.write(bytes(20_000))
    await asyncio.sleep(0.05)
    assert not visitor.writer.is_closing()
    await visitor.close()


async def test_a_renewed_certificate_is_shown_to_the_next_and_cuts_nobody(gates: Rigs, authority: Authority) -> None:
    identity = authority.issue("a.example")
    rig = await gates.start(server=tls(identity))
    before = await Visitor.of(rig, authority)
    await before.ask(GET)
    renewed = authority.issue("a.example")
    renewed.cert.rename(identity.cert)
    renewed.key.rename(identity.key)
    await rig.gateway.adopt(policy_of([rig.app.url], server=tls(identity)))
    after = await Visitor.of(rig, authority)
    shown = [visitor.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] for visitor in (before, after)]
    assert shown[0] != shown[1]
    for visitor in (before, after):
        _, body = await visitor.ask(GET)
        assert body == b"ok"
        await visitor.close()


async def test_a_client_has_the_time_of_a_head_for_its_handshake(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")), timeouts={"head": "200ms"})
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"\x16\x03\x01")
    async with asyncio.timeout(5):
        await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()


async def test_handshakes_count_among_the_connections_of_their_client(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")), limits={"connections": 3})
    waiting = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(3)]
    await eventually(lambda: len(rig.gateway.connections.open) == 3)
    more = socket.create_connection(("127.0.0.1", rig.port))
    more.setblocking(False)
    await eventually(lambda: _is_closed(more))
    assert len(rig.gateway.connections.open) == 3
    for sock in [*waiting, more]:
        sock.close()
    await eventually(lambda: not rig.gateway.connections.open)


async def test_the_oldest_handshake_gives_way_where_all_places_are_taken(gates: Rigs, authority: Authority) -> None:
    server = {**tls(authority.issue("a.example")), "trusted_proxies": ["127.0.0.1/32"]}  # counted by no client
    rig = await gates.start(server=server, limits={"connections": 3})
    waiting = []
    for n in range(1, 4):
        waiting.append(socket.create_connection(("127.0.0.1", rig.port)))
        waiting[-1].setblocking(False)
        await eventually(lambda n=n: len(rig.gateway.connections.open) == n)
    waiting.append(socket.create_connection(("127.0.0.1", rig.port)))
    await eventually(lambda: _is_closed(waiting[0]))
    assert not _is_closed(waiting[2])
    visitor = await Visitor.of(rig, authority)
    assert (await visitor.ask(GET))[1] == b"ok"
    await visitor.close()
    for sock in waiting:
        sock.close()


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_one_that_gives_up_in_its_handshake_leaves_nothing(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")))
    for sent in (b"", b"\x16\x03\x01\x02\x00", b"\xff" * 4096):
        with socket.create_connection(("127.0.0.1", rig.port)) as sock:
            sock.sendall(sent)
    await asyncio.sleep(0.05)
    await eventually(lambda: not rig.gateway.connections.open)
    visitor = await Visitor.of(rig, authority)
    assert (await visitor.ask(GET))[1] == b"ok"
    await visitor.close()


async def test_a_broken_answer_is_no_clean_end(gates: Rigs, authority: Authority) -> None:
    rig = await gates.start(server=tls(authority.issue("a.example")))
    rig.app.answers.append(Answer([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", End.CLOSE]))
    visitor = await Visitor.of(rig, authority)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
        await visitor.ask(GET)
    await visitor.close()
