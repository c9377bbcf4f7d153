"""`make bench`: what one proxied request costs, in CPU microseconds, here and in other proxies.

One run, one machine: peers take turns, round after round, so that a change of the machine's mood meets all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import node, peers, quota, report
from bench.goals import goals
from bench.load import LOADS, REAL, Load
from bench.report import Sample
from bench.sections import SECTIONS, Section
from bench.stage import BenchError, Stage, measure, running, stage, warm_up

QUICK = ("loads", "redis", "routes-pattern", "workers")


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    if args.install_peers and not node.install():
        print("the Node peers could not be installed: npm is missing or failed", file=sys.stderr)
        return 2
    missing = [tool for tool in ("wrk", "nginx", "taskset") if not peers.has(tool)]
    if missing:
        print(f"bench needs {' and '.join(missing)} on PATH (Debian: apt-get install wrk nginx-light)", file=sys.stderr)
        return 2
    chosen = [_narrowed(section, args) for section in SECTIONS if section.name in args.sections]
    sections = [section for section in map(_as_possible, chosen) if section]
    samples: list[Sample] = []
    broken = None
    try:
        _run(sections, args, samples)
    except BenchError as error:
        broken = error
    print(_text(sections, samples, args.seed, with_goals=args.goals))
    if broken:
        print(broken, file=sys.stderr)
        return 2
    return 1 if report.failed(samples) else 0


def _as_possible(section: Section) -> Section | None:
    """Without control groups, more workers can only be measured where there are cores to spare."""
    if not section.cores_each or quota.possible():
        return section
    cores = os.cpu_count() or 1
    if cores < 4:
        print(f"{section.name}: needs control groups (root) or four cores", file=sys.stderr)
        return None
    return replace(section, cores_each=0.0, title=f"Two processes against one, on {cores} cores as they are")


def _narrowed(section: Section, args: argparse.Namespace) -> Section:
    """Only peers that are here and were asked for, only loads that were asked for."""
    wanted = [peer for peer in section.peers if section.name != "loads" or peer.name in args.peers]
    absent = [peer.name for peer in wanted if not peer.is_here()]
    if absent:
        hint = "; `--install-peers` brings those on Node" if {"fastify", "express"} & set(absent) else ""
        hint += "; `make compiled` makes the compiled build" if any(map(_is_compiled, absent)) else ""
        print(f"{section.name}: not installed here: {', '.join(absent)}{hint}", file=sys.stderr)
    loads = section.loads
    if section.name == "loads":
        loads = tuple(load for load in loads if load.name in args.loads)
    elif args.quick:
        loads = loads[:1]
    return replace(section, peers=tuple(peer for peer in wanted if peer.name not in absent), loads=loads)


def _is_compiled(peer: str) -> bool:
    return peer.startswith("scopegate") and "pure" not in peer


def _run(sections: Sequence[Section], args: argparse.Namespace, samples: list[Sample]) -> None:
    """Adds to `samples`, so that what was measured is there when a run breaks off."""
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx as root gives its workers to another user
        with stage(Path(folder), redis=peers.has("redis-server")) as ground:
            for section in sections:
                for load in section.loads:
                    _turns(ground, section, load, args, samples)


def _turns(ground: Stage, section: Section, load: Load, args: argparse.Namespace, samples: list[Sample]) -> None:
    """One load: all peers fresh, then round after round each of them once."""
    with running(section.peers, ground.site, pinned=section.pinned, cores_each=section.cores_each) as started:
        memories = [warm_up(one, load, args.warm_up, args.seed) for one in started]
        for turn in range(args.rounds):
            for one, memory in zip(started, memories, strict=True):
                sample = measure(ground, section.name, one, load, args.seconds, turn, args.seed, memory)
                samples.append(sample)
                print(sample, file=sys.stderr, flush=True)


def _text(sections: Sequence[Section], samples: Sequence[Sample], seed: int, *, with_goals: bool) -> str:
    parts = [f"{_machine()}, seed {seed}", "\n".join(_notes(sections))]
    parts += [f"## {section.title}\n\n{report.table(samples, section.name)}" for section in sections]
    if with_goals:
        parts.append("## Goals\n\n" + "\n".join(f"- {goal}" for goal in goals(samples)))
    return "\n\n".join(parts)


def _machine() -> str:
    model = next((line.split(": ")[1] for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, load {os.getloadavg()[0]:.2f} at the end"


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text("utf-8").splitlines()


def _notes(sections: Sequence[Section]) -> list[str]:
    """A line per peer: its version, and what it leaves out of the job."""
    families: dict[str, peers.Peer] = {}
    for peer in (peer for section in sections for peer in section.peers):
        families.setdefault(peer.name.partition(",")[0], peer)
    return [
        f"- {name} {peer.version()}" + (f"; leaves out: {peer.lacks}" if peer.lacks else "")
        for name, peer in families.items()
    ]


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    loads, sections = [load.name for load in LOADS], [section.name for section in SECTIONS]
    known = [peer.name for peer in SECTIONS[0].peers]
    parser.add_argument("--rounds", type=int, default=5, help="turns of every peer (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="of load per turn (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds before a peer's first turn (%(default)s)")
    parser.add_argument("--sections", nargs="+", choices=sections, default=[sections[0]], help="(%(default)s)")
    parser.add_argument("--loads", nargs="+", choices=loads, default=[REAL.name], help="of the first section")
    parser.add_argument("--peers", nargs="+", choices=known, default=known, help="of the first section")
    parser.add_argument("--seed", type=int, default=None, help="of requests that draw lots (drawn anew, and printed)")
    parser.add_argument("--all", action="store_true", help="every section, every load")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a second per turn, one turn, one load each")
    parser.add_argument("--goals", action="store_true", help="hold the run against what was promised")
    parser.add_argument("--install-peers", action="store_true", help="bring the peers on Node first (npm)")
    args = parser.parse_args(argv)
    if args.seed is None:
        args.seed = secrets.randbelow(1_000_000)
    if args.all:
        args.sections, args.loads = sections, loads
    if args.quick:
        args.rounds, args.seconds, args.warm_up = 1, 1, 1
        args.sections, args.loads = list(QUICK), [REAL.name]
    return args


if __name__ == "__main__":
    raise SystemExit(main())
