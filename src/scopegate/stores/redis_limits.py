"""Limits shared by all gateways: exact windows in Redis, decided by one script on Redis' own clock.

All windows of a request are one EVALSHA; all requests of one turn of the event loop are one write. Keys are
`scopegate:{w}:` and the window's own, each with a time to live. The part in braces is what a cluster hashes: all
windows stand together, so that those of several tiers and keys are one atomic step. Made by `wiring`, called by the
gateway's limiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from hiredis import ReplyError

from scopegate.clock import Clock, SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.limits.barriers import LEASE_MS, SEAT_WAIT_MS, Ban, Barrier, Seats
from scopegate.limits.window import Amendment, Quota, Spent, Window, WindowState
from scopegate.stores.mirror import Mirror
from scopegate.stores.redis_link import Ask, Link, Outage, bulk, outage, pack
from scopegate.stores.redis_presence import BEAT_S, Presence
from scopegate.stores.redis_script import Script
from scopegate.stores.refusals import HearsRefusal

_CACHED_QUOTAS = 1024
_RENEW_AFTER = 0.3  # of a lease: two renewals may be lost
_RENEWED_AT_ONCE = 200
_ONE = bulk(b"1")
_make = tuple.__new__  # what a named tuple's constructor calls, without the Python frame around it
_NONE = bulk(b"0")
_ONE_WINDOW = _ONE + _NONE
_HOLD, _TAKE = bulk(b"hold"), bulk(b"take")
_LEASE = bulk(b"%d" % (LEASE_MS * 1000))
_SEAT_WAIT = bulk(b"%d" % (SEAT_WAIT_MS * 1000))


class RedisLimits:
    """`LimitStore` on a Redis or Valkey server (7.0 or newer).

    Every answer is a future, which raises StoreUnavailable within `timeout_s`, and at once while the server is known to
    be down. `mirror` counts meanwhile, and what it admits is told here before the next command. `clock` replaces
    Redis' time in tests. Raises ConfigError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.04,
        mirror: Mirror | None = None,
        role: str = "gateway",
        clock: Clock | None = None,
    ) -> None:
        self._spending, self._amending, self._renewing = Script("limits.lua"), Script("amend.lua"), Script("renew.lua")
        self._one = self._spending.head(arguments=7, keys=1)
        self._clock = clock
        self._presence = Presence(mirror, clock or SystemClock(), self._now, role)
        setup = (self._spending.load, self._amending.load, self._renewing.load, self._presence.load)
        self._link = Link(url, timeout_s=timeout_s, setup=setup)
        self._beating: asyncio.TimerHandle | None = None
        self._mirror = mirror
        self._seated: dict[str, str] = {}
        """The keys of seats that may be taken, by their holders."""
        self._renewal: asyncio.TimerHandle | None = None
        self._quotas: dict[int, tuple[Quota, bytes]] = {}
        self._monotonic_s = (clock or SystemClock()).monotonic_s
        self.refused_one: HearsRefusal = _nothing
        self.listen(_nobody)

    def tell(self, refused: HearsRefusal) -> None:
        """See `TellsRefusals.tell`."""
        self.refused_one = refused

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        """See `LimitStore.listen`."""
        self._link.tell(self._come, lambda outage: told(None if outage is None else outage.error()))

    async def open(self) -> None:
        """See `LimitStore.open`."""
        self._keep_beating()
        await self._link.open()

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> asyncio.Future[Spent]:
        """See `LimitStore.spend`."""
        future: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
        if windows or barriers:
            command = self._barred_command(windows, barriers) if barriers else self._command(windows)
            self._link.send(command, _Check(self, future, windows, barriers, self._monotonic_s(), command))
            if self._beating is None:
                self._keep_beating()
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
        self._link.send(command, _Told(self, self._amending, command))

    def leave(self, seats: Sequence[Seats]) -> None:
        """See `LimitStore.leave`. Whoever leaves before the answer to `spend` leaves after it in Redis."""
        for each in seats:
            if self._seated.pop(each.holder, None) is not None:
                command = pack(b"ZREM", _name(each.key), each.holder.encode())
                self._link.send(command, _Told(self, None, command))

    def _renew(self) -> None:
        """Hold on to the seats of requests that take longer."""
        self._renewal = None
        for command in self._leases(self._seated, _HOLD):
            self._link.send(command, _Told(self, self._renewing, command))
        self._keep_renewing()

    def _leases(self, seated: Mapping[str, str], way: bytes) -> Iterator[bytes]:
        """Commands for seats by their holders."""
        held = list(seated.items())
        for first in range(0, len(held), _RENEWED_AT_ONCE):
            some = held[first : first + _RENEWED_AT_ONCE]
            head = self._renewing.head(arguments=3 + len(some), keys=len(some))
            keys, holders = [bulk(_name(key)) for _, key in some], [bulk(holder.encode()) for holder, _ in some]
            yield b"".join((head, *keys, self._now(), _LEASE, way, *holders))

    async def _come(self, ask: Ask) -> None:
        """On a new connection: what is taken here is taken there again, also what was given while it was away."""
        await self._presence.come(ask)
        told: dict[str, str] = {}
        while news := self._seated_here().items() - told.items():
            told.update(news)
            self._seated.update(news)
            for command in self._leases(dict(news), _TAKE):
                await ask(command)
        self._keep_renewing()

    def _seated_here(self) -> dict[str, str]:
        return {} if self._mirror is None else {holder: key for key, holder in self._mirror.seats()}

    def _keep_renewing(self) -> None:
        if self._renewal is None and self._seated:
            self._renewal = asyncio.get_running_loop().call_later(LEASE_MS / 1000 * _RENEW_AFTER, self._renew)

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        if self._beating is not None:
            self._beating.cancel()
        await self._link.close()

    def _beat(self) -> None:
        self._link.send(self._presence.beat(), _Beat(self._presence, self))
        self._keep_beating()

    def _keep_beating(self) -> None:
        self._beating = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _now(self) -> bytes:
        return b"$0\r\n\r\n" if self._clock is None else bulk(b"%d" % round(self._clock.monotonic_s() * 1e6))

    def _command(self, windows: Sequence[Window]) -> bytes:
        if len(windows) == 1:
            window = windows[0]
            cost = _ONE if window.cost == 1 else bulk(b"%d" % window.cost)
            quota = self._arguments(window.quota)
            return b"%b%b%b%b%b%b" % (self._one, _key(window), self._now(), _ONE_WINDOW, quota, cost)
        keys = [_key(window) for window in windows]
        assert len(set(keys)) == len(keys), "a request names each window once"
        head = self._spending.head(arguments=3 + 4 * len(keys), keys=len(keys))
        return b"".join((head, *keys, self._now(), bulk(b"%d" % len(keys)), _NONE, *self._counts(windows)))

    def _barred_command(self, windows: Sequence[Window], barriers: Sequence[Barrier]) -> bytes:
        bans = [barrier for barrier in barriers if isinstance(barrier, Ban)]
        seats = [barrier for barrier in barriers if isinstance(barrier, Seats)]
        assert [*bans, *seats] == list(barriers), "bans come first"
        keys = [_key(window) for window in windows]
        keys += [_key(window) for ban in bans for window in (ban.strikes, ban.sentence)]
        keys += [bulk(_name(each.key)) for each in seats]
        assert len(set(keys)) == len(keys), "a request names each window once"
        self._seated.update({each.holder: each.key for each in seats})
        self._keep_renewing()
        head = self._spending.head(arguments=3 + 4 * len(windows) + 5 * len(bans) + 4 * len(seats), keys=len(keys))
        words = [bulk(b"%d" % len(windows)), bulk(b"%d" % len(bans)), *self._counts(windows)]
        return b"".join((head, *keys, self._now(), *words, *map(_ban_words, bans), *map(_seat_words, seats)))

    def _counts(self, windows: Sequence[Window]) -> list[bytes]:
        return [self._arguments(window.quota) + bulk(b"%d" % window.cost) for window in windows]

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

    def again(self, waiter: _Check | _Told) -> None:
        """Called by who met NOSCRIPT: the server restarted or was flushed. One load serves all of them."""
        script = self._spending if isinstance(waiter, _Check) else waiter.script
        assert script is not None, "no script was asked for"
        if not script.is_loading:
            script.is_loading = True
            self._link.send(script.load, _Load(script))
        self._link.send(waiter.command, waiter)

    def refused(self, outage: Outage) -> None:
        """Called by who met an error answer: this server cannot count."""
        self._link.leave(outage)


