"""Starts on a database that is not as it should be: 78 and one line, or waiting for what may come back."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing

import pytest

from scopegate.stores import revisions
from tests.engines import postgres_url
from tests.flows.processes import wait_until
from tests.flows.test_separate_roles import offload
from tests.flows.test_up import App, Place, app, place, valkey
from tests.simulated import KEY
from tests.stores.released import RELEASES, lay

__all__ = ["App", "app", "place", "postgres_url", "valkey"]
NEWEST = revisions.known()[-1]


@pytest.fixture
def leads(place: Place) -> Place:
    """With a policy that takes leads, so that every role needs the database."""
    config = place.folder / "gateway.yaml"
    parts = offload("photos", "127.0.0.1:9")
    config.write_text(config.read_text().replace("routes:\n", "routes:\n" + parts["routes"]) + parts["more"])
    return place


def environ(url: str = "") -> dict[str, str]:
    found = {"HOOK_SECRET": "a webhook secret for tests", "ANTHROPIC_API_KEY": KEY}
    found["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9"
    return found | ({"DATABASE_URL": url} if url else {})


NO_HOST = ("postgresql://app:hunter2@no-such-host.invalid/app", "the database server's name is unknown (")
NO_DATABASE = ("{nowhere}", "the database server has no such database: create it first (")
OLD = ("", "the database has revision 0001, this program needs ")


@pytest.mark.parametrize(
    ("role", "url", "says"),
    [("up", *NO_HOST), ("up", *NO_DATABASE), ("gateway", *NO_DATABASE), ("worker", *OLD), ("admin", *OLD)],
)
async def test_what_only_a_person_mends_ends_the_start(
    leads: Place, postgres_url: str, role: str, url: str, says: str
) -> None:
    if not url:
        await lay(f"sqlite:///{leads.folder}/.scopegate/scopegate.db", RELEASES[0])
    url = url.format(nowhere=postgres_url.replace("/postgres?", "/nowhere?"))
    with leads.run(role, environ=environ(url)) as running:
        assert running.process.wait(60) == 78
        (line,) = running.errors.read_text().splitlines()
        assert line.startswith(f"scopegate: {says}")
        assert "hunter2" not in line
        assert not running.pids()


async def test_up_migrates_the_database_of_an_old_release(leads: Place, valkey: None) -> None:
    folder = leads.folder / ".scopegate"
    await lay(f"sqlite:///{folder}/scopegate.db", RELEASES[0])
    with closing(sqlite3.connect(folder / "scopegate.db")) as database, database:
        database.execute("UPDATE jobs SET state = 'failed', finished_ms = 5000")  # nobody shall work on it
    with leads.run(environ=environ()) as running:
        lines = running.first_lines(2 + len(revisions.known()))
        assert lines[0].startswith("the database is at revision 0001, 2 jobs, 1 calls; to do:")
        assert wait_until(lambda: len(running.events("child.ready")) == 4, 60)
        assert running.stop() == 0, running.errors.read_text()
    with closing(sqlite3.connect(folder / "scopegate.db")) as database:
        assert database.execute(f"SELECT version_num FROM {revisions.TABLE}").fetchall() == [(NEWEST,)]
    with closing(sqlite3.connect(folder / "scopegate.db.revision-0001")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchall() == [(2,)]


def test_a_silent_host_is_waited_for_and_holds_up_no_stop(leads: Place) -> None:
    """It takes connections and says nothing. A worker on it took 35 s to end."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"postgresql://app@127.0.0.1:{silent.getsockname()[1]}/app"
        with leads.run("worker", environ=environ(url)) as running:
            assert wait_until(lambda: running.events("worker.store_down"), 90)
            assert running.stop(timeout_s=20) == 0
