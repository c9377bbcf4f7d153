"""What the supervisor of gateways does about their policy: it alone reads the file, and its children follow its copy.

A file with any problem changes nothing. A good one is copied, all gateways are told in the same moment, and worker and
admin are started anew where they use what changed. SIGHUP asks for a reload, SIGUSR2 replaces the gateway processes one
after another. Called by `up` and by `gateway` with several workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate import logs
from scopegate.clock import SystemClock
from scopegate.following import standing
from scopegate.following.standing import Post, Standing
from scopegate.policy import Policy, Review
from scopegate.process.board import here

if TYPE_CHECKING:
    from scopegate.following.follower import Result
    from scopegate.following.loaded import Loaded
    from scopegate.following.source import Source
    from scopegate.supervise.supervisor import Supervisor

COPY = "policy-copy.json"
AGREE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
_TELL_AGAIN_S = 1.0
_log = logs.get("leader")

Uses = Callable[[Policy], object]
"""The part of a policy that a child uses: it is started anew when that has changed."""


@dataclass(frozen=True, slots=True)
class Led:
    """Children by name: `gateways` adopt a policy while they serve, `others` start anew for it."""

    gateways: Sequence[str]
    others: Mapping[str, Uses]


def copy_of(directory: Path) -> Path:
    """Where the last good file is kept, with what it names: it may hold secrets, as the file itself may."""
    return directory / standing.FOLDER / COPY


class Leader:
    """Follows one file for a supervisor, inside its loop. Made before the children start: they need the copy."""

    def __init__(self, loaded: Loaded, led: Led, supervisor: Supervisor) -> None:
        """Raises OSError where the state directory is unusable."""
        self._loaded = loaded
        self._led = led
        self._supervisor = supervisor
        self._policy = loaded.policy
        self._directory = loaded.directory
        self._copy = copy_of(self._directory)
        self._source: Source | None = None
        self._clock = SystemClock()
        self._held = ExitStack()
        self._post = self._held.enter_context(Post(self._directory))
        self._rolling = asyncio.Event()
        self._outdated: dict[str, Policy] = {}
        self._renewing: asyncio.Task[None] | None = None
        loaded.source.save(self._copy)

    async def run(self) -> None:
        """Until cancelled."""
        from scopegate.following.follower import Follower

        loop = asyncio.get_running_loop()
        follower = Follower(
            self._policy, self._loaded.read, self._look, self._apply, self._say, roles=self._loaded.roles
        )
        loop.add_signal_handler(signal.SIGHUP, follower.ask)
        loop.add_signal_handler(signal.SIGUSR2, self._rolling.set)
        self._post.say(self._standing())
        with self._held:
            async with asyncio.TaskGroup() as group:
                group.create_task(follower.run())
                group.create_task(self._roll())
                group.create_task(self._remind())

    # ── a changed policy ────────────────────────────────────────────────────────────────────────────────────────────
    def _look(self) -> Review:
        review, self._source = self._loaded.look()
        return review

    async def _apply(self, policy: Policy) -> None:
        assert self._source is not None, "a policy was read from somewhere"
        self._source.save(self._copy)
        before, self._policy = self._policy, policy
        self._supervisor.drain_s = policy.server.timeouts.drain_s
        self._tell(self._gateways())
        await self._agreed()
        for name, used in self._led.others.items():
            if used(before) != used(policy):
                self._outdated.setdefault(name, before)
        if self._outdated and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew())

    def _gateways(self) -> list[Standing]:
        """What the gateways say that serve now."""
        mine, host = os.getpid(), here()
        living = (one for one in standing.living(self._directory) if one.host == host)
        return [one for one in living if one.leader == mine and one.pid != mine]

    @staticmethod
    def _tell(gateways: Sequence[Standing]) -> None:
        for one in gateways:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGHUP)

    def _behind(self) -> list[Standing]:
        return [one for one in self._gateways() if one.digest != self._policy.digest]

    async def _agreed(self) -> None:
        """Wait until every gateway serves the policy. One that does not is told again later (`_remind`)."""
        try:
            async with asyncio.timeout(AGREE_WITHIN_S):
                while self._behind():  # their word is in files: nothing tells when it changes
                    await self._clock.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            _log.error("gateways.disagree", policy=self._policy.digest, behind=[one.pid for one in self._behind()])

    async def _remind(self) -> None:
        """A gateway that started while the policy changed may have read the copy before."""
        while True:
            await asyncio.sleep(_TELL_AGAIN_S)
            self._tell(self._behind())

    async def _renew(self) -> None:
        """Start anew what uses something that changed, also when it changes again meanwhile."""
        while self._outdated:
            name, before = self._outdated.popitem()
            used = self._led.others[name]
            if used(before) != used(self._policy):
                _log.info("child.renewed", child=name, policy=self._policy.digest)
                await self._supervisor.restart(name)

    def _say(self, result: Result, heard: int) -> None:
        self._post.say(
            self._standing(
                heard, outcome=result.outcome.value, problems=result.problems, needs_restart=result.needs_restart
            )
        )

    def _standing(
        self, heard: int = 0, outcome: str = "", problems: tuple[str, ...] = (), needs_restart: tuple[str, ...] = ()
    ) -> Standing:
        pid, now_ms = os.getpid(), self._clock.now_ms()
        return Standing(
            pid, pid, str(self._loaded.config), self._policy.digest, now_ms, heard, outcome, problems, needs_restart,
            processes=len(self._led.gateways),
        )  # fmt: skip

    # ── a rolling restart ───────────────────────────────────────────────────────────────────────────────────────────
    async def _roll(self) -> None:
        while True:
            await self._rolling.wait()
            self._rolling.clear()
            for name in self._led.gateways:
                if not await self._supervisor.replace(name):
                    _log.error("gateway.not_replaced", child=name)
                    break
            else:
                _log.info("gateways.replaced", children=list(self._led.gateways))
