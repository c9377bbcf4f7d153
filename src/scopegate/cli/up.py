"""`scopegate up`: gateway, worker and admin on this machine, with the engines they need when none is configured.

Everything that can be wrong is found before the first process starts: policy, environment, ports, state directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from scopegate.cli import migrate, role
from scopegate.errors import ScopegateError
from scopegate.process import lockfile

if TYPE_CHECKING:
    import socket
    from argparse import _SubParsersAction

    from scopegate.cli.gateway import Ports
    from scopegate.following.leader import Uses
    from scopegate.following.loaded import Loaded
    from scopegate.policy.policy import Origin, Policy
    from scopegate.settings import Settings
    from scopegate.stores.embedded import EmbeddedValkey
    from scopegate.supervise.supervisor import Child

ENGINE = "valkey"
_ROLES = (role.GATEWAY, role.WORKER, role.ADMIN)
_USES: Mapping[str, Uses] = {
    role.WORKER: lambda policy: (policy.ai, policy.offloads, policy.server.timeouts.drain_s),
    role.ADMIN: lambda policy: policy,
}
"""What has to change for a process to be started anew with a changed policy; gateways adopt it as they are."""
_EXAMPLES = """\
examples:
  scopegate up                            gateway.yaml here, state in ./.scopegate
  REDIS_URL=redis://10.0.0.5 scopegate up  with a Redis of yours
"""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound before anything starts: those of the gateway, and the admin port."""

    gateway: Ports
    private: socket.socket


class StateDirTaken(ScopegateError):
    """Another `up` runs on this state directory."""


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "up",
        help="run gateway, worker and admin on this machine",
        description="Run gateway, worker and admin on this machine, supervised, with a Valkey and a database file of "
        "their own unless REDIS_URL and DATABASE_URL say otherwise.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    role.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    reload_early = role.outlive_signals()
    from scopegate.process import pinned

    pinned.check()
    loaded = role.load_all(args.config, _ROLES, join_as=role.SUPERVISOR)
    settings, policy = loaded.settings, loaded.policy
    from scopegate.cli import gateway, ports

    directory = role.state_dir(settings)
    with ExitStack() as held:
        held.enter_context(lock(directory))
        role.demand_database(migrate.UP)
        public = gateway.listen(policy)
        for sock in public.all:
            held.enter_context(sock)
        private = held.enter_context(ports.listen(policy.admin.listen))
        return _supervise(args, loaded, directory, Sockets(public, private), reload_early)


def lock(directory: Path) -> IO[str]:
    """Hold the state directory for this process; the kernel lets go when it ends, however it ends. Raises
    StateDirTaken, or StateDirUnusable when the disk is full or refuses otherwise."""
    with role.using(directory):
        handle = (directory / "up.lock").open("a+", encoding="ascii")
        try:
            return _locked(handle, directory)
        except BaseException:
            with suppress(OSError):  # what could not be written cannot be flushed either
                handle.close()
            raise


def _locked(handle: IO[str], directory: Path) -> IO[str]:
    if not lockfile.try_lock(handle.fileno()):
        handle.seek(0)
        holder = handle.read(20).strip() or "unknown"
        raise StateDirTaken(f"{directory} is in use by another `scopegate up` (pid {holder})")
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    return handle


def _supervise(
    args: argparse.Namespace, loaded: Loaded, directory: Path, sockets: Sockets, reload_early: Callable[[], None]
) -> int:
    from scopegate.clock import SystemClock
    from scopegate.following.leader import Leader, Led
    from scopegate.supervise.supervisor import Supervisor

    settings, policy = loaded.settings, loaded.policy
    with role.using(directory):
        engine = find_engine(settings, directory)
    found = children(args.config, settings, policy, directory, sockets, engine)
    open_logs(found, directory)
    supervisor = Supervisor(
        found,
        SystemClock(),
        policy.server.timeouts.drain_s,
        listens=[*sockets.gateway.all, sockets.private],
        on_exit=role.sweeper(role.metrics_dir(settings)),
    )
    gateways = [child.name for child in found if child.name.startswith(role.GATEWAY)]
    with role.using(directory):
        leader = Leader(loaded, Led(gateways, _USES), supervisor)
    text = announcement(settings, policy, directory, engine)

    def when_ready() -> None:
        print(text, flush=True)
        reload_early()

    return role.supervise(supervisor, args.leash, when_ready, leader.run)


