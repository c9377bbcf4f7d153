"""`scopegate gateway`: the edge. One process serves here; several are kept by a supervisor and share the socket."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli import role

if TYPE_CHECKING:
    import asyncio
    import socket
    from argparse import _SubParsersAction
    from collections.abc import Callable, Iterator, Mapping

    from scopegate.following.loaded import Loaded
    from scopegate.policy.policy import Policy
    from scopegate.supervise.supervisor import Child


SERVED_MAX_DELAY_S = 1.0
"""How long, at most, the port may be without a process that was killed: the kernel goes on taking connections."""
_EPILOG = """\
SIGHUP reloads the policy, as a change of the file does; SIGTERM drains and stops. With several workers, SIGUSR2
replaces the processes one after another: no connection is refused, no answer cut. A listening socket is taken over
from systemd (socket activation), or with --fd from any parent: then a restart of this process leaves no gap either. A
stop closes our own port at once; such a socket stays open in its owner, and who connects waits for the next start.
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Listening sockets: the public one, and the one that sends visitors to https, where there is one. `ours` when no
    parent keeps them to serve on them again."""

    public: socket.socket
    redirecting: socket.socket | None = None
    ours: bool = True

    @property
    def all(self) -> list[socket.socket]:
        return [self.public] if self.redirecting is None else [self.public, self.redirecting]


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
    parser.add_argument(
        "--redirect-fd", metavar="N", type=int, default=None, help="redirect on this one (see server.redirect)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    reload_early = role.outlive_signals()
    from scopegate.process import pinned

    pinned.check()
    loaded = role.load_all(args.config, [role.GATEWAY], copy=args.copy)
    if args.leash is None and loaded.policy.offloads:
        from scopegate.cli import migrate

        role.demand_database(migrate.ROLE)
    from scopegate.cli import ports

    if args.fd is not None:
        redirecting = None if args.redirect_fd is None else ports.inherited(args.redirect_fd)
        return _serve(args, loaded, Ports(ports.inherited(args.fd), redirecting, ours=False), reload_early)
    policy = loaded.policy
    redirect = policy.server.redirect
    handed = ports.activated(["server.listen"] if redirect is None else ["server.listen", "server.redirect.listen"])
    found = Ports(handed[0], handed[1] if redirect is not None else None, ours=False) if handed else listen(policy)
    workers = worker_count(policy, shared_limits=loaded.settings.redis_url is not None)
    if workers == 1:
        return _serve(args, loaded, found, reload_early)
    return _supervise(args, loaded, found, workers, reload_early)


def listen(policy: Policy) -> Ports:
    """Raises PortUnusable, and holds none then."""
    from scopegate.cli import ports

    with ExitStack() as held:
        public = held.enter_context(ports.listen(policy.server.listen))
        redirect = policy.server.redirect
        found = Ports(public, None if redirect is None else ports.listen(redirect.listen))
        held.pop_all()
    return found


def worker_count(policy: Policy, *, shared_limits: bool) -> int:
    """How many processes serve. Without Redis it is one, whatever the file asks for: each would count by itself and
    admit the whole limit again."""
    wanted = policy.server.workers or _cores()
    if wanted > 1 and not shared_limits:
        from scopegate import logs

        logs.get("gateway").warning(
            "gateway.one_process", asked=wanted, reason="limits are in memory without REDIS_URL"
        )
        return 1
    return wanted


def _cores() -> int:
    """Those that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def names(workers: int) -> list[str]:
    """Of the gateway's processes, as children of a supervisor."""
    return ["gateway"] if workers == 1 else [f"gateway-{n}" for n in range(1, workers + 1)]


def children(
    config: Path,
    ports: Ports,
    workers: int,
    env: Mapping[str, str],
    copy: Path,
    after: tuple[str, ...] = (),
) -> list[Child]:
    """The gateway's processes for a supervisor, which keeps the policy for them at `copy`."""
    from scopegate.supervise.restarts import RestartRule
    from scopegate.supervise.supervisor import Child

    rule = RestartRule(served_max_delay_s=SERVED_MAX_DELAY_S)
    fds = tuple(sock.fileno() for sock in ports.all)
    handed = [word for option, fd in zip(("--fd", "--redirect-fd"), fds, strict=False) for word in (option, str(fd))]
    options = ("-c", str(config), "--copy", str(copy), *handed)
    argv = (sys.executable, "-P", "-m", "scopegate", "gateway", *options)
    return [Child(name, argv, env, after=after, pass_fds=fds, rule=rule) for name in names(workers)]


def _supervise(
    args: argparse.Namespace, loaded: Loaded, ports: Ports, workers: int, reload_early: Callable[[], None]
) -> int:
    role.join(loaded.settings, role.SUPERVISOR)
    from scopegate.clock import SystemClock
    from scopegate.following.leader import Leader, Led, copy_of
    from scopegate.supervise.supervisor import Supervisor

    directory = role.state_dir(loaded.settings)
    supervisor = Supervisor(
        children(args.config, ports, workers, os.environ, copy_of(directory)),
        SystemClock(),
        loaded.policy.server.timeouts.drain_s,
        listens=ports.all if ports.ours else [],
        on_exit=role.sweeper(role.metrics_dir(loaded.settings)),
    )
    with role.using(directory):
        leader = Leader(loaded, Led(names(workers), {}), supervisor)
    return role.supervise(supervisor, args.leash, reload_early, leader.run)


def _serve(args: argparse.Namespace, loaded: Loaded, ports: Ports, reload_early: Callable[[], None]) -> int:
    role.join(loaded.settings, role.GATEWAY)
    from scopegate import wiring
    from scopegate.following.member import Following
    from scopegate.process import heap

    settings, policy = loaded.settings, loaded.policy
    heap.keep_freed_memory()
    with Following(loaded, reload_early) as following:

        async def serve(stop: asyncio.Event, ready: Callable[[], None]) -> None:
            with _closing_at_the_end(ports, stop):
                await wiring.serve_gateway(
                    settings, policy, ports.public, stop, ready, following.run, ports.redirecting
                )

        return role.run(serve, args.leash, policy.server.timeouts.drain_s, uvloop=True)


@contextmanager
def _closing_at_the_end(ports: Ports, stop: asyncio.Event) -> Iterator[None]:
    """Once `stop` is set, ports of ours take no further connection."""
    import asyncio

    from scopegate.process import backlog

    async def close() -> None:
        await stop.wait()
        for sock in ports.all:
            backlog.take_no_more(sock)

    closing = asyncio.create_task(close()) if ports.ours else None
    try:
        yield
    finally:
        if closing is not None:
            closing.cancel()
