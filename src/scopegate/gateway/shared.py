"""What the requests of one process share: the rules in force, time and ids, the access log, and what is counted of all
of them. Knows neither connections nor exchanges. Made by `app`, which replaces `rules` as a whole, never edits them."""

from __future__ import annotations

import asyncio
import os
import random
from email.utils import formatdate

from scopegate.clock import Clock
from scopegate.edge.traceparent import Traces
from scopegate.gateway.access import AccessLog
from scopegate.gateway.crowd import Crowd
from scopegate.gateway.held import Held
from scopegate.gateway.ruleset import Ruleset
from scopegate.gateway.streams import Streams

_HEX_PAIRS = [b"%02x" % number for number in range(256)]


class Shared:
    """One per process. `askers` are those whose requests are `in_flight`; `draining` once the process was asked to
    stop."""

    __slots__ = (
        "_clock",
        "_date",
        "_id_prefix",
        "_id_stem",
        "_ids",
        "access",
        "askers",
        "draining",
        "held",
        "in_flight",
        "loop",
        "rules",
        "streams",
        "traces",
    )

    def __init__(self, rules: Ruleset, clock: Clock) -> None:
        self.loop = asyncio.get_running_loop()
        self.rules = rules
        self.access = AccessLog(self.now_ms)
        self.askers = Crowd()
        self.streams = Streams()
        self.held = Held()
        self.in_flight = 0
        self.draining = False
        self.traces = Traces(random.Random(os.urandom(32)).getrandbits)  # noqa: S311 (they must differ, not be secret)
        self._clock = clock
        self._id_prefix = os.urandom(8).hex().encode()
        self._id_stem = b""
        self._ids = 0
        self._date = (0, b"")

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def now_s(self) -> float:
        return self._clock.now_ms() / 1000

    def next_request_id(self) -> bytes:
        """24 hex digits: 16 drawn at start, 8 counted."""
        number = self._ids = (self._ids + 1) & 0xFFFFFFFF
        last = number & 0xFF
        if not (last and self._id_stem):
            self._id_stem = b"%b%06x" % (self._id_prefix, number >> 8)
        return self._id_stem + _HEX_PAIRS[last]

    def http_date(self) -> bytes:
        second = int(self.now_s())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]
