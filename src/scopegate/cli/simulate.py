"""`scopegate simulate`: whom a policy would have refused in the traffic of an access log, when, and by which tier."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import _SubParsersAction
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.replay.entries import LogEntry
    from scopegate.replay.judging import Judgement


_WHO = ("client", "route", "tier")


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    from scopegate.cli.replayed import add_log

    parser = commands.add_parser(
        "simulate",
        help="hold a policy against an access log",
        description="Judge the requests of an access log by a policy's limits, and name whom they would have refused.",
        epilog="exit codes: 0 read to the end, whatever was found; 1 no log or no policy to read",
    )
    add_log(parser)
    parser.add_argument("--policy", "-c", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="gateway.yaml")
    parser.add_argument("--top", metavar="N", type=int, default=50, help="rows to show, most refusals first (50)")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every row")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class Refused:
    """Of one client on one route by one tier."""

    count: int
    first_us: int
    last_us: int


@dataclass(slots=True)
class Tally:
    requests: int = 0
    refused: int = 0
    unrouted: int = 0
    first_us: int = 0
    last_us: int = 0
    clients: set[str] = field(default_factory=set)
    rows: dict[tuple[str, str, str], Refused] = field(default_factory=dict)

    def add(self, entry: LogEntry, verdict: Judgement) -> None:
        self.requests += 1
        self.first_us = self.first_us or entry.at_us
        self.last_us = entry.at_us
        self.clients.add(entry.client)
        self.unrouted += not verdict.route
        self.refused += bool(verdict.tiers)
        for tier in verdict.tiers:
            row = self.rows.setdefault((entry.client, verdict.route, tier), Refused(0, entry.at_us, entry.at_us))
            row.count += 1
            row.last_us = entry.at_us

    def by_count(self) -> list[tuple[tuple[str, str, str], Refused]]:
        return sorted(self.rows.items(), key=lambda item: (-item[1].count, item[0]))


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.replayed import bad_lines, lines_of, policy_at
    from scopegate.replay.entries import LogReading
    from scopegate.replay.judging import Replay, untold

    policy = policy_at(args.policy)
    reading, simulation, tally = LogReading(), Replay(policy), Tally()
    with lines_of(args.log) as lines:
        for entry in reading.entries(lines):
            tally.add(entry, simulation.judge(entry))
    if args.json:
        print(json.dumps(as_json(tally, reading.bad, untold(policy)), indent=2))
    else:
        _print(tally, args.top, untold(policy))
    for sentence in bad_lines(reading):
        print(sentence, file=sys.stderr)
    return 0


def as_json(tally: Tally, bad_lines: int, untold: list[str]) -> dict[str, object]:
    by_tier = Counter[tuple[str, str]]()
    for (_, route, tier), row in tally.rows.items():
        by_tier[route, tier] += row.count
    return {
        "requests": tally.requests,
        "refused": tally.refused,
        "unrouted": tally.unrouted,
        "clients": len(tally.clients),
        "bad_lines": bad_lines,
        "not_told": untold,
        "would_limit": [{"route": where[0], "tier": where[1], "count": n} for where, n in sorted(by_tier.items())],
        "rows": [
            dict(zip(("client", "route", "tier"), who, strict=True)) | asdict(row) for who, row in tally.by_count()
        ],
    }


def _print(tally: Tally, top: int, untold: list[str]) -> None:
    from scopegate.cli import tables
    from scopegate.cli.replayed import at

    rows = tally.by_count()
    if rows:
        heads = (*_WHO, "refused", "first", "last")
        cells = [(*who, row.count, at(row.first_us), at(row.last_us)) for who, row in rows[:top]]
        tables.show(heads, cells, right=frozenset({"refused"}))
    if len(rows) > top:
        print(f"and {len(rows) - top} more")
    span = f", {at(tally.first_us)} to {at(tally.last_us)}" if tally.requests else ""
    touched = len({client for client, _, _ in tally.rows})
    print(f"{tally.refused} of {tally.requests} requests refused, {touched} of {len(tally.clients)} clients{span}")
    if tally.unrouted:
        print(f"{tally.unrouted} meet no route")
    if untold:
        print(f"counted as if nobody was signed in or sent what they count by: {', '.join(untold)}")
