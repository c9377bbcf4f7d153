"""`scopegate worker`: the jobs, in this process."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scopegate.cli import role

if TYPE_CHECKING:
    import asyncio
    from argparse import _SubParsersAction
    from collections.abc import Callable

_EPILOG = """\
Without a supervisor it follows the policy file as the gateway does: by itself, on SIGHUP, and by `scopegate reload`.
"""


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "worker", help="run the leads' jobs", description="Run the leads' jobs.", epilog=_EPILOG
    )
    role.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    catch_up = role.outlive_signals()
    loaded = role.load_all(args.config, [role.WORKER], join_as=role.WORKER, copy=args.copy)
    from scopegate import wiring
    from scopegate.following import member as following

    settings, policy = loaded.settings, loaded.policy
    if args.leash is None and policy.offloads:
        role.look_at_database(settings)
    with following.alone(loaded, catch_up) as follow:

        async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await wiring.serve_worker(settings, policy, stop, ready, follow)

        return role.run(serve, args.leash, policy.server.timeouts.drain_s)
