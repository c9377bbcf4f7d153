"""`scopegate admin`: console, metrics and health, in this process."""

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
        "admin",
        help="serve console, metrics and health",
        description="Serve console, metrics and health.",
        epilog=_EPILOG,
    )
    role.add_options(parser)
    role.add_socket_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    catch_up = role.outlive_signals()
    from scopegate.process import pinned

    pinned.check()
    loaded = role.load_all(args.config, [role.ADMIN], join_as=role.ADMIN, copy=args.copy)
    from scopegate import wiring
    from scopegate.cli import ports
    from scopegate.following import member as following

    settings, policy = loaded.settings, loaded.policy
    if args.leash is None:
        role.look_at_database(settings)
    sock = ports.inherited(args.fd) if args.fd is not None else ports.listen(policy.admin.listen)
    with following.alone(loaded, catch_up) as follow:

        async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await wiring.serve_admin(settings, policy, sock, stop, ready, follow, loaded.config, loaded.copy)

        return role.run(serve, args.leash, policy.server.timeouts.drain_s)
