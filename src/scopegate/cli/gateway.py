"""`scopegate gateway`: the edge. One process serves here; several are kept by a supervisor and share the socket."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli import role

if TYPE_CHECKING:
    import asyncio
    import socket
    from argparse import _SubParsersAction
    from collections.abc import Callable, Mapping

    from scopegate.cli.supervisor import Child
    from scopegate.policy.policy import Policy
    from scopegate.settings import Settings


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "gateway", help="serve the public port", description="Serve the public port in front of the app."
    )
    role.add_options(parser)
    role.add_socket_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings, policy = role.load(args.config, [role.GATEWAY])
    from scopegate.cli import ports

    if args.fd is not None:
        return _serve(args, settings, policy, ports.inherited(args.fd))
    sock = ports.listen(policy.server.listen)
    workers = worker_count(policy, shared_limits=settings.redis_url is not None)
    if workers == 1:
        return _serve(args, settings, policy, sock)
    return _supervise(args, settings, policy, sock, workers)


def worker_count(policy: Policy, *, shared_limits: bool) -> int:
    """How many processes serve. Without Redis it is one, whatever the file asks for: each would count by itself and
    admit the whole limit again."""
    wanted = policy.server.workers or os.cpu_count() or 1
    if wanted > 1 and not shared_limits:
        from scopegate import logs

        logs.get("gateway").warning(
            "gateway.one_process", asked=wanted, reason="limits are in memory without REDIS_URL"
        )
        return 1
    return wanted


def children(
    config: Path, sock: socket.socket, workers: int, env: Mapping[str, str], after: tuple[str, ...] = ()
) -> list[Child]:
    """The gateway's processes for a supervisor."""
    from scopegate.cli.supervisor import Child

    fd = sock.fileno()
    argv = (sys.executable, "-P", "-m", "scopegate", "gateway", "-c", str(config), "--fd", str(fd))
    names = ["gateway"] if workers == 1 else [f"gateway-{n}" for n in range(1, workers + 1)]
    return [Child(name, argv, env, after=after, pass_fds=(fd,)) for name in names]


def _supervise(args: argparse.Namespace, settings: Settings, policy: Policy, sock: socket.socket, workers: int) -> int:
    from scopegate.cli.supervisor import Supervisor
    from scopegate.clock import SystemClock

    supervisor = Supervisor(
        children(args.config, sock, workers, os.environ),
        SystemClock(),
        policy.server.timeouts.drain_s,
        on_exit=role.sweeper(role.metrics_dir(settings)),
    )
    return role.supervise(supervisor, args.leash)


def _serve(args: argparse.Namespace, settings: Settings, policy: Policy, sock: socket.socket) -> int:
    role.join(settings, role.GATEWAY)
    from scopegate import wiring

    async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
        await wiring.serve_gateway(settings, policy, args.config, sock, stop, ready)

    return role.run(serve, args.leash, policy.server.timeouts.drain_s, uvloop=True)
