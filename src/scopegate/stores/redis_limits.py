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
from scopegate.limits.window import Amendment, Quota, Spent, Window, WindowState
from scopegate.stores.redis_link import Link, Outage, bulk, outage, pack

_CACHED_QUOTAS = 1024
_ONE = bulk(b"1")


class _Script:
    """A script as the server knows it, once it is loaded."""

    __slots__ = ("is_loading", "load", "sha")

    def __init__(self, name: str) -> None:
        folder = files("scopegate.stores")
        text = folder.joinpath("window.lua").read_bytes() + folder.joinpath(name).read_bytes()
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self.load = pack(b"SCRIPT", b"LOAD", text)
        self.is_loading = False

    def head(self, arguments: int, keys: int) -> bytes:
        """How a call begins that goes on with so many keys and other arguments."""
        count = b"%d" % keys
        return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n" % (
            3 + keys + arguments,
            self.sha,
            len(count),
            count,
        )


class RedisLimits:
    """`LimitStore` on a Redis or Valkey server (7.0 or newer).

    Every answer is a future, which raises StoreUnavailable within `timeout_s` at worst (twice that when a connection
    has to be made first), and at once while the server is known to be down. `clock` replaces Redis' time in tests.
    Raises ConfigError for a URL that is none.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.25, clock: Clock | None = None) -> None:
        self._spending, self._amending = _Script("limits.lua"), _Script("amend.lua")
        self._one = self._spending.head(arguments=5, keys=1)
        self._link = Link(url, timeout_s=timeout_s, setup=(self._spending.load, self._amending.load))
        self._clock = clock
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

    def amend(self, changes: Sequence[Amendment]) -> None:
        """See `LimitStore.amend`."""
        if not changes:
            return
        keys = [_key(change.window) for change in changes]
        head = self._amending.head(arguments=1 + 6 * len(keys), keys=len(keys))
        counts = [self._arguments(change.window.quota) + bulk(b"%d" % change.more) for change in changes]
        times = [bulk(b"%d" % change.at_us) + bulk(b"%d" % change.full_us) for change in changes]
        command = b"".join((head, *keys, self._now(), *counts, *times))
        self._link.send(command, _Amended(self, command))

    async def close(self) -> None:
        await self._link.close()

    def _now(self) -> bytes:
        return b"$0\r\n\r\n" if self._clock is None else bulk(b"%d" % round(self._clock.monotonic_s() * 1e6))

    def _command(self, windows: Sequence[Window]) -> bytes:
        if len(windows) == 1:
            window = windows[0]
            cost = _ONE if window.cost == 1 else bulk(b"%d" % window.cost)
            return b"%b%b%b%b%b" % (self._one, _key(window), self._now(), self._arguments(window.quota), cost)
        keys = [_key(window) for window in windows]
        assert len(set(keys)) == len(keys), "a request names each window once"
        head = self._spending.head(arguments=1 + 4 * len(keys), keys=len(keys))
        counts = [self._arguments(window.quota) + bulk(b"%d" % window.cost) for window in windows]
        return b"".join((head, *keys, self._now(), *counts))

    def _arguments(self, quota: Quota) -> bytes:
        """The quota's three, as they go over the wire."""
        known = self._quotas.get(id(quota))
        if known is None:
            known = self._learn(quota)
        return known[1]

    def _learn(self, quota: Quota) -> tuple[Quota, bytes]:
        if len(self._quotas) >= _CACHED_QUOTAS:
            self._quotas.clear()
        arguments = b"".join([bulk(b"%d" % each) for each in (quota.limit, quota.span_ms * 1000, quota.burst)])
        known = self._quotas[id(quota)] = (quota, arguments)
        return known

    def again(self, waiter: _Check | _Amended) -> None:
        """Called by who met NOSCRIPT: the server restarted or was flushed. One load serves all of them."""
        script = self._spending if isinstance(waiter, _Check) else self._amending
        if not script.is_loading:
            script.is_loading = True
            self._link.send(script.load, _Load(script))
        self._link.send(waiter.command, waiter)

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


class _Amended:
    """A change that nobody waits for: it is tried again where the script was lost, and else told to nobody."""

    __slots__ = ("_limits", "_tried", "command")

    def __init__(self, limits: RedisLimits, command: bytes) -> None:
        self._limits = limits
        self._tried = False
        self.command = command

    def answered(self, reply: object) -> None:
        if not isinstance(reply, ReplyError):
            return
        if str(reply).startswith("NOSCRIPT") and not self._tried:
            self._tried = True
            self._limits.again(self)
        else:
            self._limits.refused(outage(reply))

    def failed(self, outage: Outage) -> None:
        """The next check meets the same."""


class _Load:
    """A script's way back into the server. Its own failure shows in the calls behind it."""

    __slots__ = ("_script",)

    def __init__(self, script: _Script) -> None:
        self._script = script

    def answered(self, reply: object) -> None:
        self._script.is_loading = False

    def failed(self, outage: Outage) -> None:
        self._script.is_loading = False


def _key(window: Window) -> bytes:
    """As it goes over the wire."""
    key = b"scopegate:{w}:%b" % window.key.encode()
    return b"$%d\r\n%b\r\n" % (len(key), key)


def _spent(windows: Sequence[Window], reply: list[int]) -> Spent:
    retry_after_ms = reply[0]
    standings = tuple(map(WindowState, windows, reply[2::3], reply[3::3], reply[4::3]))
    return Spent(not retry_after_ms, standings, retry_after_ms, reply[1])
