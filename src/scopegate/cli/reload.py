"""`scopegate reload`: have the running gateway read its policy file again, and say who serves what afterwards.

The running process judges the file, in the environment that it serves in: what it says is printed here.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import EXIT_CONFIG, ConfigError, Problem, ScopegateError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from scopegate.following.standing import Standing

ANSWER_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.05
_EXIT_FAILED = 1
_EPILOG = """\
The process is found in the state directory (SCOPEGATE_STATE_DIR, ./.scopegate by default). It also reloads by itself
within a second or so of a change of the file, and on SIGHUP. Connections and limits go on; what a reload cannot change
(listen addresses, workers) is named. SIGUSR2 to a supervisor replaces its gateway processes one after another.

exit codes: 0 all processes serve the file, 1 they do not, or none runs, 78 the file is refused and nothing has changed
"""


class NothingRuns(ScopegateError):
    """No process that follows this file is alive in the state directory."""


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "reload",
        help="have the running gateway read its policy again",
        description="Have the running gateway read its policy file again, and say who serves what afterwards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy file (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate import settings as environment

    directory = environment.load(os.environ).state_dir.absolute()
    config = args.config.absolute()
    if not config.exists():
        raise ConfigError([Problem(str(args.config), "", "no such file")])
    from scopegate.cli import elsewhere

    here, _ = elsewhere.split(followers(directory, config))
    leaders = [one for one in here if one.pid == one.leader]
    if not leaders:
        raise NothingRuns(f"no gateway that follows {args.config} runs on the state directory {directory}")
    code = max(_reload(directory, config, leader) for leader in leaders)
    agreed = elsewhere.agree(lambda: followers(directory, config))
    return code if agreed else max(code, _EXIT_FAILED)


def followers(directory: Path, config: Path) -> list[Standing]:
    """The processes that follow this file, by whatever name they know it."""
    from scopegate.following import standing

    return [one for one in standing.living(directory) if _is_same(one.config, config)]


def _is_same(followed: str, config: Path) -> bool:
    try:
        return followed == str(config) or os.path.samefile(followed, config)
    except OSError:
        return False


def _reload(directory: Path, config: Path, leader: Standing) -> int:
    """Ask one process and wait for its answer. The exit code."""

    def now() -> list[Standing]:
        return [one for one in followers(directory, config) if (one.leader, one.host) == (leader.pid, leader.host)]

    def answer() -> Standing | None:
        return next((one for one in now() if one.pid == leader.pid and one.heard > leader.heard), None)

    os.kill(leader.pid, signal.SIGHUP)
    answered = _wait(answer)
    if answered is None:
        raise NothingRuns(f"process {leader.pid} did not answer within {ANSWER_WITHIN_S:g} s")
    return report(answered, now())


def _wait(ask: Callable[[], Standing | None]) -> Standing | None:
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while (found := ask()) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return found


def report(answered: Standing, all_of_it: Sequence[Standing]) -> int:
    """Say what became of it. A leader with processes of its own serves nothing itself."""
    children = [one for one in all_of_it if one.pid != answered.pid]
    serving = children if answered.processes or children else [answered]
    agreeing = [one for one in serving if one.digest == answered.digest]
    wanted = max(len(serving), answered.processes)
    if answered.outcome == "refused":
        print("\n".join(answered.problems), file=sys.stderr)
        print(f"refused: {_count(agreeing, wanted)} still serve policy {answered.digest}", file=sys.stderr)
        return EXIT_CONFIG
    print(f"{answered.outcome}: {_count(agreeing, wanted)} serve policy {answered.digest}")
    if answered.needs_restart:
        print(f"needs a restart to apply: {', '.join(answered.needs_restart)}")
    for one in serving:
        if one.digest != answered.digest:
            print(f"process {one.pid} serves policy {one.digest}", *one.problems, sep="\n  ", file=sys.stderr)
    if len(serving) < wanted:
        print(f"{_count(serving, wanted)} run at the moment: the rest is being started", file=sys.stderr)
    return 0 if len(agreeing) == wanted else _EXIT_FAILED


def _count(some: Sequence[Standing], wanted: int) -> str:
    return f"{len(some)} of {wanted} process{'es' if wanted > 1 else ''}"
