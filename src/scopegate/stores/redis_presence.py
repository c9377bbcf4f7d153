"""This process among those that count in Redis: it says that it is alive, hears how many are, keeps the clock of all
going, and tells what it admitted while it counted alone.

Redis' data have a mark. When it is another than before, what was counted is lost (a restart without a file, a failover
to an empty server): what this process knows of it is put back first. So it is when Redis' clock was set so far ahead
that keys may have ended. Made and asked by `redis_limits`.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from typing import cast

from scopegate.clock import Clock
from scopegate.stores.mirror import Admissions, Mirror
from scopegate.stores.redis_link import Ask, bulk, pack
from scopegate.stores.redis_script import Script

BEAT_S = 1.0

_LIVE = files("scopegate.stores").joinpath("live.lua").read_bytes()
_BATCH = 500  # admissions told at once: a millisecond of Redis' time
_REMEMBERED = 6  # beats: one more than a process counts as alive without one


class Presence:
    """`role` is what this process counts as: only gateways share the windows of gateways."""

    def __init__(self, mirror: Mirror | None, clock: Clock, now: Callable[[], bytes], role: str) -> None:
        """`now`: what scripts are told for the time, as it goes over the wire; an empty word outside tests."""
        self._mirror = mirror
        self._monotonic_s = clock.monotonic_s
        self._now = now
        self._giving = Script("give.lua")
        self.load = self._giving.load
        self._keys = b"scopegate:{w}:live:" + role.encode(), b"scopegate:{w}:clock"
        self._name = secrets.token_hex(8).encode()
        self._mark = b""
        self._leaps = 0
        self.misses_data = False
        """Whether the server may have lost what is known here: `come` again."""
        self._counts: deque[int] = deque(maxlen=_REMEMBERED)
        self._sent_s: float | None = None
        self._beaten_s: float | None = None

    async def come(self, ask: Ask) -> None:
        """On a new connection, before anything is counted there. Raises what `ask` does; nothing is forgotten then."""
        known = self._mark
        self.heard(await ask(self.beat()))
        mirror = self._mirror
        if mirror is None:
            return
        if self.misses_data or (known and known != self._mark):
            self.misses_data = True  # until all of it is told
            for batch in _batches(mirror.known()):
                await ask(self._give(b"keep", batch))
            self.misses_data = False
        while debts := mirror.take_debts(_BATCH):
            try:
                await ask(self._give(b"add", mirror.admitted(debts)))
            except BaseException:
                mirror.put_back(debts)
                raise

    def beat(self) -> bytes:
        """The command that says that this process is alive."""
        now_s = self._monotonic_s()
        since = b"" if self._beaten_s is None else b"%.0f" % ((now_s - self._beaten_s) * 1e6)
        self._sent_s = now_s
        return pack(b"EVAL", _LIVE, b"2", *self._keys, self._name, secrets.token_hex(8).encode(), since)

    def heard(self, reply: object) -> None:
        """The answer to the beat. Fewer gateways are believed when some beats have said so: after an outage they come
        back one by one."""
        count, mark, leaps = cast("tuple[int, bytes, int]", reply)
        self._beaten_s = self._sent_s
        if mark == self._mark and leaps != self._leaps and self._mirror is not None:
            self.misses_data = True
        self._mark, self._leaps = mark, leaps
        self._counts.append(count)
        if self._mirror is not None:
            more = self._mirror.gateways if len(self._counts) < _REMEMBERED else 1
            self._mirror.gateways = max(more, *self._counts)

    def _give(self, way: bytes, told: Sequence[Admissions]) -> bytes:
        words = []
        for one in told:
            numbers = (one.span_us, one.interval_us, len(one.ages_us), *one.ages_us)
            words += [bulk(way), *[bulk(b"%d" % number) for number in numbers]]
        keys = [bulk(b"scopegate:{w}:%b" % one.key.encode()) for one in told]
        return b"".join((self._giving.head(arguments=1 + len(words), keys=len(keys)), *keys, self._now(), *words))


def _batches(admissions: Iterable[Admissions]) -> Iterator[list[Admissions]]:
    batch: list[Admissions] = []
    count = 0
    for one in admissions:
        batch.append(one)
        count += len(one.ages_us)
        if count >= _BATCH:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch
