"""Who watches the app's answer for the cache: what of it is kept, who else gets it, and what stands in for it.

One for each request that a route with `cache` sends to the app. Its `fill` may have followers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from scopegate.caching.cache_status import Fwd, asked_lines
from scopegate.caching.freshness import initial_age_s
from scopegate.caching.reuse import is_failure, may_stand_in
from scopegate.caching.said import said_of, values_of
from scopegate.caching.storable import CacheRequest, Unstorable, judge
from scopegate.caching.stored import Stored
from scopegate.caching.update import is_about, updated
from scopegate.caching.validation import is_not_modified
from scopegate.edge.headers import UNTIL_EOF, Noted
from scopegate.errors import UpstreamError
from scopegate.gateway import giving
from scopegate.gateway.exchange import Exchange
from scopegate.gateway.fill import Fill
from scopegate.gateway.forwarding import refusal_for
from scopegate.gateway.watcher import AppSide, Watcher
from scopegate.metrics.labels import CacheOutcome
from scopegate.policy.policy import CacheRule


class Keeper(Protocol):
    """Where answers are kept. `caching.Cache` is the one that serves."""

    def keep(self, fill: Fill, stored: Stored) -> None: ...

    def drop(self, key: bytes, stored: Stored) -> None: ...

    def shun(self, key: bytes) -> None:
        """Its answers are for nobody else, for a while."""
        ...

    def rest(self, key: bytes) -> None:
        """The app failed: it is not asked again at once, where something stands in."""
        ...

    def done(self, fill: Fill) -> None:
        """Nobody may follow it any more."""
        ...

    def ask_again(self, x: Exchange) -> None:
        """The app, without the validators of the answer that is kept."""
        ...


class Filler(Watcher):
    """`kept` is the stored answer that the app is asked about, or that stands in for it; `asks`: the request carries
    its validators. `may_keep`: the answer is looked at for keeping. `leads`: others may wait for it."""

    def __init__(
        self,
        keeper: Keeper,
        x: Exchange,
        rule: CacheRule,
        asked: CacheRequest,
        fill: Fill,
        fwd: Fwd,
        *,
        kept: Stored | None = None,
        asks: bool = False,
        may_keep: bool = True,
        leads: bool = False,
    ) -> None:
        self._keeper = keeper
        self._x = x
        self._rule = rule
        self._asked = asked
        self._fill = fill
        self._fwd = fwd
        self._kept = kept
        self._asks = asks
        self._may_keep = may_keep
        self._leads = leads
        self._stored: Stored | None = None
        """What will be kept, once its body is here."""
        self._gets_304 = False
        self._is_paused = False
        self._is_gone = False
        self._lines = b""

    # ── the answer's head ───────────────────────────────────────────────────────────────────────────────────────────

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        kept = self._kept
        now_s = self._x.shared.now_s()
        if self._asks and kept is not None and status == 304:
            self._confirmed(kept, notes, now_s)
        elif kept is not None and is_failure(status) and may_stand_in(kept, now_s):
            if not done:
                app.drop()
            self._stand_in(kept, status, now_s)
        else:
            self._pass_on(app, status, notes, payload, done, now_s)
        return False

    def _pass_on(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool, now_s: float) -> None:
        """To the visitor, and where that may be to all others."""
        x = self._x
        found = self._judge(status, notes, len(payload) if done else notes.length, now_s)
        giving.note(x, CacheOutcome.MISS if self._may_keep else CacheOutcome.BYPASS)
        if isinstance(found, Unstorable):
            if self._may_keep:
                x.met.tally.unstorable(found.value)
                if self._leads:
                    self._keeper.shun(self._fill.key)
            self._end()
            age_s = _age_s(notes, self._asked, now_s)
            app.send_answer(status, _with(notes, asked_lines(self._fwd, age_s=age_s)), payload, done)
            return
        self._stored = found
        self._fill.pace = self._pace
        self._fill.begin(found, len(payload) if done else notes.length)
        age_s = None if values_of(said_of(notes.passed), b"age") else found.age_s(now_s)
        self._lines = asked_lines(self._fwd, age_s=age_s, stored=True, ttl_s=found.left_s(now_s))
        if done:
            self._fill.feed(payload, True)
            self._keep()
        self._gets_304 = is_not_modified(found, self._asked.said, now_s)
        if not self._gets_304:
            app.send_answer(status, _with(notes, self._lines), payload, done)
        elif done:
            giving.give_not_modified(x, found, self._lines)
        else:
            self.on_answer_body(payload, False)

    def _judge(self, status: int, notes: Noted, length: int, now_s: float) -> Stored | Unstorable:
        if not self._may_keep:
            return Unstorable.METHOD
        if notes.length == UNTIL_EOF:
            return Unstorable.LENGTH  # its end cannot be told from a cut
        return judge(self._asked, status, notes, length, self._rule, now_s, self._x.shared.http_date())

    def _confirmed(self, kept: Stored, notes: Noted, now_s: float) -> None:
        """The app says that the stored answer is still the one."""
        x, key = self._x, self._fill.key
        if not is_about(kept, notes):
            self._keeper.drop(key, kept)
            self._kept, self._asks = None, False
            self._keeper.ask_again(x)
            return
        stored, reason = updated(kept, self._asked, notes, self._rule, now_s, x.shared.http_date())
        if reason is None and not self._fill.is_spoilt:
            self._keeper.keep(self._fill, stored)
            self._fill.settle(stored)
        else:
            self._keeper.drop(key, kept)
        self._end()
        is_kept = reason is None
        lines = asked_lines(
            self._fwd, age_s=stored.age_s(now_s), status=304, stored=is_kept, ttl_s=stored.left_s(now_s)
        )
        giving.give(x, self._asked.said, stored, CacheOutcome.REVALIDATED, lines)

    def _stand_in(self, kept: Stored, status: int, now_s: float) -> None:
        """The app failed, and what is kept may be given still."""
        self._keeper.rest(self._fill.key)
        self._fill.settle(kept)
        self._end()
        lines = asked_lines(self._fwd, age_s=kept.age_s(now_s), status=status, detail="stale-if-error")
        giving.give(self._x, self._asked.said, kept, CacheOutcome.STALE, lines)

    # ── its body ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_answer_body(self, payload: bytes, done: bool) -> bool:
        if self._stored is None:
            return True
        fill = self._fill
        fill.feed(payload, done)
        if done:
            self._keep()
        elif fill.is_kept or fill.has_followers:
            self._set_pace()
        elif self._is_gone:
            self._x.break_off("client_gone")
            return False
        else:
            self._set_pace()
        if self._gets_304 and (done or not (fill.is_kept or fill.has_followers)):
            giving.give_not_modified(self._x, self._stored, self._lines)
        return not (self._gets_304 or self._x.finished)

    def _keep(self) -> None:
        stored, fill = self._stored, self._fill
        assert stored is not None
        if not fill.is_spoilt:
            stored.body = fill.body()
            self._keeper.keep(fill, stored)
        self._keeper.done(fill)

    def _end(self) -> None:
        """Who still waits does so in vain."""
        self._keeper.done(self._fill)
        self._fill.release()

    # ── pace ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_client_paused(self, paused: bool) -> bool:
        """A slow visitor keeps nobody else waiting, as long as all of the answer may be held."""
        self._is_paused = paused
        if self._stored is None:
            return False
        self._set_pace()
        return True

    def _pace(self, paused: bool) -> None:
        self._set_pace()

    def _set_pace(self) -> None:
        if self._x.forwarding is not None:
            fill = self._fill
            self._x.forwarding.pause(not fill.is_kept and (self._is_paused or fill.is_ahead))

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────

    def on_upstream_error(self, error: UpstreamError) -> None:
        kept, now_s = self._kept, self._x.shared.now_s()
        if self._stored is not None:
            self._keeper.done(self._fill)
            self._fill.cut(error.kind)
        elif kept is not None and not self._x.answer_begun and may_stand_in(kept, now_s):
            self._stand_in(kept, 0, now_s)
        else:
            if kept is not None:
                self._keeper.rest(self._fill.key)
            self._keeper.done(self._fill)
            self._fill.fail(refusal_for(error))

    def on_client_gone(self) -> bool:
        """What others wait for, or what will be kept, is fetched to its end."""
        fill = self._fill
        self._is_gone = fill.has_followers or (self._stored is not None and fill.is_kept and not fill.is_spoilt)
        return self._is_gone

    def on_finish(self, seconds: float) -> float:
        self._keeper.done(self._fill)
        if not self._fill.is_done:
            self._fill.cut("cut")
        return seconds


def _age_s(notes: Noted, asked: CacheRequest, now_s: float) -> float | None:
    """How old an answer is that is not kept; None where the app told it."""
    ages: Sequence[bytes] = values_of(said_of(notes.passed), b"age")
    return None if ages else initial_age_s((), None, asked.asked_s, now_s)


def _with(notes: Noted, lines: bytes) -> Noted:
    return notes.passing([*notes.passed, *lines.splitlines(keepends=True)])
