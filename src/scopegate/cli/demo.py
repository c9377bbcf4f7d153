"""`scopegate demo`: all of it at work on this machine, in a directory that vanishes with it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError, Problem

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from scopegate.demo.narrator import Narrator
    from scopegate.demo.report import StoryResult
    from scopegate.demo.stage import RealAPI, Stage
    from scopegate.supervise.supervisor import Supervisor

EXIT_INTERRUPTED = 130
_DRAIN_S = 25.0
_START_S = 60.0


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="see all of it at work, nothing to set up",
        description="Start a demo app, a simulated Claude and scopegate on free ports of this machine, and play a "
        "story: quick leads against a limit, and a lead with photos that goes through every step while the model "
        "fails. Stays up until Ctrl-C.",
    )
    parser.add_argument("--once", action="store_true", help="end after the story; exit 0 only if it came true")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, the story on error")
    parser.add_argument("--live", action="store_true", help="call the API with ANTHROPIC_API_KEY: costs money")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    live = _real_api() if args.live else None
    import asyncio
    import socket
    import tempfile
    from contextlib import ExitStack

    from scopegate import logs
    from scopegate.demo import stage as stages
    from scopegate.demo.narrator import Narrator

    narrator = Narrator(sys.stderr if args.json else sys.stdout)
    with ExitStack() as held:
        state = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="scopegate-", ignore_cleanup_errors=True)))
        sock = held.enter_context(socket.create_server((stages.LOOPBACK, 0), backlog=256))
        stage = stages.build(state, os.environ, live, sock)
        logs.configure("info", "json", held.enter_context((state / "logs" / "demo.log").open("w", encoding="utf-8")))
        return asyncio.run(_show(args, stage, narrator))


def _real_api() -> RealAPI:
    from scopegate.demo.stage import RealAPI, names_simulation
    from scopegate.policy.addresses import parse_url

    key = os.environ.get("ANTHROPIC_API_KEY")
    if not key:
        raise ConfigError([Problem("ANTHROPIC_API_KEY", "", "not set, and --live calls the real API with it")])
    base_url = os.environ.get("ANTHROPIC_BASE_URL") or None
    if base_url is None:
        return RealAPI(key, None)
    try:
        parse_url(base_url)
    except ValueError as exc:
        raise ConfigError([Problem("ANTHROPIC_BASE_URL", "", str(exc))]) from exc
    return RealAPI(key, base_url, names_simulation(base_url))


async def _show(args: argparse.Namespace, stage: Stage, narrator: Narrator) -> int:
    """Bring the stage up, play, stay if asked to, and leave nothing running."""
    import asyncio

    from scopegate.cli import role
    from scopegate.clock import SystemClock
    from scopegate.supervise.restarts import RestartRule
    from scopegate.supervise.supervisor import Supervisor
    from scopegate.tasks import first_of

    stop, hurry = asyncio.Event(), asyncio.Event()
    role.stop_on_signals(asyncio.get_running_loop(), stop, hurry)
    supervisor = Supervisor(
        stage.children, SystemClock(), _DRAIN_S, rule=RestartRule(start_failures=1), ready_s=_START_S
    )
    keeping = asyncio.create_task(supervisor.run(stop, hurry))
    try:
        _, playing = await first_of(asyncio.wait({keeping}), _play(args, stage, supervisor, narrator))
        if playing.cancelled():
            return EXIT_INTERRUPTED if stop.is_set() else _fail(args, stage, "a process could not be kept running")
        code: int = playing.result()
        if not args.once and code == 0:
            _say_where(stage, narrator)
            await keeping
        return code
    finally:
        stop.set()
        await asyncio.wait({keeping})


async def _play(args: argparse.Namespace, stage: Stage, supervisor: Supervisor, narrator: Narrator) -> int:
    from scopegate.clock import SystemClock
    from scopegate.demo import report, story

    names = ", ".join(child.name for child in stage.children)
    narrator.act(f"0  Starting {names}")
    await supervisor.all_ready()
    narrator.say(f"up: gateway http://{stage.gateway}, admin http://{stage.admin}, app http://{stage.app}")
    try:
        outcome = await story.play(stage, narrator, SystemClock())
    except story.StoryBroken as exc:
        return _fail(args, stage, str(exc))
    problems = report.complaints(outcome)
    _conclude(args, narrator, outcome, problems)
    return 1 if problems else 0


def _conclude(args: argparse.Namespace, narrator: Narrator, outcome: StoryResult, problems: list[str]) -> None:
    import json

    from scopegate.demo.report import as_json

    narrator.act("The story came true." if not problems else "The story did not come true:")
    for problem in problems:
        narrator.say(problem)
    if args.json:
        print(json.dumps(as_json(outcome)), flush=True)


def _say_where(stage: Stage, narrator: Narrator) -> None:
    narrator.act("It stays up until Ctrl-C")
    narrator.say(f"the app behind the gateway   http://{stage.gateway}/")
    narrator.say(f"console, metrics             http://{stage.admin}/  token {stage.admin_token}")
    narrator.say(f"the app without the gateway  http://{stage.app}/")
    if stage.claude is not None:
        narrator.say(f"simulated Claude             http://{stage.claude}/  (says there how to make it fail)")
    if stage.live is not None:
        narrator.say(f"model calls go to            {stage.live.words}")
    narrator.say(f"on the command line          SCOPEGATE_STATE_DIR={stage.state / 'scopegate'} scopegate jobs list")


def _fail(args: argparse.Namespace, stage: Stage, why: str) -> int:
    """The story ended before its end: say why, with what the processes had to say. The exit code."""
    import json

    print(f"scopegate demo: {why}", file=sys.stderr)
    _show_logs(stage)
    if args.json:
        print(json.dumps({"failed": [why]}), flush=True)
    return 1


def _show_logs(stage: Stage) -> None:
    from scopegate.demo.stage import tail

    for path in (*stage.logs, stage.state / "logs" / "demo.log"):
        print(f"--- {path.name}\n{tail(path)}", file=sys.stderr)
