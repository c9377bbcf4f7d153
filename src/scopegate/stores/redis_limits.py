"""Limits shared by all gateways: exact windows in Redis, decided by one script on Redis' own clock.

All windows of a request are one EVALSHA; all requests of one turn of the event loop are one write. Keys are
`scopegate:{w}:` and the window's own, each with a time to live. The part in braces is what a cluster hashes: all
windows stand together, so that those of several tiers and keys are one atomic step. Made by `wiring`, called by the
gateway's limiter.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import cast

from hiredis import ReplyError

from scopegate.clock import Clock
from scopegate.limits.window import Quota, Spent, Window, WindowState
from scopegate.stores.redis_link import Link, Outage, bulk, outage, pack

_SCRIPT = files("scopegate.stores").joinpath("limits.lua").read_bytes()
_SHA = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()
_LOAD = pack(b"SCRIPT", b"LOAD", _SCRIPT)
_CACHED_QUOTAS = 1024


class RedisLimits:
    """`LimitStore` on a Redis or Valkey server (7.0 or newer).

    Every answer is a future, which raises StoreUnavailable within `timeout_s` at worst (twice that when a connection
    has to be made first), and at once while the server is known to be down. `clock` replaces Redis' time in tests.
    Raises ConfigError for a URL that is none.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.25, clock: Clock | None = None) -> None:
        self._link = Link(url, timeout_s=timeout_s, setup=(_LOAD,))
        self._clock = clock
        self._loading = False
        self._quotas: dict[int, tuple[Quota, bytes]] = {}

    def spend(self, windows: Sequence[Window]) -> asyncio.Future[Spent]:
        """See `LimitStore.spend`."""
        future: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
        if windows:
            command = self._command(windows)
            self._link.send(command, _Check(self, future, windows, command))
        else:
            future.set_result(Spent(True, ()))
        return future

    async def close(self) -> None:
        await self._link.close()

    def _command(self, windows: Sequence[Window]) -> bytes:
        now = b"$0\r\n\r\n" if self._clock is None else bulk(b"%d" % round(self._clock.monotonic_s() * 1e6))
        if len(windows) == 1:
            key, quota = self._words(windows[0])
            return b"*8\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n%b%b%b" % (_SHA, key, now, quota)
        words = [self._words(window) for window in windows]
        keys, quotas = [key for key, _ in words], [quota for _, quota in words]
        assert len(set(keys)) == len(keys), "a request names each window once"
        head = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (4 + 4 * len(words), _SHA, bulk(b"%d" % len(words)))
        return b"".join((head, *keys, now, *quotas))

    def _words(self, window: Window) -> tuple[bytes, bytes]:
        """The window's key and its three arguments, as they go over the wire."""
        quota = window.quota
        known = self._quotas.get(id(quota))
        if known is None:
            known = self._learn(quota)
        key = b"scopegate:{w}:%b" % window.key.encode()
        return b"$%d\r\n%b\r\n" % (len(key), key), known[1]

    def _learn(self, quota: Quota) -> tuple[Quota, bytes]:
        if len(self._quotas) >= _CACHED_QUOTAS:
            self._quotas.clear()
        arguments = b"".join([bulk(b"%d" % each) for each in (quota.limit, quota.span_ms * 1000, quota.burst)])
        known = self._quotas[id(quota)] = (quota, arguments)
        return known

    def again(self, check: _Check) -> None:
        """Called by a check that met NOSCRIPT: the server restarted or was flushed. One load serves all of them."""
        if not self._loading:
            self._loading = True
            self._link.send(_LOAD, _Load(self))
        self._link.send(check.command, check)

    def loaded(self) -> None:
        self._loading = False

    def refused(self, outage: Outage) -> None:
        """Called by a check that met an error answer."""
        if outage.kind == "readonly":
            self._link.renew()


class _Check:
    """One request's windows, waiting for their verdict."""

    __slots__ = ("_future", "_limits", "_tried", "_windows", "command")

    def __init__(
        self, limits: RedisLimits, future: asyncio.Future[Spent], windows: Sequence[Window], command: bytes
    ) -> None:
        self._limits = limits
        self._future = future
        self._windows = windows
        self._tried = False
        self.command = command

    def answered(self, reply: object) -> None:
        if isinstance(reply, ReplyError):
            self._error(reply)
        elif not self._future.done():
            self._future.set_result(_spent(self._windows, cast("list[int]", reply)))

    def _error(self, reply: ReplyError) -> None:
        if str(reply).startswith("NOSCRIPT") and not self._tried:
            self._tried = True
            self._limits.again(self)
            return
        fault = outage(reply)
        self.failed(fault)
        self._limits.refused(fault)

    def failed(self, outage: Outage) -> None:
        if not self._future.done():
            self._future.set_exception(outage.error())


class _Load:
    """The script's way back into the server. Its own failure shows in the checks behind it."""

    def __init__(self, limits: RedisLimits) -> None:
        self._limits = limits

    def answered(self, reply: object) -> None:
        self._limits.loaded()

    def failed(self, outage: Outage) -> None:
        self._limits.loaded()


def _spent(windows: Sequence[Window], reply: list[int]) -> Spent:
    retry_after_ms = reply[0]
    standings = tuple(map(WindowState, windows, reply[1::3], reply[2::3], reply[3::3]))
    return Spent(not retry_after_ms, standings, retry_after_ms)
