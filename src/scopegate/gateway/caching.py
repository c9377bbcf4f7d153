"""The cache of one process: what a request to a route with `cache` is answered with, and by whom.

The last step of such a request. What may be kept and used is decided in `caching`; who waits for what is in `fill`, and
what becomes of the app's answer in `filler`. Made by `app`, kept through every change of the policy.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from scopegate.caching.cache_status import Fwd
from scopegate.caching.invalidation import changed_urls, changes
from scopegate.caching.key import is_preview
from scopegate.caching.purges import Purges, PurgeStanding
from scopegate.caching.reuse import Use, may_stand_in, use_of
from scopegate.caching.said import Said, said_of, values_of
from scopegate.caching.shelf import Shelf
from scopegate.caching.storable import CacheRequest
from scopegate.caching.stored import Stored
from scopegate.caching.validation import CONDITIONS, OTHER_CONDITIONS, questions
from scopegate.caching.wishes import Wishes, wishes_of
from scopegate.edge.headers import Noted
from scopegate.edge.verdict import Refusal, Target
from scopegate.gateway import giving
from scopegate.gateway.cacheplan import CachePlan
from scopegate.gateway.exchange import Exchange, Outcome, Pending
from scopegate.gateway.fill import Fill, FillFollower
from scopegate.gateway.filler import Filler
from scopegate.gateway.forwarding import Forwarding
from scopegate.gateway.refresh import Refresh
from scopegate.gateway.shared import Shared
from scopegate.gateway.sharing import Sharing
from scopegate.gateway.watcher import NOBODY_WATCHES, AppSide, Watcher
from scopegate.metrics.labels import CacheOutcome
from scopegate.policy.policy import CacheRule, Policy
from scopegate.stores.ports import AnswerStore

SHUNNED_S = 10.0
"""How long an answer that was for nobody else is remembered: nobody waits for the next."""
REST_S = 1.0
"""How long the app is not asked again for what it failed to give, while something stands in for it."""
MAX_RESTING = 10_000
_NOT_SENT_ON = (*CONDITIONS, b"if-range")
_NO_STORED = Refusal(504, "only_if_cached", "Nothing is stored that answers this, and the app was not to be asked.")


class Looked:
    """A request as the cache sees it. `target` is what the app is asked for."""

    __slots__ = ("asked", "key", "plan", "rule", "target", "wishes")

    def __init__(
        self, plan: CachePlan, rule: CacheRule, key: bytes, target: Target, asked: CacheRequest, wishes: Wishes
    ) -> None:
        self.plan = plan
        self.rule = rule
        self.key = key
        self.target = target
        self.asked = asked
        self.wishes = wishes


class Cache:
    """One per process."""

    def __init__(self, shared: Shared, policy: Policy, answers: Callable[[], AnswerStore] | None = None) -> None:
        """`answers` are those that other gateways share, made when a policy first has a route with `cache`."""
        self._shared = shared
        self._answers = answers
        self._wait_s = policy.cache.wait_s
        self.purges = Purges()
        self._sharing: Sharing | None = None
        self.shelf = Shelf(policy.cache.memory_bytes, self.purges)
        self._fills: dict[bytes, Fill] = {}
        self._resting: OrderedDict[bytes, float] = OrderedDict()
        """Until when the app is not asked again, having failed."""
        self._share(policy)

    def adopt(self, policy: Policy) -> None:
        """What is kept stays, as far as it has room."""
        self._wait_s = policy.cache.wait_s
        self.shelf.resize(policy.cache.memory_bytes)
        self._share(policy)

    def _share(self, policy: Policy) -> None:
        if self._sharing is None and self._answers is not None and any(route.cache for route in policy.routes):
            self._sharing = Sharing(self._answers(), self)
        if self._sharing is not None:
            self._sharing.resize(policy.cache.redis_bytes)

    def tick(self) -> None:
        """Several times a second: what other gateways have to say."""
        if self._sharing is not None:
            self._sharing.tick()

    async def close(self) -> None:
        if self._sharing is not None:
            await self._sharing.close()

    # ── a request ───────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, x: Exchange, plan: CachePlan) -> Outcome:
        """Answer it, have it wait for another's answer, or send it to the app."""
        rule = plan.rule
        if rule is None or x.method not in plan.methods:
            return self._change(x)
        said = _said(x)
        if x.watcher is not NOBODY_WATCHES or x.incoming is not None:
            return _forward(x)
        if not OTHER_CONDITIONS.isdisjoint(said) or is_preview(values_of(said, b"cookie")):
            return self._bypass(x, rule, said)
        wishes = wishes_of(said, ignored=rule.ignore_client_no_cache)
        if wishes.no_store:
            return self._bypass(x, rule, said)
        looked = self._look(x, plan, rule, said, wishes)
        stored = self.shelf.find(looked.key, said)
        now_s = self._shared.now_s()
        use = Use.MISS if stored is None else use_of(stored, looked.asked, wishes, now_s)
        if not x.plan.enforced:
            return self._watch(x, looked, use)
        if stored is not None and self._stands_in(looked, stored, use, now_s):
            giving.give(x, said, stored, CacheOutcome.STALE)
            return None
        if stored is not None and use is Use.HIT:
            giving.give(x, said, stored, CacheOutcome.HIT)
            return None
        if stored is not None and use is Use.STALE:
            self._refresh(x, looked, stored)
            giving.give(x, said, stored, CacheOutcome.STALE)
            return None
        if wishes.only_if_cached:
            return _NO_STORED
        return self._ask(x, looked, stored if use is Use.ASK else None, now_s)

    def _look(self, x: Exchange, plan: CachePlan, rule: CacheRule, said: Said, wishes: Wishes) -> Looked:
        assert plan.keys is not None
        target = plan.keys.target(x.target)
        public = x.section.public
        key = plan.keys.key(x.scheme, target, public, said) + x.shown
        host = public.host if public is not None and public.host else target.host
        asked = CacheRequest(
            host.encode() + target.raw,
            x.method,
            said,
            is_signed_in=x.plan.auth is not None,
            is_covered=b"cookie" not in said or plan.keys.covers_cookies(said),
            no_store=False,
            asked_s=self._shared.now_s(),
            seen=self.purges.last,
        )
        return Looked(plan, rule, key, target, asked, wishes)

    # ── to the app ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, x: Exchange, looked: Looked, kept: Stored | None, now_s: float) -> Outcome:
        """Fetch an answer for everybody, or wait for the one that is being fetched."""
        asked = looked.asked
        if x.method == "HEAD" or b"range" in asked.said:  # what comes is no whole answer
            return self._alone(x, looked, Fwd.METHOD if x.method == "HEAD" else Fwd.PARTIAL)
        is_shared = not asked.is_personal and not self.shelf.is_shunned(looked.key, now_s)
        fill = self._fills.get(looked.key)
        if is_shared and fill is not None and fill.may_be_joined:
            follower = FillFollower(x, fill, asked, kept, partial(self._fetch, x, looked, kept, leads=False))
            return follower.begin(self._wait_s)
        return self._fetch(x, looked, kept, leads=is_shared and fill is None)

    def _fetch(self, x: Exchange, looked: Looked, kept: Stored | None, *, leads: bool) -> Outcome:
        """For oneself, and with `leads` for all who come meanwhile."""
        fill = Fill(looked.key, looked.asked.url, looked.rule.max_object_bytes)
        if leads:
            self._fills[looked.key] = fill
            if self._sharing is not None and self._sharing.holds_answers:
                return self._seek(x, looked, kept, fill)
        return self._fill(x, looked, kept, fill, leads=leads)

    def _seek(self, x: Exchange, looked: Looked, kept: Stored | None, fill: Fill) -> Pending:
        """What other gateways have, or are about to have; else it is for this one to fetch."""
        assert self._sharing is not None
        fill.is_leased = True
        x.watcher = Filler(self, x, looked.rule, looked.asked, fill, Fwd.URI_MISS)  # others may wait already
        x.client.wait_until(None)
        now_s = self._shared.now_s

        def will_do(stored: Stored) -> bool:
            standing = self.purges.standing(stored)
            stored.is_outdated = standing is PurgeStanding.OUTDATED
            return (
                standing is not PurgeStanding.GONE and use_of(stored, looked.asked, looked.wishes, now_s()) is Use.HIT
            )

        task = self._sharing.seek(looked.key, looked.asked.said, will_do, self._wait_s)
        return Pending(task, partial(self._sought, looked, kept, fill))

    def _sought(
        self, looked: Looked, kept: Stored | None, fill: Fill, x: Exchange, future: asyncio.Future[Any]
    ) -> Outcome:
        found, will_do = future.result()
        if found is not None and self.purges.standing(found) is PurgeStanding.GONE:
            found, will_do = None, False
        if found is not None and will_do:
            found.seen = self.purges.last
            self.shelf.put(looked.key, found)
            fill.is_leased = False
            self.done(fill)
            fill.settle(found)
            x.watcher = NOBODY_WATCHES
            giving.give(x, looked.asked.said, found, CacheOutcome.HIT)
            return None
        return self._fill(x, looked, found or kept, fill, leads=True)

    def _fill(self, x: Exchange, looked: Looked, kept: Stored | None, fill: Fill, *, leads: bool) -> Outcome:
        """The app, with what is kept to be confirmed."""
        looked.asked.asked_s = self._shared.now_s()
        looked.asked.seen = self.purges.last
        asks = kept is not None and kept.is_askable()
        x.watcher = Filler(
            self, x, looked.rule, looked.asked, fill, self._why(looked, kept), kept=kept, asks=asks, leads=leads
        )
        x.notes = _to_ask(x.notes, kept if asks else None)
        x.target = looked.target
        return _forward(x)

    def _why(self, looked: Looked, kept: Stored | None) -> Fwd:
        if kept is not None:
            return Fwd.STALE if kept.left_s(self._shared.now_s()) <= 0 or kept.freshness.must_ask else Fwd.REQUEST
        return Fwd.VARY_MISS if self.shelf.has(looked.key) else Fwd.URI_MISS

    def _alone(self, x: Exchange, looked: Looked, fwd: Fwd) -> Outcome:
        """As it came: nothing of the answer is kept."""
        fill = Fill(looked.key, looked.asked.url, 0)
        x.watcher = Filler(self, x, looked.rule, looked.asked, fill, fwd, may_keep=False)
        x.target = looked.target
        return _forward(x)

    def _bypass(self, x: Exchange, rule: CacheRule, said: Said) -> Outcome:
        """The cache has no part in it."""
        asked = CacheRequest(
            b"", x.method, said, is_signed_in=True, is_covered=False, no_store=True,
            asked_s=self._shared.now_s(), seen=0,
        )  # fmt: skip
        x.watcher = Filler(self, x, rule, asked, Fill(b"", b"", 0), Fwd.BYPASS, may_keep=False)
        return _forward(x)

    def _watch(self, x: Exchange, looked: Looked, use: Use) -> Outcome:
        """Watch mode: the app answers everybody, and what would have been answered here is counted."""
        if use in (Use.HIT, Use.STALE):
            giving.note(x, CacheOutcome.WOULD_HIT)
            return _forward(x)
        said = looked.asked.said
        is_whole = x.method == "GET" and b"range" not in said and not any(name in said for name in CONDITIONS)
        if not is_whole or looked.target is not x.target:
            return _forward(x)
        fill = Fill(looked.key, looked.asked.url, looked.rule.max_object_bytes)
        x.watcher = Filler(self, x, looked.rule, looked.asked, fill, self._why(looked, None))
        return _forward(x)

    def _refresh(self, x: Exchange, looked: Looked, stored: Stored) -> None:
        """A newer answer for the next visitors, unless it is on its way, or could not be had just now."""
        if looked.key in self._fills or x.method != "GET" or b"range" in looked.asked.said:
            return
        refresh = Refresh(x)
        refresh.start([partial(_fetch_step, self, looked, stored)])

    # ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, fill: Fill, stored: Stored) -> None:
        self.shelf.put(fill.key, stored)
        if self._sharing is not None and self._sharing.holds_answers:
            fill.is_leased = False  # that ends with the writing
            self._sharing.keep(fill.key, stored)

    def drop(self, key: bytes, stored: Stored) -> None:
        self.shelf.drop(key, stored)

    def rest(self, key: bytes) -> None:
        self._resting[key] = self._shared.now_s() + REST_S
        self._resting.move_to_end(key)
        if len(self._resting) > MAX_RESTING:
            self._resting.popitem(last=False)

    def _stands_in(self, looked: Looked, stored: Stored, use: Use, now_s: float) -> bool:
        """Whether the app has just failed, and what is kept will do for another moment."""
        if use is Use.HIT or use is Use.MISS or self._resting.get(looked.key, 0.0) <= now_s:
            return False
        return use is Use.STALE or (may_stand_in(stored, now_s) and not looked.wishes.no_cache)

    def shun(self, key: bytes) -> None:
        self.shelf.shun(key, self._shared.now_s() + SHUNNED_S)

    def done(self, fill: Fill) -> None:
        if self._fills.get(fill.key) is fill:
            del self._fills[fill.key]
        if fill.is_leased and self._sharing is not None:
            fill.is_leased = False
            self._sharing.release(fill.key)

    def ask_again(self, x: Exchange) -> None:
        x.notes = _to_ask(x.notes, None)
        outcome = _forward(x)
        if outcome is not None:
            x.take(outcome)

    # ── what changes it ─────────────────────────────────────────────────────────────────────────────────────────────

    def _change(self, x: Exchange) -> Outcome:
        """A request that may change what is kept of its URL."""
        if x.watcher is NOBODY_WATCHES:
            x.watcher = Change(self, x)
        return _forward(x)

    def changed(self, url: bytes) -> None:
        """A request has changed what a URL is about, for all gateways."""
        self.end(url)
        if self._sharing is not None:
            self._sharing.changed(url)

    def forget_all(self) -> None:
        self.shelf.clear()
        for fill in self._fills.values():
            fill.is_spoilt = True

    def end(self, url: bytes) -> None:
        """What was kept of a URL, and what is being fetched of it, is no longer so."""
        self.shelf.drop_url(url)
        for fill in list(self._fills.values()):
            if fill.url == url:
                fill.is_spoilt = True
                self.done(fill)


