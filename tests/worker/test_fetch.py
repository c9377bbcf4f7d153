"""Fetching: where connections go, what is asked, and every way in which a photo does not arrive."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

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
from scopegate.worker.fetch import PhotoFetcher, resolve
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


_OPENED: list[PhotoFetcher] = []


def opened(**options: Any) -> PhotoFetcher:
    """One that is closed when its test is over."""
    _OPENED.append(PhotoFetcher(**options))
    return _OPENED[-1]


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    while _OPENED:
        await _OPENED.pop().close()


def fetcher(*addresses: str, **options: object) -> PhotoFetcher:
    return opened(resolver=resolver(*(addresses or ("93.184.216.34",))), **options)


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
    assert Image.open(io.BytesIO(found.parts[0].jpeg)).size == (640, 480)


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
        error = await refused(URL, opened(resolver=flipping))
    assert error.code == PhotoCode.FORBIDDEN_ADDRESS


async def test_no_look_up_for_a_host_that_is_not_listed() -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    assert (await refused("https://evil.test/1.jpg", opened(resolver=never))).code == PhotoCode.FORBIDDEN_HOST


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
    error = await refused(URL, opened(resolver=resolver()))
    assert (error.code, error.retryable) == (PhotoCode.UNREACHABLE, True)


async def test_a_compressed_answer_is_refused_undecoded() -> None:
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(
            200, content=gzip.compress(JPEG), headers={"content-encoding": "gzip"}
        )
        assert (await refused(URL, fetcher())).code == PhotoCode.ENCODED


@pytest.mark.parametrize("coding", ["aws-chunked", "", "utf-8", "identity"])
async def test_a_coding_that_is_none_does_not_cost_a_photo(coding: str) -> None:
    """Stored by uploaders that sent it as a field of their own; the bytes are a JPEG all the same."""
    with respx.mock:
        respx.get(scheme="https", host="93.184.216.34").respond(200, content=JPEG, headers={"content-encoding": coding})
        assert (await fetcher().fetch(URL, HOSTS)).digest == hashlib.sha256(JPEG).hexdigest()


@pytest.mark.parametrize(
    "location",
    [
        *(b"data:image/png;base64,AAAA", b"javascript:alert(1)", b"file:///etc/passwd", b"https://"),
        *(b"/a b", b"/a\tb", b"/\xc3\xbc", b"https://[", b"mailto:a@b", b"/a\r\n b", b"https://b@c/"),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_refused_by_name(location: bytes) -> None:
    """Never followed after leaving something out of it."""

    async def redirect(asked: Asked) -> bytes:
        return b"HTTP/1.1 302 Found\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"

    async with serving(redirect) as app:
        error = await refused(f"http://{app.authority}/1.jpg", opened(), (app.authority,))
        assert len(app.asked) == 1
    assert (error.code, error.retryable) in ((PhotoCode.BAD_URL, False), (PhotoCode.FORBIDDEN_HOST, False))


async def test_an_address_as_people_write_it_is_asked_as_browsers_ask_it() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    async with serving(serve) as app:
        await opened().fetch(f"http://{app.authority}/Küche 1 💧.jpg?a=ü b&c=%2F", (app.authority,))
    assert app.asked[0].target == "/K%C3%BCche%201%20%F0%9F%92%A7.jpg?a=%C3%BC%20b&c=%2F"


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
        found = await opened().fetch(f"http://{app.authority}/a%2Fb/../c.jpg?x=%41", (app.authority,))
    assert [(asked.method, asked.target) for asked in app.asked] == [("GET", "/a%2Fb/../c.jpg?x=%41")]
    assert [value for name, value in app.asked[0].fields if name == "host"] == [app.authority]
    assert Image.open(io.BytesIO(found.parts[0].jpeg)).width == MAX_SIDE_PX


async def test_the_same_server_by_name_or_on_another_port_is_not() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    async with serving(serve) as app:
        by_name = f"localhost:{app.port}"
        error = await refused(f"http://{by_name}/", opened(), (by_name,))
        assert error.code == PhotoCode.FORBIDDEN_ADDRESS
        assert (await refused(f"http://{app.authority}/", opened(), ("127.0.0.1:1",))).code == "forbidden_host"
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
        error = await refused(f"http://{app.authority}/", opened(), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.TOO_LARGE, False)
    assert str(MAX_PHOTO_BYTES) in str(error)


async def test_a_server_that_hangs_or_drips_is_given_up_on() -> None:
    async def hang(asked: Asked) -> bytes:
        await asyncio.sleep(30)
        return b""

    async with serving(hang) as app:
        error = await refused(f"http://{app.authority}/", opened(timeout_s=0.1), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.TIMEOUT, True)


async def test_a_cut_body_is_no_photo() -> None:
    async def cut(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + JPEG[:500]

    async with serving(cut) as app:
        error = await refused(f"http://{app.authority}/", opened(), (app.authority,))
    assert (error.code, error.retryable) == (PhotoCode.UNREACHABLE, True)


async def test_proxy_variables_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(serve) as app:
        await opened().fetch(f"http://{app.authority}/", (app.authority,))
    assert app.connections == 1


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.0.2"])
async def test_the_certificate_has_to_be_the_hosts(named: str) -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    server_tls, client_tls = certified(named)
    async with serving(serve, server_tls) as app:
        fetching = opened(tls=client_tls)
        if named == "127.0.0.1":
            await fetching.fetch(f"https://{app.authority}/", (app.authority,))
        else:
            error = await refused(f"https://{app.authority}/", fetching, (app.authority,))
            assert error.code == PhotoCode.UNREACHABLE
            assert app.asked == []


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    async def serve(asked: Asked) -> bytes:
        return answer(200, JPEG)

    async with serving(serve, certified("127.0.0.1")[0]) as app:
        error = await refused(f"https://{app.authority}/", opened(), (app.authority,))
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


async def test_the_system_resolves_both_families() -> None:
    assert set(await resolve("127.0.0.1", 80)) == {"127.0.0.1"}
    assert set(await resolve("::1", 80)) == {"::1"}
