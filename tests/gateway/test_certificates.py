"""Certificates on a public port: what is refused, what is shown to whom, and what OpenSSL's own client makes of it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from scopegate.errors import ConfigError
from scopegate.gateway.certificates import Certificates, load
from scopegate.policy.policy import CertificateFiles
from tests.authority import Authority, Identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def files_of(identity: Identity) -> CertificateFiles:
    return CertificateFiles(str(identity.cert), str(identity.key))


def test_its_names_and_its_end_are_known(authority: Authority) -> None:
    certificate = load(files_of(authority.issue("App.Example", "*.app.example", "127.0.0.1")))
    assert certificate.names == {"app.example", "*.app.example", "127.0.0.1"}


def test_one_whose_time_is_over_can_be_served(authority: Authority) -> None:
    over = load(files_of(authority.issue("old.example", ends_in=timedelta(hours=-1))))
    assert over.ends_s < load(files_of(authority.issue("new.example"))).ends_s


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _lock(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))


def _other(path: Path) -> None:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))


@pytest.mark.parametrize(
    ("file", "spoil", "what"),
    [
        ("cert", Path.unlink, "No such file or directory"),
        ("key", Path.unlink, "No such file or directory"),
        ("cert", _cut, "takes no certificate and key"),
        ("key", _cut, "takes no certificate and key"),
        ("cert", lambda path: path.write_bytes(b""), "takes no certificate and key"),
        ("cert", lambda path: path.write_bytes(b"\xff" * 100), "takes no certificate and key"),
        ("key", _lock, "locked by a password"),
        ("key", _other, "is not the key of"),
    ],
)
def test_what_cannot_be_served_is_named(authority: Authority, file: str, spoil: object, what: str) -> None:
    identity = authority.issue("app.example")
    assert callable(spoil)
    spoil(getattr(identity, file))
    with pytest.raises(ConfigError) as caught:
        load(files_of(identity))
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.path == "server.tls"
    assert "PRIVATE" not in str(problem)


def test_a_name_finds_its_certificate(authority: Authority) -> None:
    one, other, both = (
        load(files_of(authority.issue(*names)))
        for names in (["one.example"], ["*.other.example", "other.example"], ["one.example", "a.other.example"])
    )
    certificates = Certificates([one, other, both])
    assert certificates.choose("ONE.example") is one
    assert certificates.choose("OTHER.example.") is other
    assert certificates.choose("other.example") is other
    assert certificates.choose("a.other.example") is both
    assert certificates.choose("b.other.example") is other
    assert certificates.choose("a.b.other.example") is one
    assert certificates.choose("nobody.example") is one
    assert certificates.choose(None) is one


@asynccontextmanager
async def served(certificates: Certificates) -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", 0, ssl=certificates.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def handshake(authority: Authority, port: int, *options: str) -> str:
    """What `openssl s_client` has to say of the port."""
    client = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(authority.file), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    told, _ = await client.communicate()
    return told.decode(errors="replace")


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_client_is_shown_the_certificate_of_the_name_it_asks_for(authority: Authority, loops: type) -> None:
    certificates = Certificates([load(files_of(authority.issue(name))) for name in ("a.example", "b.example")])

    async def ask() -> list[str]:
        async with served(certificates) as port:
            names = [["-servername", "a.example"], ["-servername", "b.example"], ["-noservername"]]
            found = [await handshake(authority, port, *name) for name in names]
            certificates.replace(certificates.served[::-1])
            return [*found, await handshake(authority, port, "-noservername")]

    with asyncio.Runner(loop_factory=loops) as runner:
        told = runner.run(ask())
    for text, name in zip(told, "abab", strict=True):
        assert f"subject=CN = {name}.example" in text
        assert "Verify return code: 0 (ok)" in text


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["-tls1_3"], "TLSv1.3"),
        (["-tls1_2"], "TLSv1.2"),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], None),
        (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], None),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], None),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], None),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], None),
        (["-tls1_2", "-cipher", "NULL:aNULL:3DES:RC4:@SECLEVEL=0"], None),
        (["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
        (["-alpn", "h2"], "No ALPN negotiated"),
        (["-tls1_3", "-groups", "X25519"], "TLSv1.3"),
        (["-tls1_3", "-groups", "ffdhe8192"], None),
    ],
)
async def test_versions_and_ciphers_are_those_of_the_intermediate_profile(
    authority: Authority, options: list[str], answer: str | None
) -> None:
    async with served(Certificates([load(files_of(authority.issue("a.example")))])) as port:
        told = await handshake(authority, port, *options)
    if answer is None:
        assert "no peer certificate available" in told
    else:
        assert answer in told


def rsa(folder: Path) -> CertificateFiles:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=a.example -keyout k.pem -out c.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return CertificateFiles(str(folder / "c.pem"), str(folder / "k.pem"))


def agreed(server: ssl.SSLContext, cipher: str) -> str | None:
    """What a client that knows one cipher of TLS 1.2 alone, and refuses nothing else, agrees on with the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [context.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return None
    found = ends[1].cipher()
    return found and found[0]


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_of_all_ciphers_there_are_those_of_the_profile_are_agreed_on(
    authority: Authority, tmp_path: Path, kind: str
) -> None:
    """The ones that agree on keys by finite fields are of the profile too, and left out: each costs much."""
    files = files_of(authority.issue("a.example")) if kind == "ECDSA" else rsa(tmp_path)
    server = load(files).context
    known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    known.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    older = [each["name"] for each in known.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert len(older) > 100
    found = {cipher for cipher in older if agreed(server, cipher) == cipher}
    modern = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    assert found == {f"ECDHE-{kind}-{cipher}" for cipher in modern}


async def test_a_client_that_prefers_chacha_gets_it(authority: Authority) -> None:
    """Phones without AES in hardware do."""
    async with served(Certificates([load(files_of(authority.issue("a.example")))])) as port:
        order = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"
        assert "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305" in await handshake(
            authority, port, "-tls1_2", "-cipher", order
        )


async def test_a_client_cannot_ask_for_the_handshake_again(authority: Authority) -> None:
    certificates = Certificates([load(files_of(authority.issue("a.example")))])
    assert certificates.context.options & ssl.OP_NO_RENEGOTIATION
    assert certificates.choose(None).context.options & ssl.OP_NO_RENEGOTIATION
