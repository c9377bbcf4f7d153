"""Unix sockets and TLS on the way to the app: who does not prove itself hears nothing of a request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from scopegate.errors import ConfigError
from scopegate.gateway.dial import tls_context
from scopegate.policy.policy import Origin, Tls, Upstream, UpstreamTimeouts
from tests.authority import Authority, Identity
from tests.gateway.app import reset
from tests.gateway.client import BrokenTransferError
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually, policy_of

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class TlsApp:
    """An app behind TLS: the requests it got, and what was agreed on."""

    def __init__(self, identity: Identity, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.requests = 0
        self.versions: set[str | None] = set()
        self.protocols: set[str | None] = set()
        self.names: set[str | None] = set()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(identity.cert, identity.key)
        self.context.maximum_version = newest
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.sni_callback = lambda _sock, name, _context: self.names.add(name)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.versions.add(tls.version())
        self.protocols.add(tls.selected_alpn_protocol())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0, ssl=self.context)
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


IP = x509.IPAddress(ip_address("127.0.0.1"))
APP = x509.DNSName("app.internal")


async def test_a_server_that_proves_itself_is_spoken_to(gates: Rigs, authority: Authority) -> None:
    app = TlsApp(authority.identity("by-address", IP))
    async with app.serve() as url:
        rig = await gates.start(servers=[url], pool={"tls": {"ca": str(authority.file)}})
        client = await rig.connect()
        for _ in range(3):
            assert (await client.ask(GET)).body == b"ok"
        assert (app.requests, rig.servers[0].open) == (3, 1)
        assert (app.versions, app.protocols) == ({"TLSv1.3"}, {"http/1.1"})
        rig.servers[0].expire(float("inf"))


async def test_the_name_of_the_certificate_may_be_another_than_the_hosts(gates: Rigs, authority: Authority) -> None:
    app = TlsApp(authority.identity("by-name", APP), ssl.TLSVersion.TLSv1_2)
    tls = {"ca": str(authority.file), "server_name": "app.internal"}
    async with app.serve() as url:
        rig = await gates.start(servers=[url], pool={"tls": tls})
        assert (await (await rig.connect()).ask(GET)).body == b"ok"
        assert (app.versions, app.names) == ({"TLSv1.2"}, {"app.internal"})
        rig.servers[0].expire(float("inf"))


@pytest.mark.parametrize("name", ["wrong name", "wrong address", "expired", "unknown authority", "system's"])
async def test_a_server_that_does_not_is_502_and_hears_nothing(
    gates: Rigs, authority: Authority, tmp_path: Path, name: str
) -> None:
    good = authority.identity("good", IP)
    identity = {
        "wrong name": authority.identity("wrong-name", APP),
        "wrong address": authority.identity("wrong-address", x509.IPAddress(ip_address("127.0.0.2"))),
        "expired": authority.identity("expired", IP, ends_in=timedelta(days=-1)),
        "unknown authority": Authority(tmp_path).identity("stranger", IP),
    }.get(name, good)
    app = TlsApp(identity)
    async with app.serve() as url:
        tls = {} if name == "system's" else {"ca": str(authority.file)}
        rig = await gates.start(servers=[url], pool={"tls": tls})
        client = await rig.connect()
        reply = await client.ask(GET)
        assert (reply.status, reply.code) == (502, "upstream_tls")
        assert (app.requests, rig.servers[0].open) == (0, 0)


async def test_a_server_that_speaks_no_tls_is_502(gates: Rigs, authority: Authority) -> None:
    got: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    rig = await gates.start(servers=[url], pool={"tls": {"ca": str(authority.file)}})
    assert (await (await rig.connect()).ask(GET)).code == "upstream_tls"
    assert b"HTTP" not in b"".join(got)
    server.close()


# ── where an answer without a length ends ───────────────────────────────────────────────────────────────────────────

UNTIL_EOF = b"HTTP/1.1 200 OK\r\n\r\nhello"
LARGE = b"x" * 600_000


class Drop(Enum):
    """How the connection under the TLS ends."""

    FIN = "fin"
    RST = "rst"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Ending:
    """What is sent after the request, whether close_notify ends it, and how the connection goes right after."""

    answer: bytes
    close_notify: bool
    drop: Drop = Drop.FIN
    cut_bytes: int = 0
    """Left out at the end of the last record."""


class BareTls:
    """A server whose TLS is written by hand, to end it in every way."""

    def __init__(self, identity: Identity, ending: Ending) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.cert, identity.key)
        self._ending = ending
        self._over = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(coming, going, server_side=True)
        shaken, head = False, b""
        while b"\r\n\r\n" not in head:
            try:
                if shaken:
                    head += tls.read(65536)
                else:
                    tls.do_handshake()
                    shaken = True
            except ssl.SSLWantReadError:
                writer.write(going.read())
                data = await reader.read(65536)
                if not data:
                    writer.close()
                    return
                coming.write(data)
        ending = self._ending
        tls.write(ending.answer)
        if ending.close_notify:
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
        data = going.read()
        writer.write(data[: len(data) - ending.cut_bytes])
        if ending.drop is Drop.RST:
            await writer.drain()
            await asyncio.sleep(0.05)  # the RST would destroy what has not been read yet
            reset(writer)
        elif ending.drop is Drop.NEVER:
            await self._over.wait()
        writer.close()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._over.set()
        server.close()


def with_length(payload: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(payload), payload)


WHOLE = {
    "close_notify": Ending(UNTIL_EOF, close_notify=True),
    "close_notify, and the connection stays": Ending(UNTIL_EOF, close_notify=True, drop=Drop.NEVER),
    "close_notify, then a reset": Ending(UNTIL_EOF, close_notify=True, drop=Drop.RST),
    "a length, dropped": Ending(with_length(b"hello"), close_notify=False),
    "a length, reset": Ending(with_length(b"hello"), close_notify=False, drop=Drop.RST),
}
CUT = {
    "dropped": Ending(UNTIL_EOF, close_notify=False),
    "reset": Ending(UNTIL_EOF, close_notify=False, drop=Drop.RST),
    "half a close_notify": Ending(UNTIL_EOF, close_notify=True, cut_bytes=5),
    "half a record": Ending(UNTIL_EOF + LARGE, close_notify=False, cut_bytes=5),
}


async def rig_before(gates: Rigs, authority: Authority, url: str) -> Rig:
    return await gates.start(servers=[url], pool={"tls": {"ca": str(authority.file)}})


@pytest.mark.parametrize("name", WHOLE)
async def test_an_answer_that_is_all_there_is_whole(gates: Rigs, authority: Authority, name: str) -> None:
    async with BareTls(authority.identity("bare", IP), WHOLE[name]).serve() as url:
        rig = await rig_before(gates, authority, url)
        reply = await (await rig.connect()).ask(GET)
        assert (reply.status, reply.body) == (200, b"hello")


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_without_a_close_notify_an_answer_of_no_length_is_broken_off(
    gates: Rigs, authority: Authority, name: str, version: bytes
) -> None:
    """RFC 9112 9.8: whoever cuts the line must not be able to shorten an answer."""
    async with BareTls(authority.identity("bare", IP), CUT[name]).serve() as url:
        rig = await rig_before(gates, authority, url)
        client = await rig.connect()
        client.send(GET.replace(b"HTTP/1.1", b"HTTP/" + version))
        with pytest.raises(BrokenTransferError):
            await client.ends()


@pytest.mark.parametrize("answer", [UNTIL_EOF + LARGE, with_length(b"hello" + LARGE)], ids=["no length", "length"])
async def test_a_slow_client_gets_all_that_was_sent_before_the_end(
    gates: Rigs, authority: Authority, answer: bytes
) -> None:
    async with BareTls(authority.identity("bare", IP), Ending(answer, close_notify=True)).serve() as url:
        rig = await gates.start(servers=[url], pool={"tls": {"ca": str(authority.file)}}, kernel_bytes=4096)
        client = await rig.connect(kernel_bytes=4096)
        client.stop_reading()
        client.send(GET)
        await eventually(lambda: any(client._writing_paused for client in rig.connections))
        for _ in range(20):
            await asyncio.sleep(0.005)  # all that the gateway would read by itself has come
        client.go_on_reading()
        reply = await client.answer()
        assert len(reply.body) == len(LARGE) + 5


async def test_authorities_that_cannot_be_read_end_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for file in (empty, tmp_path / "missing.pem"):
        tls = Tls(ca_file=str(file))
        upstream = Upstream("web", (Origin("https", "a", 443),), UpstreamTimeouts(1, 1, 1), None, tls=tls)
        with pytest.raises(ConfigError, match=r"upstreams\.web\.tls\.ca: cannot be used"):
            tls_context(upstream)
    assert tls_context(policy_of(["http://127.0.0.1:1"]).upstreams["web"]) is None


async def test_old_versions_and_unproven_names_are_not_spoken_to() -> None:
    context = tls_context(policy_of(["https://127.0.0.1:1"]).upstreams["web"])
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_an_app_on_a_unix_socket_is_served(gates: Rigs, tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(OK)
        except asyncio.IncompleteReadError:
            writer.close()

    path = tmp_path / "app.sock"
    rig = await gates.start(servers=[f"unix:{path}"])
    client = await rig.connect()
    assert (await client.ask(GET)).code == "upstream_connect"  # nobody there yet
    server = await asyncio.start_unix_server(answer, path)
    for _ in range(3):
        assert (await client.ask(GET)).body == b"ok"
    assert rig.servers[0].open == 1
    assert all(head.count(b"\r\nhost: a.example\r\n") == 1 for head in heads)
    rig.servers[0].expire(float("inf"))
    server.close()
