"""Fetching: where connections go, what is asked, and every way in which a photo does not arrive."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import ssl
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
import respx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from PIL import Image

from scopegate.errors import PhotoError
from scopegate.leads.photos import MAX_PHOTO_BYTES, MAX_SIDE_PX, PhotoCode, Picture
from scopegate.worker.fetch import PhotoFetcher, decode, resolve
from tests.worker.app import Asked, answer, serving
from tests.worker.pictures import picture

HOSTS = ("*.photos.example.com", "other.example.com:8080")
URL = "https://b.photos.example.com/1.jpg?sig=a%2Fb"
JPEG = picture()


def resolver(*addresses: str) -> object:
    async def answer_with(host: str, port: int) -> Sequence[str]:
        if not addresses:
            raise OSError("no such name")
        return addresses

    return answer_with


def fetcher(*addresses: str, **options: object) -> PhotoFetcher:
    return PhotoFetcher(resolver=resolver(*(addresses or ("93.184.216.34",))), **options)  # type: ignore[arg-type]


async def refused(url: str, using: PhotoFetcher, hosts: Sequence[str] = HOSTS) -> PhotoError:
    with pytest.raises(PhotoError) as failed:
        await using.fetch(url, hosts)
    assert "sig=" not in str(failed.value)
    return failed.value


async def test_the_connection_goes_to_the_checked_address_and_the_name_stays() -> None:
    with respx.mock:
        route = respx.get(scheme="https", host="93.184.216.34").respond(
            200, content=JPEG, headers={"set-cookie": "a=b"}
        )
        found = await fetcher().fetch(URL, HOSTS)
    request = route.calls.last.request
    assert request.headers["host"] == "b.photos.example.com"
    assert request.extensions["sni_hostname"] == "b.photos.example.com"
    assert request.url.raw_path == b"/1.jpg?sig=a%2Fb"
    assert request.headers["accept-encoding"] == "identity"
    assert {"cookie", "authorization"}.isdisjoint(request.headers)
    assert found.digest == hashlib.sha256(JPEG).hexdigest()
    assert Image.open(io.BytesIO(found.jpeg)).size == (found.width_px, found.height_px) == (640, 480)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("10.0.0.1",),
        ("169.254.169.254",),
        ("::1",),
        ("::ffff:127.0.0.1",),
        ("64:ff9b::7f00:1",),
        ("2002:7f00:1::",),
        ("fe80::1%eth0",),
        ("93.184.216.34", "127.0.0.1"),
        ("127.0.0.1", "93.184.216.34"),
    ],
)
async def test_a_name_that_leads_inside_opens_no_connection(addresses: tuple[str, ...]) -> None:
    with respx.mock(assert_all_called=False) as mock:
        anything = mock.route().respond(200, content=JPEG)
        error = await refused(URL, fetcher(*addresses))
    assert (error.code, error.retryable) == (PhotoCode.FORBIDDEN_ADDRESS, False)
    assert not anything.called


async def test_a_name_that_changes_its_address_is_asked_once_per_hop() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])

    async def flipping(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(302, headers={"location": "/2.jpg"})
        error = await refused(URL, PhotoFetcher(resolver=flipping))
    assert error.code == PhotoCode.FORBIDDEN_ADDRESS


async def test_no_look_up_for_a_host_that_is_not_listed() -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    assert (await refused("https://evil.test/1.jpg", PhotoFetcher(resolver=never))).code == PhotoCode.FORBIDDEN_HOST


async def test_a_redirect_is_judged_like_a_first_address() -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(
            307, headers={"location": "http://other.example.com:8080/x?y#z"}
        )
        second = respx.get(scheme="http", host="93.184.216.34", port=8080).respond(200, content=JPEG)
        assert isinstance(await fetcher().fetch(URL, HOSTS), Picture)
    assert second.calls.last.request.headers["host"] == "other.example.com:8080"
    assert second.calls.last.request.url.raw_path == b"/x?y"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", PhotoCode.FORBIDDEN_HOST),
        ("http://127.0.0.1/", PhotoCode.FORBIDDEN_HOST),
        ("https://evil.test/", PhotoCode.FORBIDDEN_HOST),
        ("//evil.test/", PhotoCode.FORBIDDEN_HOST),
        ("http://b.photos.example.com/1.jpg", PhotoCode.BAD_URL),
        ("file:///etc/passwd", PhotoCode.BAD_URL),
        ("https://user@b.photos.example.com/", PhotoCode.BAD_URL),
        ("https://[", PhotoCode.BAD_URL),
        ("/1.jpg", PhotoCode.REDIRECTS),
        ("", PhotoCode.REDIRECTS),
    ],
)
async def test_a_redirect_elsewhere_is_refused(location: str, code: PhotoCode) -> None:
    with respx.mock:
        route = respx.get(scheme="https", host="93.184.216.34").respond(302, headers={"location": location})
        error = await refused(URL, fetcher())
    assert error.code == code
    assert route.call_count == (4 if code is PhotoCode.REDIRECTS else 1)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, False) for status in (204, 206, 304, 400, 403, 404, 410)),
        *((status, True) for status in (408, 425, 429, 500, 503)),
    ],
)
async def test_a_status_other_than_200_is_no_photo(status: int, retryable: bool) -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(status, content=JPEG)
        error = await refused(URL, fetcher())
    assert (error.code, error.retryable) == (PhotoCode.BAD_STATUS, retryable)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("refused"), PhotoCode.UNREACHABLE),
        (httpx.ReadError("reset"), PhotoCode.UNREACHABLE),
        (httpx.RemoteProtocolError("no HTTP"), PhotoCode.UNREACHABLE),
        (httpx.ReadTimeout("slow"), PhotoCode.TIMEOUT),
    ],
)
async def test_no_answer_may_pass(error: Exception, code: PhotoCode) -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").mock(side_effect=error)
        failed = await refused(URL, fetcher())
    assert (failed.code, failed.retryable) == (code, True)


async def test_a_name_without_an_address_may_pass() -> None:
    error = await refused(URL, PhotoFetcher(resolver=resolver()))  # type: ignore[arg-type]
    assert (error.code, error.retryable) == (PhotoCode.UNREACHABLE, True)


async def test_a_compressed_answer_is_refused_undecoded() -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(
            200, content=gzip.compress(JPEG), headers={"content-encoding": "gzip"}
        )
        assert (await refused(URL, fetcher())).code == PhotoCode.ENCODED


async def test_something_else_is_refused_without_a_decoder() -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(
            200, content=b"<svg/>", headers={"content-type": "image/jpeg"}
        )
        assert (await refused(URL, fetcher())).code == PhotoCode.NOT_A_PICTURE


# ── with a real server on a loopback address that the policy lists ──────────────────────────────────────────────────
async def test_a_listed_loopback_address_is_fetched_for_real() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, picture(size=(4000, 3000)))

    async with serving(serve) as app:
        found = await PhotoFetcher().fetch(f"http://{app.authority}/a%2Fb/../c.jpg?x=%41", (app.authority,))
    assert [(asked.method, asked.target) for asked in app.asked] == [("GET", "/a%2Fb/../c.jpg?x=%41")]
    assert [value for name, value in app.asked[0].fields if name == "host"] == [app.authority]
    assert Image.open(io.BytesIO(found.jpeg)).width == MAX_SIDE_PX


async def test_the_same_server_by_name_or_on_another_port_is_not() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    async with serving(serve) as app:
        by_name = f"localhost:{app.port}"
        error = await refused(f"http://{by_name}/", PhotoFetcher(), (by_name,))
        assert error.code == PhotoCode.FORBIDDEN_ADDRESS
        assert (await refused(f"http://{app.authority}/", PhotoFetcher(), ("127.0.0.1:1",))).code == "forbidden_host"
    assert app.connections == 0


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_cap_is_cut_off(declared: bool) -> None:
    sent = 0

    async def flood(asked: Asked) -> bytes:
        nonlocal sent
        length = f"content-length: {10**12}\r\n" if declared else ""
        sent = 64 << 20
        return f"HTTP/1.1 200 OK\r\n{length}connection: close\r\n\r\n".encode() + JPEG + bytes(sent)

    async with serving(flood) as app:
        error = await refused(f"http://{app.authority}/", PhotoFetcher(), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.TOO_LARGE, False)
    assert str(MAX_PHOTO_BYTES) in str(error)


async def test_a_server_that_hangs_or_drips_is_given_up_on() -> None:
    async def hang(asked: Asked) -> bytes:
        await asyncio.sleep(30)
        return b""

    async with serving(hang) as app:
        error = await refused(f"http://{app.authority}/", PhotoFetcher(timeout_s=0.1), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.TIMEOUT, True)


async def test_a_cut_body_is_no_photo() -> None:
    async def cut(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + JPEG[:500]

    async with serving(cut) as app:
        error = await refused(f"http://{app.authority}/", PhotoFetcher(), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.UNREACHABLE, True)


async def test_proxy_variables_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(serve) as app:
        await PhotoFetcher().fetch(f"http://{app.authority}/", (app.authority,))
    assert app.connections == 1


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.0.2"])
async def test_the_certificate_has_to_be_the_hosts(named: str) -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    server_tls, client_tls = certified(named)
    async with serving(serve, server_tls) as app:
        fetcher = PhotoFetcher(tls=client_tls)
        if named == "127.0.0.1":
            await fetcher.fetch(f"https://{app.authority}/", (app.authority,))
        else:
            error = await refused(f"https://{app.authority}/", fetcher, (app.authority,))
            assert error.code == PhotoCode.UNREACHABLE
            assert app.asked == []


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    async with serving(serve, certified("127.0.0.1")[0]) as app:
        error = await refused(f"https://{app.authority}/", PhotoFetcher(), (app.authority,))
    assert error.code == PhotoCode.UNREACHABLE


def certified(address: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's side of one self-signed certificate for that address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as chain:
        chain.write(private + pem)
        chain.flush()
        server.load_cert_chain(chain.name)
    return server, ssl.create_default_context(cadata=pem.decode())


# ── the decoder's process ───────────────────────────────────────────────────────────────────────────────────────────
async def test_a_decoder_that_is_too_slow_is_a_bomb_and_leaves_no_process() -> None:
    before = _children()
    with pytest.raises(PhotoError) as failed:
        await decode(JPEG, timeout_s=0.001)
    assert failed.value.code == PhotoCode.BOMB
    assert _children() == before


async def test_a_cancelled_fetch_leaves_no_process() -> None:
    before = _children()
    task = asyncio.create_task(decode(JPEG))
    while _children() == before:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _children() == before


async def test_a_damaged_file_has_its_code() -> None:
    with pytest.raises(PhotoError) as failed:
        await decode(JPEG[:300])
    assert (failed.value.code, failed.value.retryable) == (PhotoCode.DAMAGED, False)


def _children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:
        return set(listing.read().split())


def decoder(script: str) -> tuple[str, ...]:
    """A decoder that has been taken over by the file it read."""
    return (sys.executable, "-I", "-c", f"import os, sys, json; sys.stdin.buffer.read(); {script}")


SAYS = "sys.stdout.buffer.write({!r})"


@pytest.mark.parametrize(
    ("script", "code", "retryable"),
    [
        ("os.kill(os.getpid(), 9)", PhotoCode.BOMB, False),
        ("os.kill(os.getpid(), 11)", PhotoCode.BOMB, False),
        ("sys.exit(1)", PhotoCode.DECODER_FAILED, True),
        ("pass", PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"error": "bomb"}\n'), PhotoCode.BOMB, False),
        (SAYS.format(b'{"error": "word of its own"}\n'), PhotoCode.DAMAGED, False),
        (SAYS.format(b'{"error": 5}\n'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"size": [10, 10]}\nGIF89a'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"size": [99999, 10]}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"size": [0, 10]}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b'{"size": [10]}\n\xff\xd8\xff'), PhotoCode.DECODER_FAILED, True),
        (SAYS.format(b"[" * 150 + b"\n\xff\xd8\xff"), PhotoCode.DECODER_FAILED, True),
        ("[sys.stdout.buffer.write(bytes(1 << 20)) for _ in range(1000)]", PhotoCode.BOMB, False),
    ],
)
async def test_a_decoder_that_was_taken_over_gives_no_picture(script: str, code: PhotoCode, retryable: bool) -> None:
    with pytest.raises(PhotoError) as failed:
        await decode(JPEG, command=decoder(script))
    assert (failed.value.code, failed.value.retryable) == (code, retryable)


async def test_the_decoder_knows_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "PLANTED")
    says_names = "print(json.dumps({'error': 'damaged' if set(os.environ) <= {'PATH', 'LD_LIBRARY_PATH', 'LC_CTYPE'}"
    with pytest.raises(PhotoError) as failed:
        await decode(JPEG, command=decoder(says_names + " else 'bomb'}))"))
    assert failed.value.code == PhotoCode.DAMAGED


async def test_without_a_decoder_the_fault_is_ours() -> None:
    with pytest.raises(PhotoError) as failed:
        await decode(JPEG, command=("/nowhere/python",))
    assert (failed.value.code, failed.value.retryable) == (PhotoCode.DECODER_FAILED, True)


async def test_the_system_resolves_both_families() -> None:
    assert set(await resolve("127.0.0.1", 80)) == {"127.0.0.1"}
    assert set(await resolve("::1", 80)) == {"::1"}
