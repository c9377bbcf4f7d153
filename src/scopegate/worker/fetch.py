"""Photo download: one address, judged at every hop, connected to exactly as judged, decoded in a child process.

The only file of the worker that names httpx for photos and the only one that starts the decoder. Rules about
addresses are in `leads/photos`. Called by `worker/steps`; raises PhotoError and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin

import httpx

from scopegate import __version__, jsontext
from scopegate.errors import PhotoError
from scopegate.leads.photos import (
    MAX_PHOTO_BYTES,
    MAX_REDIRECTS,
    MAX_SIDE_PX,
    IPAddress,
    PhotoCode,
    PhotoRefusal,
    PhotoUrl,
    Picture,
    judge_url,
    may_connect,
    sniff,
)

FETCH_TIMEOUT_S: Final = 10.0
DECODE_TIMEOUT_S: Final = 15.0
"""Wall time; the decoder's own bound is 5 s of CPU, this one is for a machine too busy to give it any."""
DECODER: Final = (sys.executable, "-I", "-m", "scopegate.worker.decode")
_MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 3

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses as text; raises OSError when the name has none."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's answer, IPv4 and IPv6."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


class PhotoFetcher:
    """Downloads and decodes. At most three photos at once in a process, whatever the number of jobs: each may take
    15 MiB here and 512 MiB in its decoder."""

    def __init__(
        self,
        *,
        resolver: Resolver = resolve,
        timeout_s: float = FETCH_TIMEOUT_S,
        decode_timeout_s: float = DECODE_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._decode_timeout_s = decode_timeout_s
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str, photo_hosts: Sequence[str]) -> Picture:
        """One photo, ready for the model. PhotoError says why not, by a PhotoCode."""
        async with self._slots:
            data = await self._in_time(url, photo_hosts)
            if sniff(data[:16]) is None:
                raise PhotoError(PhotoCode.NOT_A_PICTURE)
            return await decode(data, self._decode_timeout_s)

    async def _in_time(self, url: str, photo_hosts: Sequence[str]) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._download(url, photo_hosts)
        except (TimeoutError, httpx.TimeoutException):
            raise PhotoError(PhotoCode.TIMEOUT, retryable=True) from None
        except httpx.HTTPError as error:
            raise PhotoError(PhotoCode.UNREACHABLE, type(error).__name__, retryable=True) from None

    async def _download(self, url: str, photo_hosts: Sequence[str]) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            judged = judge_url(url, photo_hosts)
            if isinstance(judged, PhotoRefusal):
                raise PhotoError(judged.code, judged.detail)
            found = await self._get(judged, await self._address(judged))
            if isinstance(found, bytes):
                return found
            url = _joined(judged, found.location)
        raise PhotoError(PhotoCode.REDIRECTS, f"more than {MAX_REDIRECTS}")

    async def _address(self, url: PhotoUrl) -> IPAddress:
        """The address to dial. One forbidden answer among several refuses them all: an honest name has none."""
        if url.literal is not None:
            return url.literal
        try:
            addresses = [ip_address(text) for text in await self._resolver(url.host, url.port)]
        except OSError:
            raise PhotoError(PhotoCode.UNREACHABLE, "the name has no address", retryable=True) from None
        if not addresses:
            raise PhotoError(PhotoCode.UNREACHABLE, "the name has no address", retryable=True)
        if not all(may_connect(url, address) for address in addresses):
            raise PhotoError(PhotoCode.FORBIDDEN_ADDRESS, "the name leads to an address that is not public")
        return addresses[0]

    async def _get(self, url: PhotoUrl, address: IPAddress) -> bytes | _Elsewhere:
        """One hop. The connection goes to `address`; Host, SNI and the certificate check keep the name.

        A client of its own per hop: no cookie, no kept connection and no credential passes from one to the next."""
        client = httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._timeout_s)
        request = client.build_request(
            "GET",
            httpx.URL(scheme=url.scheme, host=str(address), port=url.port, path="/"),
            headers=_request_fields(url),
            extensions={"sni_hostname": url.host, "target": url.target.encode("ascii")},
        )
        async with client, _sent(client, request) as response:
            if response.has_redirect_location:
                return _Elsewhere(response.headers["location"])
            _check_head(response)
            return await _bounded_body(response)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A redirect, not yet judged."""

    location: str


@asynccontextmanager
async def _sent(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def _joined(url: PhotoUrl, location: str) -> str:
    try:
        return urljoin(f"{url.scheme}://{url.authority}{url.target}", location)
    except ValueError:  # an open bracket
        raise PhotoError(PhotoCode.BAD_URL, "redirected to what is no URL") from None


def _request_fields(url: PhotoUrl) -> dict[str, str]:
    return {
        "host": url.authority,
        "accept": "image/jpeg, image/png, image/webp, image/gif",
        "accept-encoding": "identity",
        "user-agent": f"scopegate/{__version__}",
    }


def _check_head(response: httpx.Response) -> None:
    status = response.status_code
    if status != 200:
        raise PhotoError(PhotoCode.BAD_STATUS, str(status), retryable=status in (408, 425, 429) or status >= 500)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise PhotoError(PhotoCode.ENCODED, "compressed although identity was asked for")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_PHOTO_BYTES:
        raise PhotoError(PhotoCode.TOO_LARGE, f"more than {MAX_PHOTO_BYTES} bytes")


async def _bounded_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_PHOTO_BYTES:
            raise PhotoError(PhotoCode.TOO_LARGE, f"more than {MAX_PHOTO_BYTES} bytes")
    return bytes(body)


# ── the decoder's process ───────────────────────────────────────────────────────────────────────────────────────────
async def decode(data: bytes, timeout_s: float = DECODE_TIMEOUT_S, command: Sequence[str] = DECODER) -> Picture:
    """A small plain picture of it, made by `worker/decode` in a child that has bounds and none of our environment.

    A file whose decoder is killed by its bounds, or is not done in time, is a `bomb`. `decoder_failed` is our own
    trouble (no memory to start it). The child never outlives the call."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ},
        )
    except OSError as error:
        raise PhotoError(PhotoCode.DECODER_FAILED, type(error).__name__, retryable=True) from None
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _converse(child, data)
            status = await child.wait()
    except TimeoutError:
        raise PhotoError(PhotoCode.BOMB, "decoding took too long") from None
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    jpeg, (width_px, height_px) = _read_answer(answer, status)
    return Picture(jpeg, width_px, height_px, hashlib.sha256(data).hexdigest())


