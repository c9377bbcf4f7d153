"""One process and the policy it follows: the file itself when it is alone, else its supervisor's copy.

It says what it serves in the state directory, for `scopegate reload` and for its supervisor. Called by `gateway`, and
by `worker` and `admin` where they run without a supervisor, which would start them anew instead.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from scopegate import logs
from scopegate.clock import SystemClock
from scopegate.following.standing import Post, Standing
from scopegate.policy import Review

if TYPE_CHECKING:
    from scopegate.following.follower import Applying, Result
    from scopegate.following.loaded import Loaded

_log = logs.get("following")


def _say_alone() -> None:
    """The signal would end the process otherwise."""
    _log.warning("process.not_replaced", reason="one process without a supervisor: restart it on a handed-over socket")


class Following:
    """A place in the state directory from `with` on; `run` goes on as long as the process serves."""

    def __init__(self, loaded: Loaded, catch_up: Callable[[], None]) -> None:
        """`catch_up` is called once SIGHUP is heard here (`role.outlive_signals`)."""
        self._loaded = loaded
        self._catch_up = catch_up
        self._alone = loaded.copy is None
        self._clock = SystemClock()
        self._held = ExitStack()
        self._post: Post | None = None

    def __enter__(self) -> Following:
        """A directory in trouble costs `scopegate reload` its answer, never a process."""
        directory = self._loaded.directory
        try:
            self._post = self._held.enter_context(Post(directory))
        except OSError as exc:
            _log.warning("standing.not_kept", directory=str(directory), error=str(exc))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    async def run(self, adopt: Applying) -> None:
        from scopegate.following.follower import Follower

        loaded = self._loaded
        follower = Follower(
            loaded.policy,
            loaded.read,
            self._look,
            adopt,
            self._say,
            watch=self._alone,
            count=self._alone,
            roles=loaded.roles,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, follower.ask)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _say_alone)
        self._tell(Standing(*self._who(), loaded.policy.digest, self._clock.now_ms()))
        self._catch_up()
        await follower.run()

    def _look(self) -> Review:
        review, _ = self._loaded.look()
        return review

    def _say(self, result: Result, heard: int) -> None:
        self._tell(
            Standing(
                *self._who(),
                result.digest,
                self._clock.now_ms(),
                heard,
                result.outcome.value,
                result.problems,
                result.needs_restart,
            )
        )

    def _who(self) -> tuple[int, int, str]:
        pid = os.getpid()
        return pid, pid if self._alone else os.getppid(), str(self._loaded.config)

    def _tell(self, standing: Standing) -> None:
        if self._post is not None:
            self._post.say(standing)


@contextmanager
def alone(
    loaded: Loaded, catch_up: Callable[[], None]
) -> Iterator[Callable[[Applying], Coroutine[None, None, None]] | None]:
    """How a worker or an admin process follows the file: None under a supervisor, which starts it anew instead."""
    if loaded.copy is not None:
        yield None
        return
    with Following(loaded, catch_up) as following:
        yield following.run
