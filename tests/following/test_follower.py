"""When a file is read again, what becomes of it, and what is said of that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from scopegate.errors import ConfigError, Problem
from scopegate.following.follower import MOST_LOOKS, Follower, Result, needs_restart
from scopegate.following.stamps import stamp
from scopegate.metrics.labels import ReloadOutcome
from scopegate.policy import Policy, Review
from scopegate.policy.policy import Address, Redirect
from tests.policies import compiled, review

TEXT = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: ANY /**, tier: none}]
"""


class Following:
    """A follower of a real file, and what it did."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.file = folder / "gateway.yaml"
        self.file.write_text(TEXT)
        self.applied: list[str] = []
        self.heard = asyncio.Event()
        self.told: list[tuple[Result, int]] = []
        self.fault: Exception | None = None
        self.beside: tuple[str, ...] = ()
        self.follower = Follower(compiled(TEXT), stamp([str(self.file)]), self.load, self.apply, self.tell, **options)

    def load(self) -> Review:
        found = review(self.file.read_bytes())
        return replace(found, files=(str(self.file), *self.beside))

    async def apply(self, policy: Policy) -> None:
        if self.fault is not None:
            raise self.fault
        self.applied.append(policy.digest)

    async def while_it_runs(self, body: Callable[[], Awaitable[None]]) -> None:
        running = asyncio.create_task(self.follower.run())
        try:
            await body()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.told) < count:
                self.heard.clear()
                await self.heard.wait()

    def tell(self, result: Result, heard: int) -> None:
        self.told.append((result, heard))
        self.heard.set()

    @property
    def outcomes(self) -> list[ReloadOutcome]:
        return [result.outcome for result, _ in self.told]


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("scopegate_reloads_total", {"outcome": outcome}) or 0.0


async def test_a_good_file_is_applied_and_a_bad_one_leaves_everything_as_it_is(tmp_path: Path) -> None:
    one = Following(tmp_path)
    before = {outcome: counted(outcome) for outcome in ReloadOutcome}
    assert (await one.follower.reload()).outcome is ReloadOutcome.UNCHANGED
    one.file.write_text(TEXT + "# changed\n")
    result = await one.follower.reload()
    assert (result.outcome, one.applied) == (ReloadOutcome.APPLIED, [result.digest])
    assert one.follower.serving.digest == result.digest
    one.file.write_text(TEXT + "routez: []\nadmim: {}\n")
    refused = await one.follower.reload()
    assert (refused.outcome, refused.digest) == (ReloadOutcome.REFUSED, result.digest)
    assert [problem.partition(" ")[0] for problem in refused.problems] == ["F:4:1", "F:5:1"]
    assert REGISTRY.get_sample_value("scopegate_policy_stale") == 1
    one.file.write_text(TEXT + "# changed\n")
    assert (await one.follower.reload()).outcome is ReloadOutcome.UNCHANGED
    assert REGISTRY.get_sample_value("scopegate_policy_stale") == 0
    assert one.applied == [result.digest]
    assert {outcome: counted(outcome) - before[outcome] for outcome in ReloadOutcome} == {
        ReloadOutcome.APPLIED: 1,
        ReloadOutcome.REFUSED: 1,
        ReloadOutcome.UNCHANGED: 2,
    }


@pytest.mark.parametrize("fault", [OSError("disk full"), ConfigError([Problem("ca.pem", "", "unreadable")])])
async def test_what_cannot_be_applied_is_refused(tmp_path: Path, fault: Exception) -> None:
    one = Following(tmp_path)
    one.fault = fault
    one.file.write_text(TEXT + "# changed\n")
    result = await one.follower.reload()
    assert (result.outcome, result.problems) == (ReloadOutcome.REFUSED, (f"it could not be applied: {fault}",))
    assert one.follower.serving == compiled(TEXT)
    one.fault = None
    assert (await one.follower.reload()).outcome is ReloadOutcome.APPLIED


async def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    one = Following(tmp_path)
    one.file.unlink()
    assert (await one.follower.reload()).outcome is ReloadOutcome.REFUSED
    assert one.applied == []


async def test_a_request_is_answered_though_nothing_changed_and_counted_once(tmp_path: Path) -> None:
    one = Following(tmp_path, watch=False)

    async def body() -> None:
        one.follower.ask()
        one.follower.ask()
        await one.until(1)
        one.follower.ask()
        await one.until(2)

    await one.while_it_runs(body)
    assert [heard for _, heard in one.told] == [2, 3]
    assert one.outcomes == [ReloadOutcome.UNCHANGED] * 2


async def test_a_changed_file_is_loaded_once_it_rests(tmp_path: Path) -> None:
    one = Following(tmp_path)
    look = one.follower.look
    assert not any(look() for _ in range(3))
    one.file.write_text(TEXT[:40])  # a write in place that is not over
    assert not look()
    one.file.write_text(TEXT + "# whole\n")
    assert [look(), look()] == [False, True]
    await one.follower.reload()
    assert not any(look() for _ in range(3))
    fresh = tmp_path / "fresh"
    fresh.write_text(TEXT + "# another\n")
    fresh.rename(one.file)
    assert [look(), look()] == [False, True]


async def test_a_change_while_the_file_is_read_is_seen(tmp_path: Path) -> None:
    one = Following(tmp_path)
    one.file.write_text(TEXT + "# first\n")
    read = one.load

    def load() -> Review:
        review = read()
        one.file.write_text(TEXT + "# second, longer\n")
        return review

    one.follower._load = load
    await one.follower.reload()
    assert [one.follower.look(), one.follower.look()] == [False, True]


async def test_a_file_named_by_the_policy_is_watched_from_then_on(tmp_path: Path) -> None:
    one = Following(tmp_path)
    schema = tmp_path / "schema.json"
    schema.write_text("{}")
    one.beside = (str(schema),)
    await one.follower.reload()
    assert not any(one.follower.look() for _ in range(3))
    schema.write_text("{ }")
    assert [one.follower.look(), one.follower.look()] == [False, True]


async def test_without_watching_a_change_is_nothing(tmp_path: Path) -> None:
    one = Following(tmp_path, watch=False)
    one.file.write_text(TEXT + "# changed\n")
    assert not any(one.follower.look() for _ in range(3))


async def test_one_that_does_not_speak_for_all_counts_nothing(tmp_path: Path) -> None:
    one = Following(tmp_path, count=False)
    before = counted("unchanged")
    await one.follower.reload()
    assert counted("unchanged") == before


def test_what_only_a_start_applies_is_named() -> None:
    booted = compiled(TEXT)
    redirect = Redirect(Address("127.0.0.1", 3))
    server = replace(booted.server, listen=Address("127.0.0.1", 1), workers=9, redirect=redirect)
    changed = replace(booted, server=server, admin=replace(booted.admin, listen=Address("127.0.0.1", 2)))
    assert needs_restart(booted, changed) == (
        "server.listen", "server.redirect.listen", "server.workers", "admin.listen",
    )  # fmt: skip
    assert needs_restart(booted, compiled(TEXT + "# other\n")) == ()
    assert needs_restart(booted, changed, ["gateway"]) == ("server.listen", "server.redirect.listen", "server.workers")
    assert needs_restart(booted, changed, ["admin"]) == ("admin.listen",)
    assert needs_restart(booted, changed, ["worker"]) == ()
    other = replace(changed, server=replace(server, redirect=replace(redirect, port=8443, webroot="/acme")))
    assert needs_restart(changed, other) == ()


async def test_they_are_named_until_the_start(tmp_path: Path) -> None:
    one = Following(tmp_path)
    one.file.write_text(TEXT + "server: {workers: 3}\n")
    assert (await one.follower.reload()).needs_restart == ("server.workers",)
    assert (await one.follower.reload()).needs_restart == ("server.workers",)
    one.file.write_text(TEXT)
    assert (await one.follower.reload()).needs_restart == ()


async def test_a_file_that_is_never_at_rest_is_read_all_the_same(tmp_path: Path) -> None:
    one = Following(tmp_path)
    for number in range(MOST_LOOKS - 1):
        one.file.write_text(TEXT + f"# {'x' * number}\n")
        assert not one.follower.look(), "it may come to rest"
    one.file.write_text(TEXT + "# and still it changes\n")
    assert one.follower.look()
    await one.follower.reload()
    one.file.write_text(TEXT + "# and goes on\n")
    assert not one.follower.look(), "counted anew"
