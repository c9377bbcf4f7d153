"""What a supervisor does about its children's policy, over a real supervisor and real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scopegate.clock import SystemClock
from scopegate.following.leader import Leader, Led, Uses, copy_of
from scopegate.following.loaded import Loaded
from scopegate.following.source import copied
from scopegate.following.standing import Standing, living
from scopegate.policy.policy import Policy
from scopegate.supervise.supervisor import Child, Supervisor
from tests.following.files import BROKEN, TEXT, digest, loaded
from tests.following.test_member import until
from tests.supervise.test_supervisor import SERVE, TIE, child, lines

SHOP = TEXT.replace("/**", "/shop/**")

GATEWAY = (
    TIE
    + """
from pathlib import Path
from scopegate.following.source import copied
from scopegate.following.standing import Post, Standing
config, copy = Path(sys.argv[2]), Path(sys.argv[3])
post = Post(copy.parent.parent).__enter__()
def say(*_):
    digest = copied(config, copy).examine({}, lenient=False).policy.digest
    post.say(Standing(os.getpid(), os.getppid(), str(config), digest, 1))
    note(digest)
signal.signal(signal.SIGHUP, lambda *_: (time.sleep(0.3), say()))
on_term(lambda: (post.__exit__(None, None, None), sys.exit(0)))
say()
ready()
end()
"""
)
"""A child that says which policy the copy holds, at its start and, a while later, whenever it is told."""


def gateway(of: Loaded, notes: Path) -> Child:
    argv = (sys.executable, "-c", GATEWAY, str(notes), str(of.config), str(copy_of(of.directory)))
    return Child("gateway", argv, dict(os.environ))


@pytest.fixture
def of(tmp_path: Path) -> Loaded:
    return loaded(tmp_path)


def mine(of: Loaded) -> Standing:
    """What the leader says of itself."""
    [said] = [one for one in living(of.directory) if one.pid == os.getpid()]
    return said


def hup(of: Loaded, text: str) -> None:
    """Have the file read again, with this in it."""
    of.config.write_text(text)
    os.kill(os.getpid(), signal.SIGHUP)


@asynccontextmanager
async def led(
    of: Loaded,
    children: Sequence[Child],
    gateways: Sequence[str] = (),
    others: Mapping[str, Uses] | None = None,
) -> AsyncIterator[Supervisor]:
    """Children that serve, with their leader in this process."""
    supervisor, stop = Supervisor(children, SystemClock(), 5), asyncio.Event()
    leader = Leader(of, Led(gateways, others or {}), supervisor)
    running = asyncio.create_task(supervisor.run(stop))
    leading = asyncio.create_task(leader.run())
    try:
        async with asyncio.timeout(30):
            await supervisor.all_ready()
            await until(lambda: any(one.pid == os.getpid() for one in living(of.directory)))
            yield supervisor
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        stop.set()
        await running


def kept(of: Loaded) -> Policy:
    """What the copy means."""
    found = copied(of.config, copy_of(of.directory)).examine({}, lenient=False).policy
    assert found is not None
    return found


async def test_the_copy_is_there_before_any_child(of: Loaded) -> None:
    Leader(of, Led([], {}), Supervisor([], SystemClock(), 5))
    of.config.write_text(BROKEN)
    assert kept(of) == of.policy


async def test_all_gateways_serve_a_policy_before_it_is_called_applied(of: Loaded, tmp_path: Path) -> None:
    notes, newer = tmp_path / "notes", digest(SHOP, tmp_path)
    async with led(of, [gateway(of, notes)], ["gateway"]):
        assert (mine(of).leader, mine(of).processes) == (os.getpid(), 1)
        hup(of, SHOP)
        await until(lambda: mine(of).heard == 1)
        assert (mine(of).outcome, mine(of).digest) == ("applied", newer)
        assert [one.digest for one in living(of.directory)] == [newer, newer]
        assert lines(notes)[0] == of.policy.digest
        assert set(lines(notes)[1:]) == {newer}
        assert kept(of).digest == newer


async def test_a_bad_file_reaches_nobody(of: Loaded, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with led(of, [gateway(of, notes)], ["gateway"]):
        hup(of, BROKEN)
        await until(lambda: mine(of).outcome == "refused")
        assert (mine(of).digest, kept(of)) == (of.policy.digest, of.policy)
        assert lines(notes) == [of.policy.digest], "it was told nothing"


async def test_only_who_uses_what_changed_is_started_anew(of: Loaded, tmp_path: Path) -> None:
    children = [child("worker", SERVE, tmp_path / "worker"), child("admin", SERVE, tmp_path / "admin")]
    uses: dict[str, Uses] = {
        "worker": lambda policy: [route.pattern for route in policy.routes],
        "admin": lambda policy: policy.admin,
    }
    twice = ["started", "stopped", "started"]
    async with led(of, children, others=uses):
        hup(of, SHOP)
        await until(lambda: lines(tmp_path / "worker") == twice)
        assert lines(tmp_path / "admin") == ["started"]
        hup(of, SHOP.replace("9900", "9901"))
        await until(lambda: lines(tmp_path / "admin") == twice)
        assert lines(tmp_path / "worker") == twice


async def test_gateways_are_replaced_one_after_another(of: Loaded, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    children = [child("gateway-1", SERVE, notes), child("gateway-2", SERVE, notes)]
    async with led(of, children, ["gateway-1", "gateway-2"]) as supervisor:
        before = supervisor.pids()
        os.kill(os.getpid(), signal.SIGUSR2)
        await until(lambda: len(lines(notes)) == 6)
        assert lines(notes) == ["started", "started", *["started", "stopped"] * 2]
        await until(lambda: len(supervisor.pids()) == 2 and not set(before.values()) & set(supervisor.pids().values()))
