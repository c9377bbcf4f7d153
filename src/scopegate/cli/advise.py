"""`scopegate advise`: limits for each route, from what the clients of an access log did, as YAML to paste."""

from __future__ import annotations

import argparse
import sys
from argparse import _SubParsersAction
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.replay.advice import Proposal
    from scopegate.replay.entries import LogEntry

_PREFIX = "advised-"
_MAX_NAME_CHARS = 63


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    from scopegate.cli.replayed import add_log

    parser = commands.add_parser(
        "advise",
        help="propose limits from an access log",
        description="Propose a limit for each route that all but a few clients of an access log stayed below.",
        epilog="exit codes: 0 proposals made; 1 no log or policy to read, or no request in it",
    )
    add_log(parser)
    parser.add_argument(
        "--policy",
        "-c",
        metavar="FILE",
        type=Path,
        help="whose routes; left out: as a log of ours names them",
    )
    parser.add_argument(
        "--percentile", metavar="P", type=_percentile, default=99.0, help="of clients that stay below, 50 to 100 (99)"
    )
    parser.set_defaults(run=run)


def _percentile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 50 <= value <= 100:
        raise argparse.ArgumentTypeError("is not a number from 50 to 100")
    return value


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.replayed import bad_lines, lines_of
    from scopegate.replay.advice import Survey
    from scopegate.replay.entries import LogReading

    reading, survey, name_of = LogReading(), Survey(), _namer(args.policy)
    with lines_of(args.log) as lines:
        for entry in reading.entries(lines):
            route = name_of(entry)
            if route is not None:
                survey.note(route, entry)
    for sentence in bad_lines(reading):
        print(sentence, file=sys.stderr)
    proposals = list(survey.proposals(args.percentile))
    if not proposals:
        print("scopegate advise: no request in this log", file=sys.stderr)
        return 1
    print("\n".join(as_yaml(proposals, args.percentile)))
    return 0


def _namer(policy: Path | None) -> Callable[[LogEntry], str | None]:
    """The route of a request; None for one that meets none."""
    from scopegate.cli.replayed import policy_at
    from scopegate.replay.routing import Routing

    if policy is None:
        return lambda entry: _name(entry.route)
    routing = Routing(policy_at(policy))

    def name_of(entry: LogEntry) -> str | None:
        route = routing.route_of(entry)
        return None if route is None else route.name

    return name_of


def _name(text: str) -> str | None:
    """A log is written by others: what is no name of a route is none. `all` where a log names no routes."""
    from scopegate.policy.spelling import parse_name

    if not text:
        return "all"
    try:
        return parse_name(text)
    except ValueError:
        return None


def as_yaml(proposals: Iterable[Proposal], percentile: float) -> Iterator[str]:
    yield f"# The busiest minute of each client on each route; {percentile:g} % of the clients stay below the limit."
    yield "tiers:"
    for each in proposals:
        yield from _tier(each, percentile)


def _tier(each: Proposal, percentile: float) -> Iterator[str]:
    from scopegate.replay.advice import FEW_CLIENTS

    share = 100 * each.touched / each.clients
    yield (
        f"  # route {each.route}: median {each.median}, {percentile:g} % {each.high}, most {each.most} in a minute; "
        f"touches {each.touched} of {each.clients} clients ({share:.1f} %)"
    )
    if each.clients < FEW_CLIENTS:
        yield f"  # from {each.clients} clients only: watch it first (mode: watch)"
    yield f"  {(_PREFIX + each.route)[:_MAX_NAME_CHARS]}: {{limit: {each.limit} per 60s, key: client_ip}}"
