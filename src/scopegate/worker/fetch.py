"""Photo download: one address, judged at every hop, connected to exactly as judged, decoded by `worker/decoders`.

The only file of the worker that names httpx for photos. Rules about addresses are in `leads/photos`. Called by
`worker/steps`; raises PhotoError and nothing else.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urljoin

import httpx

from scopegate import __version__
from scopegate.errors import PhotoError
from scopegate.leads.photos import (
    MAX_PHOTO_BYTES,
    MAX_REDIRECTS,
    SNIFFED_BYTES,
    IPAddress,
    PhotoCode,
    PhotoRefusal,
    PhotoUrl,
    Picture,
    judge_url,
    may_connect,
    sniff,
)
from scopegate.worker.decoders import Decoders

FETCH_TIMEOUT_S: Final = 10.0
_AT_ONCE: Final = 3
_URI_REFERENCE = re.compile(r"[!-~]*")

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses as text; raises OSError when the name has none."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's answer, IPv4 and IPv6."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


class PhotoFetcher:
    """Downloads and decodes. At most three photos at once in a process, whatever the number of jobs: each may take
    32 MiB here and 896 MiB in its decoder."""

    def __init__(
        self,
        *,
        resolver: Resolver = resolve,
        timeout_s: float = FETCH_TIMEOUT_S,
        decoders: Decoders | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._decoders = decoders or Decoders()
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str, photo_hosts: Sequence[str]) -> Picture:
        """One photo, ready for the model. PhotoError says why not, by a PhotoCode."""
        async with self._slots:
            body = await self._in_time(url, photo_hosts)
            if sniff(body.data[:SNIFFED_BYTES]) is None:
                raise PhotoError(PhotoCode.ENCODED if body.is_encoded else PhotoCode.NOT_A_PICTURE)
            return await self._decoders.decode(body.data)

    async def close(self) -> None:
        await self._decoders.close()

    async def _in_time(self, url: str, photo_hosts: Sequence[str]) -> _Body:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._download(url, photo_hosts)
        except (TimeoutError, httpx.TimeoutException):
            raise PhotoError(PhotoCode.TIMEOUT, retryable=True) from None
        except httpx.HTTPError as error:
            raise PhotoError(PhotoCode.UNREACHABLE, type(error).__name__, retryable=True) from None

    async def _download(self, url: str, photo_hosts: Sequence[str]) -> _Body:
        for _ in range(MAX_REDIRECTS + 1):
            judged = judge_url(url, photo_hosts)
            if isinstance(judged, PhotoRefusal):
                raise PhotoError(judged.code, judged.detail)
            found = await self._get(judged, await self._address(judged))
            if isinstance(found, _Body):
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

    async def _get(self, url: PhotoUrl, address: IPAddress) -> _Body | _Elsewhere:
        """One hop. The connection goes to `address`; Host, SNI and the certificate check keep the name.

        A transport of its own per hop: no cookie, no kept connection and no credential passes from one to the next,
        and nobody but us reads a Location."""
        request = httpx.Request(
            "GET",
            httpx.URL(scheme=url.scheme, host=str(address), port=url.port, path="/"),
            headers=_request_fields(url),
            extensions={
                "sni_hostname": url.host,
                "target": url.target.encode("ascii"),
                "timeout": httpx.Timeout(self._timeout_s).as_dict(),
            },
        )
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        async with transport, _sent(transport, request) as response:
            if response.has_redirect_location:
                return _Elsewhere(response.headers["location"])
            _check_head(response)
            return _Body(await _bounded_body(response), "content-encoding" in response.headers)


@dataclass(frozen=True, slots=True)
class _Body:
    """`is_encoded`: it says so, which many say of plain bytes (`aws-chunked`, `utf-8`). The bytes decide."""

    data: bytes
    is_encoded: bool


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A redirect, not yet judged."""

    location: str


@asynccontextmanager
async def _sent(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    response = await transport.handle_async_request(request)
    try:
        yield response
    finally:
        await response.aclose()


def _joined(url: PhotoUrl, location: str) -> str:
    """Where a redirect leads. What is no URI reference is not made one by leaving something out (RFC 9110 10.2.2)."""
    if not _URI_REFERENCE.fullmatch(location):
        raise PhotoError(PhotoCode.BAD_URL, "redirected to what is no URL")
    try:
        return urljoin(f"{url.scheme}://{url.authority}{url.target}", location)
    except ValueError:  # an open bracket
        raise PhotoError(PhotoCode.BAD_URL, "redirected to what is no URL") from None


def _request_fields(url: PhotoUrl) -> dict[str, str]:
    return {
        "host": url.authority,
        "accept": "image/jpeg, image/png, image/webp, image/gif, image/*;q=0.8",
        "accept-encoding": "identity",
        "user-agent": f"scopegate/{__version__}",
    }


def _check_head(response: httpx.Response) -> None:
    status = response.status_code
    if status != 200:
        raise PhotoError(PhotoCode.BAD_STATUS, str(status), retryable=status in (408, 425, 429) or status >= 500)
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