async def _converse(child: asyncio.subprocess.Process, data: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # it died while we wrote: its exit status tells
        child.stdin.write(data)
        await child.stdin.drain()
    child.stdin.close()
    answer = bytearray()
    while chunk := await child.stdout.read(65536):
        answer += chunk
        if len(answer) > _MAX_ANSWER_BYTES:
            child.kill()
    return bytes(answer)


def _read_answer(answer: bytes, status: int) -> tuple[bytes, tuple[int, int]]:
    """The JPEG and its size, or PhotoError. The decoder has read hostile bytes: what it says is checked, too."""
    if status < 0:
        raise PhotoError(PhotoCode.BOMB, "decoding took more memory or time than a picture may")
    line, _, jpeg = answer.partition(b"\n")
    match _json(line[:200]):
        case {"error": str(code)}:
            raise PhotoError(next((known for known in PhotoCode if known == code), PhotoCode.DAMAGED))
        case {"size": [int(width), int(height)]} if jpeg.startswith(b"\xff\xd8\xff") and _is_bounded(width, height):
            return jpeg, (width, height)
        case _:
            raise PhotoError(PhotoCode.DECODER_FAILED, f"exit status {status}", retryable=True)


def _is_bounded(width_px: int, height_px: int) -> bool:
    return 0 < width_px <= MAX_SIDE_PX and 0 < height_px <= MAX_SIDE_PX


def _json(line: bytes) -> object:
    try:
        return jsontext.parse(line, max_depth=2)
    except jsontext.BadJson:
        return None
