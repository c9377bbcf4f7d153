"""`kill -9` of a supervisor leaves nothing running: neither our own processes nor a program of others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.flows.processes import is_running, left_running

PROGRAM = """
import asyncio, json, os, sys
from scopegate.supervise.supervisor import Child, Supervisor
from scopegate.clock import SystemClock

POLITE = '''
import asyncio, os, sys
from scopegate.cli import role
async def serve(stop, ready):
    ready()
    await stop.wait()
    open(sys.argv[1], "w").write("drained")
sys.exit(role.run(serve, int(sys.argv[-1]), 2.0))
'''
DEAF = '''
import os, sys, threading
from scopegate.supervise.leash import Leash
tied = Leash(int(sys.argv[-1]))
tied.watch(lambda: None, 0.3)
tied.ready()
while True: threading.Event().wait()
'''

async def ready(): pass

def ours(name, code): return Child(name, (sys.executable, "-c", code, sys.argv[1]), dict(os.environ))

async def main():
    program = Child("program", ("/bin/sleep", "600"), dict(os.environ), ready=ready, ours=False)
    supervisor = Supervisor([ours("polite", POLITE), ours("deaf", DEAF), program], SystemClock(), 5)
    running = asyncio.create_task(supervisor.run(asyncio.Event()))
    await supervisor.all_ready()
    print(json.dumps(dict(supervisor.pids())), flush=True)
    await running

asyncio.run(main())
"""


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "note")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert supervisor.stdout is not None
    pids: dict[str, int] = json.loads(supervisor.stdout.readline())
    assert sorted(pids) == ["deaf", "polite", "program"]
    assert all(is_running(pid) for pid in pids.values())
    supervisor.send_signal(signal.SIGKILL)
    assert supervisor.wait(10) == -signal.SIGKILL
    supervisor.stdout.close()
    assert left_running(list(pids.values()), 5) == []
    assert (tmp_path / "note").read_text() == "drained"
