"""Health comes up whatever is away, and says since when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scopegate.admin.app import create_admin
from scopegate.errors import StoreUnavailable
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, Reader


class Redis:
    """A part that may be away."""

    def __init__(self) -> None:
        self.is_away = False

    async def ping(self) -> None:
        if self.is_away:
            raise StoreUnavailable("connect", "gone")


async def test_each_part_has_its_state_and_since_when(home: House) -> None:
    redis = Redis()
    app = create_admin(replace(home.sources(), checks={"redis": redis.ping}), None)
    async with house.client(app, headers=HTML) as client:
        well = Reader((await client.get("/health")).text)
        assert "Everything that is looked at is well." in well.text
        assert "redis ok" in well.text
        home.clock.advance(90)
        redis.is_away = True
        text = (await client.get("/health")).text
        home.clock.advance(5)
        later = Reader((await client.get("/health")).text)
    assert text.count('class="tile bad"') == 1
    assert "redis failed" in later.text
    assert "since 2027-01-15 08:01:30 UTC" in later.text
    assert "since 2027-01-15 08:00:00 UTC" in later.text, "the database is as it was"


async def test_it_comes_up_without_the_database(home: House) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            async def fail(*args: object, **more: object) -> None:
                raise StoreUnavailable("connect", "postgres://SECRET")

            return fail

    sources = replace(home.sources(), jobs=Away(), ledger=Away(), outbox=Away())
    async with house.client(create_admin(sources, None), headers=HTML) as client:
        health, jobs = await client.get("/health"), await client.get("/jobs")
    assert health.status_code == 200
    assert "database failed" in Reader(health.text).text
    assert 'class="tile bad"' in health.text
    assert "SECRET" not in health.text
    assert jobs.status_code == 503
