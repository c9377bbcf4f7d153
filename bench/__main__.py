"""`make bench`: what one proxied request costs, in CPU microseconds, here and in nginx, HAProxy and Caddy.

One run, one machine: peers take turns, round after round, so that a change of the machine's mood meets all of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from bench.load import LOADS, Load
from bench.peers import PEERS, Peer, Site
from bench.report import Sample, table
from bench.stage import measure, running, upstream


def main(argv: list[str] | None = None) -> int:
    args = _parse(argv)
    missing = [tool for tool in ("wrk", "nginx") if shutil.which(tool) is None]
    if missing:
        print(f"bench needs {' and '.join(missing)} on PATH (Debian: apt-get install wrk nginx-light)", file=sys.stderr)
        return 2
    peers = [peer for peer in PEERS if peer.name in args.peers and peer.is_here()]
    absent = [peer.name for peer in PEERS if peer.name in args.peers and not peer.is_here()]
    loads = [load for load in LOADS if load.name in args.loads]
    if absent:
        print(f"not installed here: {', '.join(absent)}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="scopegate-bench-") as folder:
        samples = _run(peers, loads, args, Path(folder))
    print(table(samples, [peer.name for peer in peers]))
    return 0


def _run(peers: list[Peer], loads: list[Load], args: argparse.Namespace, folder: Path) -> list[Sample]:
    samples: list[Sample] = []
    with upstream(folder) as app:
        site = Site(folder, app)
        for load in loads:
            with running(peers, site) as started:
                for turn in range(args.rounds):
                    for peer in started:
                        sample = measure(peer, load, args.seconds, turn)
                        samples.append(sample)
                        print(sample, file=sys.stderr, flush=True)
    return samples


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [load.name for load in LOADS]
    parser.add_argument("--rounds", type=int, default=5, help="turns of every peer (%(default)s)")
    parser.add_argument("--seconds", type=int, default=3, help="of load per turn (%(default)s)")
    parser.add_argument("--loads", nargs="+", choices=names, default=[names[0]], help="(%(default)s)")
    parser.add_argument("--all", dest="loads", action="store_const", const=names, help="every load")
    known = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=known, default=known, help="(all that are installed)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
