"""Unix sockets and TLS on the way to the app: who does not prove itself hears nothing of a request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scopegate.errors import ConfigError
from scopegate.gateway.dial import tls_context
from scopegate.policy.policy import Origin, Tls, Upstream, UpstreamTimeouts
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs, policy_of

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for a day, or for one that is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        ca = x509.BasicConstraints(ca=True, path_length=0)
        self._cert = self._sign(self._name, self._key.public_key(), timedelta(days=1), ca)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, ends_in: timedelta, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + ends_in)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def identity(self, label: str, *names: x509.GeneralName, ends_in: timedelta = timedelta(days=1)) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        cert = self._sign(name, key.public_key(), ends_in, x509.SubjectAlternativeName(names))
        found = Identity(self._folder / f"{label}.pem", self._folder / f"{label}.key")
        found.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        found.key.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        return found


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
