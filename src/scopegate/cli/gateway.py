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

    from scopegate.cli.role import Loaded
    from scopegate.cli.supervisor import Child
    from scopegate.policy.policy import Policy


_EPILOG = """\
SIGHUP reloads the policy, as a change of the file does; SIGTERM drains and stops. With several workers, SIGUSR2
replaces the processes one after another: no connection is refused, no answer cut. A listening socket is taken over
from systemd (socket activation), or with --fd from any parent: then a restart of this process leaves no gap either.
"""


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "gateway",
        help="serve the public port",
        description="Serve the public port in front of the app.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    role.add_options(parser)
    role.add_socket_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate import pinned

    pinned.check()
    loaded = role.load_all(args.config, [role.GATEWAY], copy=args.copy)
    from scopegate.cli import ports

    if args.fd is not None:
        return _serve(args, loaded, ports.inherited(args.fd))
    policy = loaded.policy
    sock = ports.activated() or ports.listen(policy.server.listen)
    workers = worker_count(policy, shared_limits=loaded.settings.redis_url is not None)
    if workers == 1:
        return _serve(args, loaded, sock)
    return _supervise(args, loaded, sock, workers)


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


def names(workers: int) -> list[str]:
    """Of the gateway's processes, as children of a supervisor."""
    return ["gateway"] if workers == 1 else [f"gateway-{n}" for n in range(1, workers + 1)]


def children(
    config: Path,
    sock: socket.socket,
    workers: int,
    env: Mapping[str, str],
    copy: Path,
    after: tuple[str, ...] = (),
) -> list[Child]:
    """The gateway's processes for a supervisor, which keeps the policy for them at `copy`."""
    from scopegate.cli.supervisor import Child

    fd = sock.fileno()
    options = ("-c", str(config), "--copy", str(copy), "--fd", str(fd))
    argv = (sys.executable, "-P", "-m", "scopegate", "gateway", *options)
    return [Child(name, argv, env, after=after, pass_fds=(fd,)) for name in names(workers)]


def _supervise(args: argparse.Namespace, loaded: Loaded, sock: socket.socket, workers: int) -> int:
    role.join(loaded.settings, role.SUPERVISOR)
    from scopegate.cli.leader import Leader, Led, copy_of
    from scopegate.cli.supervisor import Supervisor
    from scopegate.clock import SystemClock

    directory = role.state_dir(loaded.settings)
    supervisor = Supervisor(
        children(args.config, sock, workers, os.environ, copy_of(directory)),
        SystemClock(),
        loaded.policy.server.timeouts.drain_s,
        on_exit=role.sweeper(role.metrics_dir(loaded.settings)),
    )
    with role.using(directory):
        leader = Leader(loaded, args.config, [role.GATEWAY], Led(names(workers), {}), supervisor)
    return role.supervise(supervisor, args.leash, beside=leader.run)


def _serve(args: argparse.Namespace, loaded: Loaded, sock: socket.socket) -> int:
    role.join(loaded.settings, role.GATEWAY)
    from scopegate import heap, wiring
    from scopegate.cli.following import Following

    settings, policy = loaded.settings, loaded.policy
    heap.keep_freed_memory()
    with Following(loaded, args.config, args.copy, role.GATEWAY) as following:

        async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
            await wiring.serve_gateway(settings, policy, sock, stop, ready, following.run)

        return role.run(serve, args.leash, policy.server.timeouts.drain_s, uvloop=True)
