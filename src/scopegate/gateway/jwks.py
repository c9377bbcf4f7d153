"""One published key set (JWKS), fetched when needed and remembered: how fresh, how stale, how often.

The only file of the gateway that calls httpx. Knows nothing of tokens: `parse` turns the document into keys.
Called by `identity`.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable
from typing import Generic, TypeVar

import httpx

from scopegate import logs
from scopegate.clock import Clock

FRESH_S = 300.0
"""Keys this young are used without a question."""
STALE_S = 3600.0
"""Keys this old are no longer used, also when the endpoint stays down."""
RETRY_S = 10.0
"""The pause after a failed fetch."""
REFETCH_S = 30.0
"""The pause between fetches that unknown key ids ask for: strangers can write any id they like."""
TIMEOUT_S = 3.0
MAX_BYTES = 256 * 1024

Keys = TypeVar("Keys")

_log = logs.get("identity")


class _Unusable(Exception):
    """The endpoint answered, and not with a key set. The text is ours."""


class KeySet(Generic[Keys]):
    """The keys at one URL.

    Fresh for FRESH_S; then the next caller waits for a new copy. While the endpoint is known to be down the old copy
    serves up to STALE_S and is renewed in the background, so an outage delays one round of requests and no more.
    """

    def __init__(
        self, url: str, http: httpx.AsyncClient, clock: Clock, parse: Callable[[bytes], Keys], timeout_s: float
    ) -> None:
        """`parse` raises ValueError for a document without a usable key; `timeout_s` bounds one fetch in all."""
        self._url = url
        self._http = http
        self._clock = clock
        self._parse = parse
        self._timeout_s = timeout_s
        self._keys: Keys | None = None
        self._document = b""
        self._fetched_s = 0.0
        self._attempted_s: float | None = None
        self._is_down = False
        self._flight: asyncio.Task[None] | None = None
        self.generation = 0
        """Counts the changes of the key set: what was proven under an older one must be proven again."""

    def current(self) -> Keys | None:
        """The keys to use now, or None: a fetch is needed, or, when `can_fetch` is false, there are none to be had."""
        age_s = self._clock.monotonic_s() - self._fetched_s
        if self._keys is None or age_s >= STALE_S or (age_s >= FRESH_S and not self._is_down):
            return None
        if age_s >= FRESH_S and self.can_fetch():
            self._take_off()
        return self._keys

    def can_fetch(self) -> bool:
        """False for RETRY_S after a failed fetch."""
        return not self._is_down or self._since_attempt_s() >= RETRY_S

    def can_refetch(self) -> bool:
        """Whether a key id that is not in the set is worth a question."""
        return self._since_attempt_s() >= REFETCH_S

    @property
    def is_down(self) -> bool:
        """Whether the last fetch failed."""
        return self._is_down

    async def fetch(self) -> None:
        """Fetch once, however many ask at the same time. Never raises for an outage: look at `current` afterwards."""
        await asyncio.shield(self._take_off())

    async def close(self) -> None:
        flight = self._flight
        if flight is not None:
            flight.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flight

    def _since_attempt_s(self) -> float:
        return float("inf") if self._attempted_s is None else self._clock.monotonic_s() - self._attempted_s

    def _take_off(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._flight = asyncio.create_task(self._fly())
            self._flight.add_done_callback(self._land)
        return self._flight

    def _land(self, _flight: asyncio.Task[None]) -> None:
        self._flight = None

    async def _fly(self) -> None:
        self._attempted_s = self._clock.monotonic_s()
        try:
            document = await self._download()
            keys = self._parse(document)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, _Unusable, ValueError) as error:
            self._is_down = True
            detail = str(error) if isinstance(error, _Unusable | ValueError) else ""
            _log.warning("identity.keys_failed", url=self._url, error=type(error).__name__, detail=detail)
            return
        self._attempted_s = self._fetched_s = self._clock.monotonic_s()
        self._is_down = False
        self._keys = keys
        if document != self._document:
            self._document = document
            self.generation += 1
            _log.info("identity.keys_loaded", url=self._url, generation=self.generation)

    async def _download(self) -> bytes:
        """The document: status 200, plain or gzip, not redirected, at most MAX_BYTES, within the time-out."""
        wanted = {"accept": "application/json", "accept-encoding": "identity"}
        async with (
            asyncio.timeout(self._timeout_s),
            self._http.stream("GET", self._url, headers=wanted, follow_redirects=False) as response,
        ):
            if response.status_code != 200:
                raise _Unusable(f"status {response.status_code}")
            coding = response.headers.get("content-encoding", "identity").strip().lower()
            if coding not in ("identity", "gzip", "x-gzip"):
                raise _Unusable("compressed")
            document = bytearray()
            async for chunk in response.aiter_raw():
                document += chunk
                if len(document) > MAX_BYTES:
                    raise _Unusable(f"larger than {MAX_BYTES} bytes")
            return bytes(document) if coding == "identity" else _unzipped(document)


def _unzipped(document: bytearray) -> bytes:
    """Some servers send gzip whatever is asked for. httpx would unpack without a bound."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unzip.decompress(document, MAX_BYTES + 1)
    except zlib.error as error:
        raise _Unusable("no gzip") from error
    if len(plain) > MAX_BYTES:
        raise _Unusable(f"larger than {MAX_BYTES} bytes")
    if not unzip.eof or unzip.unused_data:
        raise _Unusable("cut gzip")
    return plain
