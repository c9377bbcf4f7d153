"""`python -m tests.simulation --seeds N`: run seeds on every core, and name those that break something."""

from __future__ import annotations

import argparse
import os
import sys
import time
from multiprocessing import Pool

from tests.simulation.bugs import BUGS
from tests.simulation.run import Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--tell", action="store_true", help="with --seed: print every event")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug, and stop where it is found")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.seed is not None:
        return _say(run(args.seed, tell=args.tell))
    if args.bug is not None:
        with BUGS[args.bug]():
            found = (_say(outcome) for outcome in map(run, range(args.first, args.first + args.seeds)))
            return 0 if any(found) else 1
    return _run_many(range(args.first, args.first + args.seeds), args.processes)


def _run_many(seeds: range, processes: int) -> int:
    began_s, broken, virtual_s = time.monotonic(), 0, 0.0
    with Pool(processes) as pool:
        for n, outcome in enumerate(pool.imap_unordered(run, seeds, chunksize=8), 1):
            broken += _say(outcome)
            virtual_s += outcome.virtual_s
            if n % 1000 == 0 or n == len(seeds):
                took_s = time.monotonic() - began_s
                print(f"{n} seeds, {broken} broken, {took_s:.0f} s, {n / took_s:.1f}/s, {virtual_s / 3600:.1f} h lived")
                sys.stdout.flush()
    return 1 if broken else 0


def _say(outcome: Outcome) -> int:
    """1 for a broken one."""
    for what in outcome.broken:
        print(f"seed {outcome.seed}: {what}", flush=True)
    return int(bool(outcome.broken))


if __name__ == "__main__":
    sys.exit(main())