class _Check:
    """One request's windows, waiting for their verdict."""

    __slots__ = ("_asked_s", "_barriers", "_future", "_limits", "_tried", "_windows", "command")

    def __init__(
        self,
        limits: RedisLimits,
        future: asyncio.Future[Spent],
        windows: Sequence[Window],
        barriers: Sequence[Barrier],
        asked_s: float,
        command: bytes,
    ) -> None:
        self._limits = limits
        self._future = future
        self._windows = windows
        self._barriers = barriers
        self._asked_s = asked_s
        self._tried = False
        self.command = command

    def answered(self, reply: object) -> None:
        if isinstance(reply, ReplyError):
            self._error(reply)
        elif not self._future.done():
            spent = _spent(self._windows, cast("list[int]", reply))
            if not spent.admitted:
                self._limits.refused_one(spent, self._windows, self._barriers, self._asked_s)
            self._future.set_result(spent)

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


class _Told:
    """A command that nobody waits for: it is tried again where its script was lost, and else told to nobody."""

    __slots__ = ("_limits", "_tried", "command", "script")

    def __init__(self, limits: RedisLimits, script: Script | None, command: bytes) -> None:
        self._limits = limits
        self._tried = False
        self.script = script
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


class _Beat:
    """A beat's answer. None in time ends the connection, as that of any command."""

    __slots__ = ("_limits", "_presence")

    def __init__(self, presence: Presence, limits: RedisLimits) -> None:
        self._presence = presence
        self._limits = limits

    def answered(self, reply: object) -> None:
        if isinstance(reply, ReplyError):
            self._limits.refused(outage(reply))
        else:
            self._presence.heard(reply)
            if self._presence.misses_data:
                self._limits.refused(Outage("other", "its clock was set ahead: what it lost is put back"))

    def failed(self, outage: Outage) -> None:
        """The next one is a second later, on another connection."""