class Change(Watcher):
    """A request that is not safe: where it succeeds, what was kept of its URL ends."""

    def __init__(self, cache: Cache, x: Exchange) -> None:
        self._cache = cache
        self._x = x

    def on_answer(self, app: AppSide, status: int, notes: Noted, payload: bytes, done: bool) -> bool:
        x = self._x
        if changes(x.method, status):
            public = x.section.public
            host = public.host if public is not None and public.host else x.target.host
            for url in changed_urls(host.encode() + x.target.raw, said_of(notes.passed)):
                self._cache.changed(url)
        return True


def _fetch_step(cache: Cache, looked: Looked, stored: Stored, x: Exchange) -> Outcome:
    return cache._fetch(x, looked, stored, leads=True)


def _forward(x: Exchange) -> Outcome:
    x.forwarding = forwarding = Forwarding(x)
    return forwarding.begin()


def _said(x: Exchange) -> Said:
    """The request's fields by name, kept with the section they stand in."""
    section = x.section
    if x.notes is not section.notes:
        return said_of(x.notes.passed)
    if section.said is None:
        section.said = said_of(section.notes.passed)
    return section.said


def _to_ask(notes: Noted, kept: Stored | None) -> Noted:
    """What goes to the app for a whole answer: without the visitor's conditions, with those of what is kept."""
    passed = [line for line in notes.passed if line[: line.index(b":")].lower() not in _NOT_SENT_ON]
    if kept is not None:
        passed += questions(kept)
    elif len(passed) == len(notes.passed):
        return notes
    return notes.passing(passed)
