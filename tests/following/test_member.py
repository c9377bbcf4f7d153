"""One process and the policy it follows: what it adopts, and what it says of that."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scopegate.following import follower, member, source, standing
from scopegate.following.loaded import Loaded
from scopegate.following.member import Following
from scopegate.following.standing import Standing
from scopegate.policy import Policy
from tests.following.files import BROKEN, TEXT, digest, loaded


class Serving:
    """Adopts what it is given, unless there is a fault."""

    def __init__(self) -> None:
        self.adopted: list[str] = []
        self.caught_up = 0
        self.fault: Exception | None = None

    async def adopt(self, policy: Policy) -> None:
        if self.fault is not None:
            raise self.fault
        self.adopted.append(policy.digest)

    def catch_up(self) -> None:
        self.caught_up += 1


@asynccontextmanager
async def following(of: Loaded, serving: Serving) -> AsyncIterator[None]:
    """From when signals are heard."""
    with Following(of, serving.catch_up) as one:
        running = asyncio.create_task(one.run(serving.adopt))
        await until(lambda: serving.caught_up > 0)
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def said(of: Loaded) -> Standing:
    [one] = standing.living(of.directory)
    return one


async def test_alone_it_follows_the_file_and_says_what_it_serves(tmp_path: Path) -> None:
    of, serving = loaded(tmp_path), Serving()
    async with following(of, serving):
        first = said(of)
        assert (first.pid, first.leader, first.config) == (os.getpid(), os.getpid(), str(of.config))
        assert (first.digest, first.outcome, first.heard) == (of.policy.digest, "", 0)
        of.config.write_text(TEXT + "# changed\n")
        await until(lambda: said(of).outcome == "applied")
        newer = digest(TEXT + "# changed\n", tmp_path)
        assert (serving.adopted, said(of).digest) == ([newer], newer)
    assert standing.living(of.directory) == [], "it says nothing once it is gone"
    assert serving.caught_up == 1


async def test_a_broken_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    of, serving = loaded(tmp_path), Serving()
    async with following(of, serving):
        of.config.write_text(BROKEN)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(of).outcome == "refused")
        assert (said(of).digest, said(of).heard) == (of.policy.digest, 1)
        assert any("routez" in problem for problem in said(of).problems)
    assert serving.adopted == []


async def test_what_cannot_be_adopted_is_refused(tmp_path: Path) -> None:
    of, serving = loaded(tmp_path), Serving()
    serving.fault = ValueError("no certificate")
    async with following(of, serving):
        of.config.write_text(TEXT + "# changed\n")
        await until(lambda: said(of).outcome == "refused")
        assert (said(of).digest, said(of).problems) == (
            of.policy.digest,
            ("it could not be applied: no certificate",),
        )


async def test_what_needs_a_new_start_is_told(tmp_path: Path) -> None:
    of, serving = loaded(tmp_path), Serving()
    async with following(of, serving):
        of.config.write_text(TEXT + "server: {listen: 127.0.0.1:8081}\n")
        await until(lambda: said(of).outcome == "applied")
        assert said(of).needs_restart == ("server.listen",)


async def test_under_a_supervisor_it_looks_at_nothing_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LOOK_EVERY_S", 0.01)
    copy = tmp_path / "copy.json"
    of, serving = loaded(tmp_path, copy), Serving()
    of.source.save(copy)
    async with following(of, serving):
        of.config.write_text(TEXT + "# changed\n")
        source.on_disk(of.config).save(copy)
        await asyncio.sleep(0.5)  # fifty looks, if there were any
        assert (said(of).outcome, serving.adopted) == ("", [])


async def test_under_a_supervisor_it_follows_the_copy_when_it_is_told(tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    of, serving = loaded(tmp_path, copy), Serving()
    of.source.save(copy)
    async with following(of, serving):
        assert said(of).leader == os.getppid()
        of.config.write_text(BROKEN)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(of).heard == 1)
        assert (said(of).outcome, serving.adopted) == ("unchanged", []), "the file is none of its business"
        of.config.write_text(TEXT + "# changed\n")
        source.on_disk(of.config).save(copy)
        newer = digest(TEXT + "# changed\n", tmp_path)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(of).heard == 2)
        assert (said(of).outcome, said(of).digest, serving.adopted) == ("applied", newer, [newer])


async def test_a_directory_in_trouble_costs_the_word_and_not_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of, serving = loaded(tmp_path), Serving()
    of.directory.rmdir()
    of.directory.write_text("no directory")
    with caplog.at_level(logging.WARNING):
        async with following(of, serving):
            of.config.write_text(TEXT + "# changed\n")
            await until(lambda: bool(serving.adopted))
    assert "standing.not_kept" in [line.getMessage() for line in caplog.records]


async def test_without_a_supervisor_nobody_replaces_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with following(loaded(tmp_path), Serving()):
            os.kill(os.getpid(), signal.SIGUSR2)
            await until(lambda: "process.not_replaced" in [line.getMessage() for line in caplog.records])


async def test_worker_and_admin_follow_by_themselves_only_where_they_are_alone(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    serving = Serving()
    with member.alone(loaded(tmp_path / "one", tmp_path / "copy.json"), serving.catch_up) as follow:
        assert follow is None
    of = loaded(tmp_path / "two")
    with member.alone(of, serving.catch_up) as follow:
        assert follow is not None
        running = asyncio.create_task(follow(serving.adopt))
        await until(lambda: serving.caught_up == 1)
        assert said(of).digest == of.policy.digest
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
