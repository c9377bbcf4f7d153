"""Worker processes that a test may kill: `python -m tests.flows.worker_process FOLDER CLAUDE_URL APP LEASE_S`.

The real Worker on the folder's SQLite file, with a short lease so that a test need not wait long for the next holder.
Loading the SDK takes seconds, so one process loads it and forks a worker for each `start` that it reads; the answer
is the worker's pid once it serves. `kill PID` and `stop PID` end one (SIGKILL, SIGTERM) and answer with its exit code.
When standard input ends, so do all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from pydantic import SecretStr

from scopegate.clock import SystemClock
from scopegate.stores.database import open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.outbox import SqlOutbox
from scopegate.worker.claude import ClaudeCaller
from scopegate.worker.deliver import Courier
from scopegate.worker.fetch import PhotoFetcher
from scopegate.worker.life import Life
from scopegate.worker.main import Starts, Terms, Worker
from scopegate.worker.metered import MeteredClaude
from scopegate.worker.prices import load
from scopegate.worker.steps import Steps
from tests.simulated import KEY
from tests.worker.house import Breakers, ai, offload


async def serve(folder: str, claude_url: str, app: str, lease_s: float, ready: Callable[[], None]) -> None:
    clock, policy, stop = SystemClock(), ai(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = await open_database(f"sqlite:///{folder}/scopegate.db")
    caller = ClaudeCaller(SecretStr(KEY), claude_url)
    jobs, ledger = SqlJobs(database), SqlLedger(database)
    model = MeteredClaude(caller, ledger, Breakers(), load(), policy, clock, lambda: 0.5)
    life = Life(jobs, Steps(model, PhotoFetcher(), Courier(clock), clock), policy.budgets, clock, lambda: 0.5)
    terms = Terms({"lead-photos": offload(app)}, life)
    worker = Worker(
        jobs,
        SqlOutbox(database),
        ledger,
        Starts(MemoryLimits(clock), MemoryLimits(clock)),
        lambda: terms,
        clock,
        owner=str(os.getpid()),
        lease_s=lease_s,
        renew_s=lease_s / 3,
        sweep_s=0.1,
    )
    ready()
    await worker.serve(stop, drain_s=lambda: 1)
    await caller.close()
    await database.close()


def start(folder: str, claude_url: str, app: str, lease_s: str) -> int:
    """The pid of a forked worker that serves."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(serve(folder, claude_url, app, float(lease_s), lambda: os.close(writing)))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    os.read(reading, 1)  # its end: the worker has closed it, or is dead
    os.close(reading)
    return pid


def main() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        word, *pids = line.split()
        if word == "start":
            pid = start(*sys.argv[1:])
            alive.add(pid)
            answer = pid
        else:
            pid = int(pids[0])
            alive.remove(pid)
            os.kill(pid, signal.SIGKILL if word == "kill" else signal.SIGTERM)
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for pid in alive:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
