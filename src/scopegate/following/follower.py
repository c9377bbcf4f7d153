"""A policy file followed by a running process: when it is read again, what becomes of it, and what is said of that.

One `Follower` per process that reads the file: a role that runs alone, or a supervisor, whose children follow its copy.
What applying means, and where the outcome is told, is the caller's (`wiring`, `following/leader`). A policy with any
problem never replaces one without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from scopegate import logs
from scopegate.errors import Problem
from scopegate.following.stamps import Stamp, stamp
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import ReloadOutcome
from scopegate.policy import Policy, Review
from scopegate.policy.policy import Address

LOOK_EVERY_S = 0.5
"""A change is loaded once two looks in a row find the same file: a write in place may not be over at the first."""
MOST_LOOKS = 4
"""After so many that found it changed each time, it is loaded as it is: a file that is always written is read too."""
_MAX_LINES = 100
_log = logs.get("reload")


@dataclass(frozen=True, slots=True)
class Result:
    """One reload. `digest` is that of the policy in force after it; `problems` are as people read them."""

    outcome: ReloadOutcome
    digest: str
    problems: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class Applying(Protocol):
    def __call__(self, policy: Policy, /) -> Awaitable[None]:
        """Serve by this policy from now on. Whatever it raises refuses the policy: nothing may have changed then."""
        ...


ROLES = ("gateway", "worker", "admin")


def needs_restart(booted: Policy, policy: Policy, roles: Collection[str] = ROLES) -> tuple[str, ...]:
    """The settings that only a new start of these roles applies, and that are not what this process was started
    with."""
    pairs = (
        ("gateway", "server.listen", booted.server.listen, policy.server.listen),
        ("gateway", "server.tls", bool(booted.server.tls), bool(policy.server.tls)),
        ("gateway", "server.redirect.listen", _redirecting(booted), _redirecting(policy)),
        ("gateway", "server.workers", booted.server.workers, policy.server.workers),
        ("admin", "admin.listen", booted.admin.listen, policy.admin.listen),
    )
    return tuple(name for role, name, before, after in pairs if role in roles and before != after)


def _redirecting(policy: Policy) -> Address | None:
    redirect = policy.server.redirect
    return None if redirect is None else redirect.listen


class Follower:
    """`serving` is in force, read from the files of `read`, which looked so before. `load` reads and judges, in a
    thread: problems are values, and the `files` it gives begin with the policy file.

    `tell` hears every result, and how many requests to reload had been made when that reload began. With `watch` the
    files are looked at twice a second; without it only `ask` causes a reload. `count`: whether this process speaks for
    all in the metrics. `roles` are those that it, or its children, play.
    """

    def __init__(
        self,
        serving: Policy,
        read: Stamp,
        load: Callable[[], Review],
        apply: Applying,
        tell: Callable[[Result, int], None],
        *,
        watch: bool = True,
        count: bool = True,
        roles: Collection[str] = ROLES,
    ) -> None:
        self.serving = serving
        self._booted = serving
        self._files = tuple(read)
        self._load = load
        self._apply = apply
        self._tell = tell
        self._watch = watch
        self._count = count
        self._roles = roles
        self._heard = 0
        self._asked = asyncio.Event()
        self._settled = self._seen = read
        self._looks = 0

    def ask(self) -> None:
        """Reload soon, whether or not the file looks changed. For a signal handler of the loop."""
        self._heard += 1
        self._asked.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S if self._watch else None):
                    await self._asked.wait()
            if self.look() or self._asked.is_set():
                self._asked.clear()
                await self.reload()

    def look(self) -> bool:
        """One look at the files: whether they are others than those read last, and the same as at the look before, or
        were never the same for MOST_LOOKS."""
        before, self._seen = self._seen, stamp(self._files)
        self._looks = 0 if self._seen == self._settled else self._looks + 1
        return self._watch and self._looks > 0 and (self._seen == before or self._looks >= MOST_LOOKS)

    async def reload(self) -> Result:
        """Load, judge, apply. Never raises but for cancellation."""
        heard = self._heard
        before = self._settled = self._seen = stamp(self._files)
        self._looks = 0
        try:
            review = await asyncio.to_thread(self._load)
            self._files = review.files
            # other files may be named now; what changed since `before` is loaded again
            self._settled = self._seen = {**stamp(self._files), **{f: before[f] for f in self._files if f in before}}
            result = await self._decide(review)
        except Exception as bug:
            _log.error("policy.reload_failed", exc=bug)
            result = Result(ReloadOutcome.REFUSED, self.serving.digest, (f"it could not be applied: {bug}",))
        if self._count:
            metrics.RELOADS.labels(result.outcome.value).inc()
            metrics.POLICY_STALE.set(result.outcome is ReloadOutcome.REFUSED)
        self._tell(result, heard)
        return result

    async def _decide(self, review: Review) -> Result:
        policy, serving = review.policy, self.serving
        if policy is None:
            _say_refused(review.problems, serving.digest)
            return Result(ReloadOutcome.REFUSED, serving.digest, tuple(str(problem) for problem in review.problems))
        waiting = needs_restart(self._booted, policy, self._roles)
        if policy == serving:
            _log.info("policy.unchanged", digest=policy.digest)
            return Result(ReloadOutcome.UNCHANGED, policy.digest, needs_restart=waiting)
        await self._apply(policy)
        self.serving = policy
        _log.info("policy.applied", digest=policy.digest, before=serving.digest, routes=len(policy.routes))
        if waiting:
            _log.warning("reload.needs_restart", settings=list(waiting))
        return Result(ReloadOutcome.APPLIED, policy.digest, needs_restart=waiting)


def _say_refused(problems: tuple[Problem, ...], serving: str) -> None:
    for problem in problems[:_MAX_LINES]:
        _log.error("policy.problem", where=problem.where, path=problem.path, what=problem.what)
    _log.error("policy.refused", problems=len(problems), serving=serving)
