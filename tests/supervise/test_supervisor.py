"""The supervisor over real processes: small programs that do one thing each. Time between lives is a manual clock."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from scopegate.clock import ManualClock
from scopegate.supervise.restarts import RestartRule
from scopegate.supervise.supervisor import GRACE_S, Child, Supervisor

TIE = """
import os, signal, sys, time
fd = int(sys.argv[sys.argv.index("--leash") + 1])
here = sys.argv[1]
def ready(): os.write(fd, b"ready\\n")
def note(text):
    with open(here, "a") as f: f.write(text + "\\n")
def on_term(do): signal.signal(signal.SIGTERM, lambda *_: do())
def end(): os.read(fd, 1)
"""

SERVE = TIE + "on_term(lambda: (note('stopped'), sys.exit(0)))\nnote('started')\nready()\nend()\n"
STUBBORN = TIE + "on_term(lambda: note('refused'))\nready()\nnote('started')\nwhile True: time.sleep(60)\n"
FAIL = TIE + "note('started')\nsys.exit(3)\n"
MISCONFIGURED = TIE + "sys.exit(78)\n"


def child(name: str, program: str, notes: Path, *, after: tuple[str, ...] = (), output: Path | None = None) -> Child:
    argv = (sys.executable, "-S", "-c", program, str(notes))
    return Child(name, argv, dict(os.environ), after=after, output=output)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def running(supervisor: Supervisor, body: Callable[[], Awaitable[None]] | None = None) -> tuple[int, list[int]]:
    """Run to readiness, do `body`, stop; the exit code and the pids that ran."""
    stop = asyncio.Event()
    run = asyncio.create_task(supervisor.run(stop))
    await asyncio.wait_for(supervisor.all_ready(), 10)
    pids = list(supervisor.pids().values())
    if body is not None:
        await body()
    stop.set()
    return await asyncio.wait_for(run, 10), pids


async def test_children_stop_on_request_and_the_code_is_0(tmp_path: Path) -> None:
    supervisor = Supervisor([child("a", SERVE, tmp_path / "a"), child("b", SERVE, tmp_path / "b")], ManualClock(), 5)
    code, pids = await running(supervisor)
    assert code == 0
    assert lines(tmp_path / "a") == lines(tmp_path / "b") == ["started", "stopped"]
    assert [pid for pid in pids if is_alive(pid)] == []


async def test_a_child_is_replaced_by_one_that_serves_already(tmp_path: Path) -> None:
    notes = tmp_path / "a"
    supervisor = Supervisor([child("a", SERVE, notes)], ManualClock(), 5)
    pids: list[int] = []

    async def body() -> None:
        pids.append(supervisor.pids()["a"])
        assert await supervisor.replace("a")
        assert lines(notes) == ["started", "started", "stopped"], "the new one first"
        await asyncio.wait_for(until(lambda: supervisor.pids().get("a") not in (None, *pids)), 5)
        pids.append(supervisor.pids()["a"])
        assert not is_alive(pids[0])

    code, _ = await running(supervisor, body)
    assert code == 0
    assert lines(notes)[-1] == "stopped"
    assert not is_alive(pids[1])


async def test_one_that_never_serves_replaces_nobody(tmp_path: Path) -> None:
    once = TIE + (
        "on_term(lambda: (note('stopped'), sys.exit(0)))\n"
        "if os.path.exists(here): note('second'); sys.exit(3)\n"
        "note('started')\nready()\nend()\n"
    )
    supervisor = Supervisor([child("a", once, tmp_path / "a")], ManualClock(), 5)

    async def body() -> None:
        before = supervisor.pids()["a"]
        assert not await supervisor.replace("a")
        assert supervisor.pids()["a"] == before
        assert is_alive(before)

    code, _ = await running(supervisor, body)
    assert code == 0
    assert lines(tmp_path / "a") == ["started", "second", "stopped"]


async def test_a_child_killed_while_it_is_replaced_is_followed_by_the_new_one(tmp_path: Path) -> None:
    slow = TIE + (
        "on_term(lambda: (note('stopped'), sys.exit(0)))\n"
        "if os.path.exists(here): time.sleep(0.5)\n"
        "note('started')\nready()\nend()\n"
    )
    supervisor = Supervisor([child("a", slow, tmp_path / "a")], ManualClock(), 5)

    async def body() -> None:
        before = supervisor.pids()["a"]
        replacing = asyncio.create_task(supervisor.replace("a"))
        await asyncio.wait_for(until(lambda: bool(supervisor._successors)), 5)
        os.kill(before, 9)
        assert await replacing
        await asyncio.wait_for(until(lambda: supervisor.pids().get("a") not in (None, before)), 5)
        assert lines(tmp_path / "a") == ["started", "started"]

    assert (await running(supervisor, body))[0] == 0


async def test_a_stop_in_the_middle_of_a_replacement_leaves_neither(tmp_path: Path) -> None:
    slow = TIE + "on_term(lambda: sys.exit(0))\nif os.path.exists(here): time.sleep(60)\nnote('a')\nready()\nend()\n"
    supervisor = Supervisor([child("a", slow, tmp_path / "a")], ManualClock(), 5)
    pids: list[int] = []
    replacing: list[asyncio.Task[bool]] = []

    async def body() -> None:
        replacing.append(asyncio.create_task(supervisor.replace("a")))
        await asyncio.wait_for(until(lambda: bool(supervisor._successors)), 5)
        pids.extend(process.pid for process in supervisor._processes("a"))

    code, _ = await running(supervisor, body)
    assert (code, len(pids)) == (0, 2)
    assert not await replacing[0]
    assert [pid for pid in pids if is_alive(pid)] == []


async def test_a_restart_on_request_is_no_crash(tmp_path: Path) -> None:
    clock = ManualClock()
    supervisor = Supervisor([child("a", SERVE, tmp_path / "a")], clock, 5)

    async def body() -> None:
        for times in range(2, 9):  # more than may fail to start
            await supervisor.restart("a")
            await asyncio.wait_for(until(partial(_has_started, tmp_path / "a", times)), 5)

    code, _ = await running(supervisor, body)
    assert code == 0
    assert clock.now_ms() == ManualClock().now_ms(), "nothing was waited for"


async def test_one_that_refuses_to_leave_its_place_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([child("a", STUBBORN, tmp_path / "a")], ManualClock(), 0.1, grace_s=0.1)

    async def body() -> None:
        before = supervisor.pids()["a"]
        await supervisor.restart("a")
        assert not is_alive(before)

    await running(supervisor, body)


def _has_started(notes: Path, times: int) -> bool:
    return lines(notes).count("started") == times


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def test_a_child_starts_after_the_ready_one_it_needs_and_ends_before_it(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    both = TIE.replace("here = sys.argv[1]", "here, me = sys.argv[1].split('=')")
    engine = (
        both
        + "on_term(lambda: (note(me + ' stopped'), sys.exit(0)))\n"
        + "time.sleep(0.3)\nnote(me + ' ready')\nready()\nend()\n"
    )
    user = both + "note(me + ' started')\non_term(lambda: (note(me + ' stopped'), sys.exit(0)))\nready()\nend()\n"
    children = [
        Child("user", (sys.executable, "-S", "-c", user, f"{notes}=user"), dict(os.environ), after=("engine",)),
        Child("engine", (sys.executable, "-S", "-c", engine, f"{notes}=engine"), dict(os.environ)),
    ]
    code, _ = await running(Supervisor(children, ManualClock(), 5))
    assert code == 0
    assert lines(notes) == ["engine ready", "user started", "user stopped", "engine stopped"]


async def test_a_crashed_child_is_started_again_after_the_delay(tmp_path: Path) -> None:
    clock, notes = ManualClock(), tmp_path / "a"
    ended: list[int] = []
    supervisor = Supervisor([child("a", SERVE, notes)], clock, 5, on_exit=ended.append)

    async def crash() -> None:
        first = supervisor.pids()["a"]
        os.kill(first, 9)
        while supervisor.pids().get("a", first) == first or len(lines(notes)) < 2:
            await asyncio.sleep(0.01)
        assert ended == [first]

    code, _ = await running(supervisor, crash)
    assert code == 0
    assert clock.slept == [0.5]


async def test_a_child_that_never_becomes_ready_ends_the_whole_with_its_code(tmp_path: Path) -> None:
    clock = ManualClock()
    rule = RestartRule(first_delay_s=1, start_failures=3)
    supervisor = Supervisor(
        [child("good", SERVE, tmp_path / "good"), child("bad", FAIL, tmp_path / "bad")], clock, 5, rule=rule
    )
    assert await asyncio.wait_for(supervisor.run(asyncio.Event()), 10) == 3
    assert lines(tmp_path / "bad") == ["started"] * 3
    assert clock.slept == [1, 2]
    assert supervisor.pids() == {}


async def test_exit_78_ends_all_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    children = [child("good", SERVE, tmp_path / "good"), child("bad", MISCONFIGURED, tmp_path / "bad")]
    assert await asyncio.wait_for(Supervisor(children, clock, 5).run(asyncio.Event()), 10) == 78
    assert clock.slept == []


async def test_a_child_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    silent = TIE + "note(str(os.getpid()))\nwhile True: time.sleep(60)\n"
    supervisor = Supervisor(
        [child("silent", silent, tmp_path / "pid")],
        ManualClock(),
        5,
        rule=RestartRule(start_failures=1),
        ready_s=0.5,
    )
    assert await asyncio.wait_for(supervisor.run(asyncio.Event()), 10) == 137
    assert not is_alive(int(lines(tmp_path / "pid")[0]))


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    ghost = Child("ghost", (str(tmp_path / "nothing"),), dict(os.environ))
    supervisor = Supervisor([ghost], ManualClock(), 5, rule=RestartRule(start_failures=2))
    assert await asyncio.wait_for(supervisor.run(asyncio.Event()), 10) == 127


async def test_a_child_that_uses_the_drain_time_up_has_a_moment_to_settle_the_rest(tmp_path: Path) -> None:
    late = TIE + "on_term(lambda: (time.sleep(0.4), note('settled'), sys.exit(0)))\nready()\nend()\n"
    supervisor = Supervisor([child("late", late, tmp_path / "s")], ManualClock(), 0.2)
    assert (await running(supervisor))[0] == 0
    assert lines(tmp_path / "s") == ["settled"]
    assert supervisor.longest_end_s == 0.2 + 2 * GRACE_S


async def test_ports_of_ours_are_closed_before_children_are_asked_to_end(tmp_path: Path) -> None:
    """This child does not hold the port: so nobody does once we let go, while it takes its time to end."""
    asked = TIE + (
        "import socket\n"
        "def on_stop():\n"
        "    try: socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 0.5); note('taken')\n"
        "    except ConnectionRefusedError: note('refused')\n"
        "    sys.exit(0)\n"
        "on_term(on_stop)\nready()\nend()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as port:
        env = dict(os.environ) | {"PORT": str(port.getsockname()[1])}
        visitor = Child("visitor", (sys.executable, "-S", "-c", asked, str(tmp_path / "v")), env)
        assert (await running(Supervisor([visitor], ManualClock(), 5, listens=[port])))[0] == 0
    assert lines(tmp_path / "v") == ["refused"]


async def test_a_child_may_have_a_rule_of_its_own(tmp_path: Path) -> None:
    clock, notes = ManualClock(), tmp_path / "a"
    eager = replace(child("a", SERVE, notes), rule=RestartRule(first_delay_s=0.25, served_max_delay_s=0.5))
    supervisor = Supervisor([eager], clock, 5)

    async def crash() -> None:
        for times in range(1, 5):
            os.kill(supervisor.pids()["a"], 9)
            await asyncio.wait_for(until(partial(_has_started, notes, times + 1)), 5)
            await asyncio.wait_for(until(lambda: supervisor._running["a"].was_ready), 5)

    assert (await running(supervisor, crash))[0] == 0
    assert clock.slept == [0.25, 0.5, 0.5, 0.5]


async def test_a_child_that_will_not_stop_is_killed_after_the_drain_time(tmp_path: Path) -> None:
    supervisor = Supervisor([child("stubborn", STUBBORN, tmp_path / "s")], ManualClock(), 0.1, grace_s=0.2)

    async def until_deaf() -> None:
        while lines(tmp_path / "s") != ["started"]:
            await asyncio.sleep(0.01)

    code, pids = await running(supervisor, until_deaf)
    assert code == 1
    assert lines(tmp_path / "s") == ["started", "refused"]
    assert not is_alive(pids[0])


async def test_a_second_wish_to_stop_does_not_wait(tmp_path: Path) -> None:
    supervisor = Supervisor([child("stubborn", STUBBORN, tmp_path / "s")], ManualClock(), 600)
    stop, hurry = asyncio.Event(), asyncio.Event()
    run = asyncio.create_task(supervisor.run(stop, hurry))
    await asyncio.wait_for(supervisor.all_ready(), 10)
    stop.set()
    hurry.set()
    assert await asyncio.wait_for(run, 5) == 1
    assert supervisor.pids() == {}


async def test_what_a_child_left_running_ends_with_it(tmp_path: Path) -> None:
    forking = TIE + (
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "note(str(p.pid))\nready()\non_term(lambda: sys.exit(0))\nend()\n"
    )
    code, _ = await running(Supervisor([child("a", forking, tmp_path / "pid")], ManualClock(), 5))
    assert code == 0
    left = int(lines(tmp_path / "pid")[0])
    for _ in range(200):  # nobody reaps it but init: dead is what counts
        if not is_alive(left) or Path(f"/proc/{left}/stat").read_text().split()[2] == "Z":
            return
        await asyncio.sleep(0.01)
    pytest.fail("the grandchild still runs")


async def test_output_goes_to_the_named_file(tmp_path: Path) -> None:
    speaking = TIE + "print('said'); print('wrong', file=sys.stderr)\nsys.stdout.flush()\n" + "ready()\nend()\n"
    output = tmp_path / "log"
    await running(Supervisor([child("a", speaking, tmp_path / "n", output=output)], ManualClock(), 5))
    assert sorted(lines(output)) == ["said", "wrong"]


async def test_a_program_of_others_is_tied_from_outside_and_ready_when_its_question_says_so(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def ready() -> None:
        asked.set()

    sleeper = Child("sleeper", ("/bin/sleep", "600"), dict(os.environ), ready=ready, ours=False)
    code, pids = await running(Supervisor([sleeper], ManualClock(), 5))
    assert asked.is_set()
    assert code == 0
    assert not is_alive(pids[0])


async def test_a_bug_in_keeping_one_child_ends_all(tmp_path: Path) -> None:
    class BrokenClock(ManualClock):
        async def sleep(self, delay_s: float) -> None:
            raise RuntimeError("clock broke")

    children = [child("good", SERVE, tmp_path / "good"), child("bad", FAIL, tmp_path / "bad")]
    assert await asyncio.wait_for(Supervisor(children, BrokenClock(), 5).run(asyncio.Event()), 10) == 1
