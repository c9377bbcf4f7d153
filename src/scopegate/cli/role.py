"""What the commands that run a process share: options, loading, metrics directory, signals, leash.

Called by `gateway`, `worker`, `admin` and `up`. What a role does is `wiring`'s business.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError, Problem, ScopegateError
from scopegate.following.stamps import stamp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

    from scopegate.following.loaded import Loaded
    from scopegate.policy.policy import Policy
    from scopegate.settings import Settings
    from scopegate.supervise.supervisor import Supervisor

    Serve = Callable[[asyncio.Event, Callable[[], None]], Awaitable[None]]
    """Runs a role until the event is set; calls the callback once, when it serves."""

GATEWAY, WORKER, ADMIN, SUPERVISOR = "gateway", "worker", "admin", "supervisor"
_GRACE_BEYOND_DRAIN_S = 5.0
_PASSING_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE})


class StateDirUnusable(ScopegateError):
    """The state directory is the right one and does not work: a full disk, most often. Trying again may help, so it is
    no ConfigError."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy file (%(default)s)"
    )
    parser.add_argument("--leash", metavar="FD", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--copy", metavar="FILE", type=Path, default=None, help=argparse.SUPPRESS)


def add_socket_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fd", metavar="N", type=int, default=None, help="serve on this inherited listening socket")


def load(
    config: Path, roles: Sequence[str], *, join_as: str | None = None, copy: Path | None = None
) -> tuple[Settings, Policy]:
    """Settings and policy for these roles, see `load_all`."""
    loaded = load_all(config, roles, join_as=join_as, copy=copy)
    return loaded.settings, loaded.policy


def load_all(config: Path, roles: Sequence[str], *, join_as: str | None = None, copy: Path | None = None) -> Loaded:
    """Settings and policy for these roles, with logging configured and the state directory there. Raises ConfigError
    with every problem at once: of each variable, the state directory, the policy, the promises it breaks, and of what
    these roles need for it. StateDirUnusable where nothing else is wrong. `copy`: where a supervisor keeps the file.

    With `join_as` this process counts its metrics as that role: settled here, because what comes after may import the
    catalogue (see `exposition.prepare`)."""
    from scopegate import logs
    from scopegate.following.loaded import Loaded
    from scopegate.following.source import look
    from scopegate.worker import prices

    settings, problems = usable_settings(os.environ)
    full: StateDirUnusable | None = None
    try:
        state_dir(settings)
        if join_as is not None and not problems:
            join(settings, join_as)
    except ConfigError as exc:
        problems += exc.problems
    except StateDirUnusable as exc:
        full = exc
    bad = {problem.where for problem in problems}
    before = stamp([str(config.absolute())])
    usable = {name: text for name, text in os.environ.items() if name not in bad}
    needs = partial(missing, settings, roles=roles)
    review, source = look(config, copy, usable, prices.load, needs)
    problems += [one for one in review.problems if one.where not in bad]
    if problems:
        raise ConfigError(problems)
    if full is not None:
        raise full
    assert review.policy is not None, "a policy without problems is there"
    assert source is not None, "and was read from somewhere"
    logs.configure(settings.log_level, settings.log_format)
    return Loaded(
        settings,
        review.policy,
        source,
        before | stamp(review.files[1:]),
        config.absolute(),
        copy,
        state_dir(settings),
        roles,
        look=lambda: look(config.absolute(), copy, os.environ, prices.load, needs),
    )


def usable_settings(environ: Mapping[str, str]) -> tuple[Settings, list[Problem]]:
    """What the usable variables say, and what is wrong with the others."""
    from scopegate import settings as environment

    try:
        return environment.load(environ), []
    except ConfigError as exc:
        bad = {problem.where for problem in exc.problems}
        usable = {name: environ[name] for name in environment.VARIABLES if name in environ and name not in bad}
        return environment.load(usable), list(exc.problems)


def join(settings: Settings, name: str) -> None:
    """Count the metrics of this process as those of role `name`."""
    from scopegate.metrics import exposition

    exposition.prepare(metrics_dir(settings), name)


def missing(settings: Settings, policy: Policy, roles: Sequence[str]) -> list[Problem]:
    """What these roles need from the environment for this policy, and do not have."""
    problems: list[Problem] = []
    if WORKER in roles and policy.offloads and settings.anthropic_api_key is None:
        offloads = ", ".join(sorted(policy.offloads))
        problems.append(Problem("ANTHROPIC_API_KEY", "", f"not set, and offload {offloads} needs it for its calls"))
    if ADMIN in roles:
        from scopegate.admin.access import admin_problems

        problems += admin_problems(settings.admin_token, policy, settings.read_token, settings.viewer_token)
    return problems


def demand_database(asker: str) -> None:
    """Before anything starts on it: the database that the environment names is the right one, or ends this process with
    one line and 78. Looked at in a process of its own: what that takes to load, this one need not carry from then on.
    `asker` is UP or ROLE of `migrate`."""
    import subprocess

    words = [sys.executable, "-P", "-m", "scopegate", "migrate", "--at-start", asker]
    code = subprocess.run(words, stdin=subprocess.DEVNULL).returncode  # noqa: S603 - ourselves
    if code != 0:
        raise SystemExit(code)


def look_at_database(settings: Settings) -> None:
    """Likewise, in this process, which needs it anyway. Raises StoreUnusable."""
    import asyncio

    from scopegate.errors import StoreUnavailable
    from scopegate.stores.database import open_database

    async def look() -> None:
        await (await open_database(settings.database)).close()

    with suppress(StoreUnavailable):  # it may come back, and what serves waits for it
        asyncio.run(look())


def state_dir(settings: Settings) -> Path:
    """The state directory as an absolute path, made for our user alone. Raises ConfigError where it cannot be made,
    StateDirUnusable where that may pass."""
    directory = settings.state_dir.absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        if exc.errno in _PASSING_ERRNOS:
            raise StateDirUnusable(_unusable(directory, exc)) from exc
        raise ConfigError([Problem("SCOPEGATE_STATE_DIR", "", f"{directory}: {exc.strerror}")]) from exc
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError([Problem("SCOPEGATE_STATE_DIR", "", f"{directory}: not writable")])
    return directory


@contextmanager
def using(directory: Path) -> Iterator[None]:
    """What the operating system refuses in the state directory becomes StateDirUnusable."""
    try:
        yield
    except OSError as exc:
        raise StateDirUnusable(_unusable(directory, exc)) from exc


def _unusable(directory: Path, error: OSError) -> str:
    return f"the state directory {directory} cannot be used: {error.strerror or type(error).__name__}"


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of one state directory leave their metrics, see `exposition`."""
    return state_dir(settings) / "metrics"


def outlive_signals() -> Callable[[], None]:
    """From here on SIGHUP and SIGUSR2 end nothing; who follows the policy replaces this by a handler of its own. The
    result is for when it does: it asks for one reload if one was wished for meanwhile. Processes that only start are as
    good as replaced: SIGUSR2 is forgotten."""
    import signal

    wished: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _frame: wished.append(number))
    signal.signal(signal.SIGUSR2, lambda _number, _frame: None)  # not SIG_IGN: children would inherit it

    def catch_up() -> None:
        if wished:
            wished.clear()
            os.kill(os.getpid(), signal.SIGHUP)

    return catch_up


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, hurry: asyncio.Event | None = None) -> None:
    """SIGTERM or SIGINT sets `stop`; a second one sets `hurry`."""
    import signal

    def heard() -> None:
        if stop.is_set() and hurry is not None:
            hurry.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)


def run(serve: Serve, leash_fd: int | None, drain_s: float, *, uvloop: bool = False) -> int:
    """Run a role in this process until a signal, or until its supervisor is gone. The exit code."""
    import asyncio

    from scopegate import logs

    sys.unraisablehook = logs.Unraisable()
    with asyncio.Runner(loop_factory=_fast_loop if uvloop else None) as runner:
        runner.run(_run(serve, leash_fd, drain_s))
    return 0


async def _run(serve: Serve, leash_fd: int | None, drain_s: float) -> None:
    import asyncio

    from scopegate.supervise.leash import Leash

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    stop_on_signals(loop, stop)
    if leash_fd is None:
        await serve(stop, lambda: None)
        return
    leash = Leash(leash_fd)
    leash.watch(lambda: _set_from_outside(loop, stop), drain_s + _GRACE_BEYOND_DRAIN_S)
    try:
        await serve(stop, leash.ready)
    finally:
        leash.done()


def _set_from_outside(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(stop.set)
    except RuntimeError:  # the loop is closed: the process is ending already
        return


def _fast_loop() -> asyncio.AbstractEventLoop:
    import asyncio

    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def supervise(
    supervisor: Supervisor,
    leash_fd: int | None,
    when_ready: Callable[[], None] = lambda: None,
    beside: Callable[[], Coroutine[None, None, None]] | None = None,
) -> int:
    """Run a supervisor in this process until a signal, or until its own supervisor is gone. `when_ready` is called
    once all its children serve; `beside` runs as long as it does. The exit code."""
    import asyncio

    return asyncio.run(_supervise(supervisor, leash_fd, when_ready, beside))


async def _supervise(
    supervisor: Supervisor,
    leash_fd: int | None,
    when_ready: Callable[[], None],
    beside: Callable[[], Coroutine[None, None, None]] | None,
) -> int:
    import asyncio

    from scopegate.supervise.leash import Leash

    loop, stop, hurry = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    stop_on_signals(loop, stop, hurry)
    leash = None if leash_fd is None else Leash(leash_fd)
    if leash is not None:
        leash.watch(lambda: _set_from_outside(loop, stop), supervisor.longest_end_s + _GRACE_BEYOND_DRAIN_S)

    async def tell() -> None:
        await supervisor.all_ready()
        when_ready()
        if leash is not None:
            leash.ready()

    tasks = [asyncio.create_task(tell())]
    if beside is not None:
        tasks.append(asyncio.create_task(beside()))
        tasks[-1].add_done_callback(_say_lost)
    try:
        return await supervisor.run(stop, hurry)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if leash is not None:
            leash.done()


def _say_lost(task: asyncio.Task[None]) -> None:
    """A bug in what runs beside must not pass unseen; the processes go on."""
    from scopegate import logs

    if not task.cancelled() and task.exception() is not None:
        logs.get("role").error("supervisor.part_lost", exc=task.exception())


def sweeper(directory: Path) -> Callable[[int], None]:
    """What a supervisor does when a child has ended: fold its metrics into the archive, so that files never pile up.
    A directory in trouble costs metrics, never a process."""
    from scopegate import logs
    from scopegate.metrics import totals

    def sweep(_pid: int) -> None:
        try:
            totals.sweep(directory)
        except (OSError, totals.DirectoryBusy) as exc:
            logs.get("role").warning("metrics.not_swept", directory=str(directory), error=str(exc))

    return sweep