def open_logs(found: Sequence[Child], directory: Path) -> None:
    """Find out now whether the children's output has a place: at their start it would end the supervisor. Raises
    StateDirUnusable."""
    with role.using(directory):
        for child in found:
            if child.output is not None:
                child.output.open("ab").close()


def find_engine(settings: Settings, directory: Path) -> EmbeddedValkey | None:
    """The Valkey to run ourselves: None when REDIS_URL names another, or when there is no binary to run."""
    if settings.redis_url is not None:
        return None
    from scopegate.stores.embedded import EmbeddedValkey

    return EmbeddedValkey.find(directory)


def environment(directory: Path, redis_url: str | None) -> Mapping[str, str]:
    """What the children get: ours, with the engine named. Without DATABASE_URL they find the file in the state
    directory by themselves."""
    env = dict(os.environ) | {"SCOPEGATE_STATE_DIR": str(directory)}
    return env if redis_url is None else env | {"REDIS_URL": redis_url}


def children(
    config: Path,
    settings: Settings,
    policy: Policy,
    directory: Path,
    sockets: Sockets,
    engine: EmbeddedValkey | None,
) -> list[Child]:
    """Gateway first: it is the first to be asked to stop. The engine, which the others need, ends last."""
    from scopegate.cli import gateway
    from scopegate.following.leader import copy_of
    from scopegate.supervise.supervisor import Child

    redis_url = settings.redis_url if engine is None else engine.url
    env = environment(directory, redis_url)
    after = () if engine is None else (ENGINE,)
    workers = gateway.worker_count(policy, shared_limits=redis_url is not None)
    copy = copy_of(directory)
    found = gateway.children(config, sockets.gateway, workers, env, copy, after=after)
    python, fd = (sys.executable, "-P", "-m", "scopegate"), sockets.private.fileno()
    options = ("-c", str(config), "--copy", str(copy))
    found.append(Child(role.WORKER, (*python, role.WORKER, *options), env, after=after))
    found.append(Child(role.ADMIN, (*python, role.ADMIN, *options, "--fd", str(fd)), env, after=after, pass_fds=(fd,)))
    if engine is not None:
        output = directory / "valkey.log"  # its lines are not ours: JSON readers would stumble over them
        found.append(Child(ENGINE, engine.argv, env, ready=engine.wait_ready, ours=False, output=output))
    return found


def announcement(settings: Settings, policy: Policy, directory: Path, engine: EmbeddedValkey | None) -> str:
    """What runs where, for a person. Names no secret and no URL that could hold one."""
    from scopegate.cli import ports

    if settings.redis_url is not None:
        redis = "as REDIS_URL says"
    elif engine is not None:
        redis = f"embedded Valkey, state in {directory}"
    else:
        redis = "none: limits count in memory, jobs are found by the worker's sweep (install scopegate[embedded])"
    database = "as DATABASE_URL says" if settings.database_url is not None else str(directory / "scopegate.db")
    upstreams = ", ".join(f"{origin.scheme}://{origin.authority}" for origin in _origins(policy))
    public, redirect = ports.url(policy.server.listen, tls=bool(policy.server.tls)), policy.server.redirect
    to_https = () if redirect is None else (f"  redirect  {ports.url(redirect.listen)}  ->  port {redirect.port}",)
    return "\n".join(
        [
            f"scopegate is up, policy {policy.digest}",
            f"  gateway   {public}  ->  {upstreams}",
            *to_https,
            f"  admin     {ports.url(policy.admin.listen)}",
            f"  redis     {redis}",
            f"  database  {database}",
            "Ctrl-C stops it.",
        ]
    )


def _origins(policy: Policy) -> list[Origin]:
    return [origin for upstream in policy.upstreams.values() for origin in upstream.servers]
