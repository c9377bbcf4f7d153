"""An answer that is being fetched from the app for one visitor, and given to all others who want the same meanwhile.

One fill at a time for a key: the visitor who came first leads it (`filler`), the others follow. They get the answer as
it comes, each at the pace of its own client, or go on alone: when it turns out not to be for them, or is not there in
time. What they share is held once. Up to the largest size that may be kept nobody waits for a slow one among them;
beyond it all go at the pace of the slowest, as far as PACE_BYTES apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from scopegate.caching.cache_status import hit_lines
from scopegate.caching.reuse import may_stand_in
from scopegate.caching.said import Said
from scopegate.caching.storable import CacheRequest
from scopegate.caching.stored import Stored
from scopegate.caching.validation import is_not_modified
from scopegate.caching.vary import selecting
from scopegate.edge.framing import LAST_CHUNK, as_chunk
from scopegate.edge.headers import CHUNKED, UNTIL_EOF
from scopegate.edge.verdict import Refusal
from scopegate.gateway import giving
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.watcher import NOBODY_WATCHES, Watcher
from scopegate.metrics.labels import CacheOutcome

PACE_BYTES = 256 * 1024


class Came(Enum):
    """What a follower waited for: an answer that goes on, one that is here whole, or nothing for it."""

    STREAM = "stream"
    WHOLE = "whole"
    ALONE = "alone"


class Fill:
    """`stored` is what will be kept of the answer, without its body, once its head is here. `is_spoilt`: it will not
    be kept, for it was too large, or what it says was changed meanwhile. `pace` pauses the app's side, or lets it go
    on."""

    __slots__ = (
        "_base", "_chunks", "_followers", "_held", "is_ahead", "is_done", "is_kept", "is_leased", "is_spoilt", "key",
        "length", "max_bytes", "pace", "size", "stored", "url",
    )  # fmt: skip

    def __init__(self, key: bytes, url: bytes, max_bytes: int) -> None:
        self.key = key
        self.url = url
        self.max_bytes = max_bytes
        self.stored: Stored | None = None
        self.length = UNTIL_EOF
        self.size = 0
        self.is_done = False
        self.is_kept = True
        """Whether all of its body so far is held."""
        self.is_spoilt = False
        self.is_leased = False
        """Whether other gateways wait for it."""
        self.pace: Callable[[bool], None] = _unpaced
        self._chunks: list[bytes] = []
        self._base = 0
        """How many chunks before those are no longer held."""
        self._held = 0
        self.is_ahead = False
        """Whether the app is too far before the slowest."""
        self._followers: list[FillFollower] = []

    @property
    def has_followers(self) -> bool:
        return bool(self._followers)

    @property
    def may_be_joined(self) -> bool:
        return self.is_kept and not self.is_spoilt

    def join(self, follower: FillFollower) -> None:
        self._followers.append(follower)
        if self.stored is not None:
            self._tell(follower, self.stored, Came.STREAM)

    def leave(self, follower: FillFollower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)
            self.moved()

    def body(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    # ── what its leader tells ───────────────────────────────────────────────────────────────────────────────────────

    def begin(self, stored: Stored, length: int) -> None:
        """The head of an answer that may be kept is here."""
        self.stored, self.length = stored, length
        for follower in self._waiting():
            self._tell(follower, stored, Came.STREAM)

    def feed(self, payload: bytes, done: bool) -> None:
        """More of its body."""
        self.is_done = done
        if payload:
            self.size += len(payload)
            self._held += len(payload)
            self._chunks.append(payload)
        if self.size > self.max_bytes:
            self.is_kept = False
            self.is_spoilt = True
        for follower in list(self._followers):
            follower.catch_up()
        self.moved()

    def settle(self, stored: Stored) -> None:
        """The answer is one that is here whole."""
        for follower in self._waiting():
            self._tell(follower, stored, Came.WHOLE)

    def release(self) -> None:
        """It is for nobody else."""
        for follower in self._waiting():
            follower.came(Came.ALONE, None)

    def fail(self, refusal: Refusal) -> None:
        """There is no answer, nor will there be one for the others now."""
        for follower in self._waiting():
            follower.failed(refusal)

    def cut(self, note: str) -> None:
        """The answer ended before its end."""
        self.is_spoilt = True
        for follower in list(self._followers):
            follower.cut(note)

    @staticmethod
    def _tell(follower: FillFollower, stored: Stored, what: Came) -> None:
        follower.came(what if follower.may_have(stored) else Came.ALONE, stored)

    def _waiting(self) -> list[FillFollower]:
        return [follower for follower in self._followers if follower.is_waiting]

    # ── pace ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def chunk(self, at: int) -> bytes | None:
        """The chunk of this number, counted from the first of the body; None where it has not come."""
        place = at - self._base
        return self._chunks[place] if place < len(self._chunks) else None

    def moved(self) -> None:
        """Somebody took a piece, or left: what nobody needs any more is let go."""
        if self.is_kept:
            return
        last = self._base + len(self._chunks)
        needed = min((follower.at for follower in self._followers), default=last)
        if needed > self._base:
            self._held -= sum(map(len, self._chunks[: needed - self._base]))
            del self._chunks[: needed - self._base]
            self._base = needed
        if (self._held > PACE_BYTES) != self.is_ahead:
            self.is_ahead = not self.is_ahead
            self.pace(self.is_ahead)


def _unpaced(paused: bool) -> None:
    """Nobody has said how."""


class FillFollower(Watcher):
    """A visitor who waits for another's answer. `alone` goes on without it. `kept` is a stale answer, for when the app
    fails. `at` is how many of the fill's chunks were given."""

    def __init__(
        self, x: Exchange, fill: Fill, asked: CacheRequest, kept: Stored | None, alone: Callable[[], Outcome]
    ) -> None:
        self._x = x
        self._fill = fill
        self._asked = asked
        self._kept = kept
        self._alone = alone
        self._future: asyncio.Future[tuple[Came, Stored | None]] = x.shared.loop.create_future()
        self._is_paused = False
        self._is_streaming = False
        self._framing = 0
        self.is_waiting = True
        self.at = 0

    def begin(self, wait_s: float) -> Pending:
        self._x.watcher = self
        self._x.client.wait_until(wait_s)
        self._fill.join(self)
        return Pending(self._future, self._go_on)

    def may_have(self, stored: Stored) -> bool:
        """Whether this answer is one for this visitor, too."""
        asked, freshness = self._asked, stored.freshness
        if asked.is_personal or freshness.must_ask or (stored.is_implicit and not asked.is_covered):
            return False
        now_s = self._x.shared.now_s()
        is_usable = stored.left_s(now_s) > 0 or freshness.while_revalidate_s > 0 or may_stand_in(stored, now_s)
        return is_usable and selecting(stored.vary, self._said) == stored.selected

    @property
    def _said(self) -> Said:
        return self._asked.said

    # ── what the fill tells ─────────────────────────────────────────────────────────────────────────────────────────

    def came(self, what: Came, stored: Stored | None) -> None:
        self.is_waiting = False
        if not self._future.done():
            self._future.set_result((what, stored))
        if what is not Came.STREAM:
            self._fill.leave(self)

    def failed(self, refusal: Refusal) -> None:
        kept = self._kept
        if kept is not None and may_stand_in(kept, self._x.shared.now_s()):
            self.came(Came.WHOLE, kept)
            return
        self.is_waiting = False
        self._fill.leave(self)
        self._x.shared.loop.call_soon(self._x.refuse, refusal)

    def cut(self, note: str) -> None:
        if self._is_streaming:
            self._x.break_off(note)
        elif self.is_waiting:
            self.came(Came.ALONE, None)  # else it finds out by itself

    def _go_on(self, x: Exchange, future: asyncio.Future[tuple[Came, Stored | None]]) -> Outcome:
        what, stored = future.result()
        is_lost = what is Came.STREAM and self._fill.chunk(0) is None and (self._fill.is_spoilt or self._fill.size > 0)
        if what is Came.ALONE or stored is None or is_lost:
            self._fill.leave(self)
            x.watcher = NOBODY_WATCHES
            return self._alone()
        if what is Came.WHOLE:
            x.watcher = NOBODY_WATCHES
            giving.give(x, self._said, stored, CacheOutcome.COLLAPSED)
        else:
            self._send_head(x, stored)
        return None

    # ── the answer, as it comes ─────────────────────────────────────────────────────────────────────────────────────

    def _send_head(self, x: Exchange, stored: Stored) -> None:
        now_s = x.shared.now_s()
        lines = hit_lines(stored, now_s, collapsed=True)
        giving.note(x, CacheOutcome.COLLAPSED)
        if is_not_modified(stored, self._said, now_s):
            self._fill.leave(self)
            x.watcher = NOBODY_WATCHES
            giving.give_not_modified(x, stored, lines)
            return
        length = self._fill.length
        if length < 0:
            length = CHUNKED if x.head.version == "1.1" else UNTIL_EOF
            x.keep_alive = x.keep_alive and length == CHUNKED
        self._framing = length
        self._is_streaming = True
        giving.begin(x, stored, length, lines)
        self.catch_up()

    def catch_up(self) -> None:
        """Everything that is there and was not given yet."""
        x, fill = self._x, self._fill
        if not self._is_streaming:
            return
        while not (self._is_paused or x.finished):
            chunk = fill.chunk(self.at)
            if chunk is None:
                if fill.is_done:
                    self._end()
                return
            self.at += 1
            x.bytes_out += len(chunk)
            x.client.wait_until(x.plan.idle_s)
            x.client.write(as_chunk(chunk) if self._framing == CHUNKED else chunk)

    def _end(self) -> None:
        if self._framing == CHUNKED:
            self._x.client.write(LAST_CHUNK)
        self._x.finish()

    # ── what the exchange tells ─────────────────────────────────────────────────────────────────────────────────────

    def on_client_paused(self, paused: bool) -> bool:
        self._is_paused = paused
        if not paused:
            self.catch_up()
            self._fill.moved()
        return False

    def on_deadline(self) -> bool:
        """The answer was not there in time: the visitor goes on alone."""
        if not self.is_waiting:
            return False
        self.came(Came.ALONE, None)
        return True

    def on_finish(self, seconds: float) -> float:
        self.is_waiting = False
        self._is_streaming = False
        self._fill.leave(self)
        return seconds