def _nothing(spent: Spent, windows: Sequence[Window], barriers: Sequence[Barrier], asked_s: float) -> None:
    """Nobody remembers."""


def _nobody(error: StoreUnavailable | None) -> None:
    """Nobody listens."""


class _Load:
    """A script's way back into the server. Its own failure shows in the calls behind it."""

    __slots__ = ("_script",)

    def __init__(self, script: Script) -> None:
        self._script = script

    def answered(self, reply: object) -> None:
        self._script.is_loading = False

    def failed(self, outage: Outage) -> None:
        self._script.is_loading = False


def _name(key: str) -> bytes:
    return b"scopegate:{w}:%b" % key.encode()


def _key(window: Window) -> bytes:
    """As it goes over the wire."""
    key = _name(window.key)
    return b"$%d\r\n%b\r\n" % (len(key), key)


def _ban_words(ban: Ban) -> bytes:
    strikes, sentence = ban.strikes.quota, ban.sentence.quota
    within_us, for_us = strikes.span_ms * 1000, sentence.span_ms * 1000
    words = (strikes.limit, within_us, for_us, ban.first + 1, ban.first + ban.count)
    return b"".join([bulk(b"%d" % word) for word in words])


def _seat_words(seats: Seats) -> bytes:
    return b"%b%b%b%b" % (bulk(b"%d" % seats.most), _LEASE, _SEAT_WAIT, bulk(seats.holder.encode()))


def _spent(windows: Sequence[Window], reply: list[int]) -> Spent:
    retry_after_ms = reply[0]
    if len(windows) == 1:  # the usual case, unrolled: this runs for every request
        standing = _make(WindowState, (windows[0], reply[2], reply[3], reply[4]))
        return _make(Spent, (not retry_after_ms, (standing,), retry_after_ms, reply[1], False, tuple(reply[5:])))
    end = 2 + 3 * len(windows)
    standings = tuple(map(WindowState, windows, reply[2:end:3], reply[3:end:3], reply[4:end:3]))
    return Spent(not retry_after_ms, standings, retry_after_ms, reply[1], False, tuple(reply[end:]))
