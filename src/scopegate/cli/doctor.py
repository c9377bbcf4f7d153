"""`scopegate doctor`: everything around a policy that a start needs and a day's work wears out, one line each with its
mend. Changes nothing, and sends nothing that costs money.

What can be seen here is in `machine`, what others are asked in `outside`.
"""

from __future__ import annotations

import argparse
import json
import os
from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from scopegate.cli.diagnosis import Diagnosis
    from scopegate.errors import Problem
    from scopegate.policy.policy import Policy
    from scopegate.settings import Settings

EXIT_WELL, EXIT_ILL = 0, 1


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what is wrong around the policy, and its mend",
        description="Look at environment, extras, policy, disk, ports, processes, proxies, Redis, clock, database, "
        "apps and the Claude key. Each gets a line, with its mend where one is due.",
        epilog="exit codes: 0 nothing failed (warnings allowed), 1 something did",
    )
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.diagnosis import State, as_lines

    found = list(diagnoses(args.config))
    ill = any(one.state is State.FAILED for one in found)
    if args.json:
        print(json.dumps({"ok": not ill, "diagnoses": [one.to_json() for one in found]}, indent=2))
    else:
        print("\n".join(as_lines(found)))
    return EXIT_ILL if ill else EXIT_WELL


def diagnoses(config: Path) -> Iterator[Diagnosis]:
    """What depends on the environment or the policy is left out where that cannot be read."""
    from scopegate.cli.role import usable_settings

    settings, problems = usable_settings(os.environ)
    policy = yield from _policy(config)
    yield from _environment(settings, policy, problems)
    yield from _of_machine(settings, policy)
    yield from _of_others(settings, policy)


def _policy(config: Path) -> Generator[Diagnosis, None, Policy | None]:
    from scopegate.cli.check import review_of
    from scopegate.cli.diagnosis import failed, ok

    try:
        review = review_of(config, os.environ)
    except ConfigError as fault:
        yield failed("policy", str(fault), "name it with -c")
        return None
    if review.policy is None:
        first = review.problems[0]
        yield failed("policy", f"{len(review.problems)} problems, the first: {first}", f"`scopegate check {config}`")
        return None
    warned = f", {len(review.warnings)} warnings (`scopegate check`)" if review.warnings else ""
    yield ok("policy", f"{config}, {review.policy.digest}, {len(review.policy.routes)} routes{warned}")
    return review.policy


def _environment(settings: Settings, policy: Policy | None, problems: Sequence[Problem]) -> Iterator[Diagnosis]:
    from scopegate.cli import role
    from scopegate.cli.diagnosis import failed, ok

    lacking = [] if policy is None else role.missing(settings, policy, (role.GATEWAY, role.WORKER, role.ADMIN))
    for one in (*problems, *lacking):
        yield failed("environment", str(one), f"set or correct {one.where} (docs/running.md lists the names)")
    if not problems and not lacking:
        yield ok("environment", "every variable can be read, and none is missing")


def _of_machine(settings: Settings, policy: Policy | None) -> Iterator[Diagnosis]:
    from scopegate.cli import machine

    yield machine.extras(settings)
    yield machine.disk(settings)
    if policy is not None:
        yield machine.worker(settings, policy)
        yield from machine.ports(settings, policy)
        yield machine.proxies(policy)


def _of_others(settings: Settings, policy: Policy | None) -> Iterator[Diagnosis]:
    import asyncio

    from scopegate.cli import outside

    yield from asyncio.run(outside.redis(settings))
    yield asyncio.run(outside.database(settings))
    if policy is not None:
        yield from asyncio.run(outside.upstreams(policy))
        yield from asyncio.run(outside.claude(settings, policy))
