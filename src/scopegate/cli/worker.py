"""`scopegate worker`: the jobs, in this process."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scopegate.cli import role

if TYPE_CHECKING:
    import asyncio
    from argparse import _SubParsersAction
    from collections.abc import Callable


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("worker", help="run the leads' jobs", description="Run the leads' jobs.")
    role.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings, policy = role.load(args.config, [role.WORKER], join_as=role.WORKER, copy=args.copy)
    from scopegate import wiring

    async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
        await wiring.serve_worker(settings, policy, stop, ready)

    return role.run(serve, args.leash, policy.server.timeouts.drain_s)
