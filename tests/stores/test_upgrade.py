"""From any release to the newest revision: nothing lost, several at once, killed in the middle, and at full size."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from scopegate.errors import StoreUnusable
from scopegate.leads.job import JobFilter, JobState, OrderState
from scopegate.stores import revisions
from scopegate.stores.database import connect, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.upgrade import Begun, Copied, Done, Plan, copy_of, look, migrate
from tests.stores.orders import HOSTILE
from tests.stores.released import RELEASES, lay

NEWEST = revisions.known()[-1]
ROOT = Path(__file__).parents[2]


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def revision_of(url: str) -> str | None:
    database = await connect(url)
    number = await database.read(revisions.found)
    await database.close()
    return number


async def test_a_release_is_refused_until_it_is_migrated(released_url: str) -> None:
    with pytest.raises(StoreUnusable, match="run `scopegate migrate`"):
        await open_database(released_url)
    told: list[Any] = []
    await migrate(released_url, told.append)
    plan, *steps = told
    assert isinstance(plan, Plan)
    assert (plan.number, plan.jobs, plan.calls) == ("0001", 2, 1)
    assert [one.revision.number for one in steps if isinstance(one, Begun)] == [one.number for one in plan.left]
    assert [one.by_us for one in steps if isinstance(one, Done)] == [True] * len(plan.left)
    await (await open_database(released_url)).close()


async def test_nothing_of_a_release_is_lost(released_url: str) -> None:
    await migrate(released_url, lambda event: None)
    database = await open_database(released_url)
    jobs, ledger, outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
    first = await jobs.get("job_first")
    assert first is not None
    assert (first.state, first.error_code, first.lead.text) == (JobState.FAILED, "auth", f"The roof leaks. {HOSTILE}")
    assert list(first.results().values()) == [{"items": [HOSTILE]}]
    assert [attempt.cost_usd_micros for step in first.steps for attempt in step.attempts] == [100]
    assert [job.job_id for job in await jobs.list(JobFilter())] == ["job_again", "job_first"]
    assert [call.cost_usd_micros for call in await ledger.calls()] == [100]
    assert await ledger.accounts(["day:2026-11-24"], 0) == {"day:2026-11-24": (100, 0)}
    assert [await outbox.count(state) for state in (OrderState.PENDING, OrderState.UNREADABLE)] == [1, 1]
    taken = await jobs.lease("job_again", "worker", 5_000, 20_000)
    assert taken is not None
    await database.close()


async def test_looking_changes_nothing(released_url: str, tmp_path: Path) -> None:
    assert [one.number for one in (await look(released_url)).left] == revisions.known()[1:]
    assert await revision_of(released_url) == "0001"
    missing = f"sqlite:///{tmp_path}/none/x.db"
    assert [one.number for one in (await look(missing)).left] == revisions.known()
    assert not (tmp_path / "none").exists()


async def test_a_newer_database_is_refused_and_not_copied(database_url: str) -> None:
    database = await open_database(database_url)
    await database.write(lambda conn: conn.execute(text(f"UPDATE {revisions.TABLE} SET version_num = '9999'")))
    await database.close()
    with pytest.raises(StoreUnusable, match="run the newer program"):
        await migrate(database_url, lambda event: None)
    assert await revision_of(database_url) == "9999"


async def test_an_empty_database_is_made(database_url: str) -> None:
    told: list[Any] = []
    await migrate(database_url, told.append)
    assert not [event for event in told if isinstance(event, Copied)]
    await (await open_database(database_url)).close()
    again: list[Any] = []
    await migrate(database_url, again.append)
    assert again == [Plan(NEWEST, (), 0, 0)]


async def test_a_file_is_copied_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    await lay(url, RELEASES[0])
    before = dump(tmp_path / "x.db")
    told: list[Any] = []
    await migrate(url, told.append)
    (copied,) = [event for event in told if isinstance(event, Copied)]
    assert copied.path == copy_of(tmp_path / "x.db", "0001") == tmp_path / "x.db.revision-0001"
    assert dump(copied.path) == before


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


# ── several at once, and killed ─────────────────────────────────────────────────────────────────────────────────────

MIGRATES = """
import asyncio, sys
from scopegate.stores import revisions, upgrade

def told(event):
    print(type(event).__name__, getattr(event, "by_us", ""), flush=True)

asyncio.run(upgrade.migrate(sys.argv[1], told))
"""


def migrating(url: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", MIGRATES, url], stdout=subprocess.PIPE, text=True, **options)


async def test_several_at_once_apply_each_revision_once(released_url: str) -> None:
    processes = [migrating(released_url) for _ in range(3)]
    outputs = [(await asyncio.to_thread(process.communicate, timeout=60))[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(output.count("Done True") for output in outputs) == len(revisions.known()) - 1
    await (await open_database(released_url)).close()


async def test_killed_in_the_middle_the_next_run_goes_on(released_url: str) -> None:
    """Held at its last revision, after it was applied and before it is committed."""
    script = MIGRATES.replace(
        "asyncio.run(",
        f"apply = revisions.apply\ndef slow(conn, number):\n    apply(conn, number)\n"
        f"    if number == {NEWEST!r}:\n        print('applied', flush=True); sys.stdin.read()\n"
        "revisions.apply = slow\nasyncio.run(",
    )
    command = [sys.executable, "-c", script, released_url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while await asyncio.to_thread(process.stdout.readline) != "applied\n":
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert await revision_of(released_url) == revisions.known()[-2]
    await migrate(released_url, lambda event: None)
    assert await revision_of(released_url) == NEWEST


# ── at full size ────────────────────────────────────────────────────────────────────────────────────────────────────

FILL = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) {insert} FROM n",
    "postgresql": "{insert} FROM generate_series(1, {count}) AS n(n)",
}
INSERT = (
    "INSERT INTO calls SELECT 'call_' || n, 'job_' || (n / 6), 'lead_' || (n / 6), 'roofers', 'scope', 1, 1, "
    "'claude-haiku-5-5', 1700000000000 + n, 900, 'ok', 200, 'req_' || n, 2000, 500, 0, 0, 4500, '2026-11-01', "
    "'2026-11-24'"
)


async def test_many_calls_are_migrated(released_url: str, full: bool) -> None:
    """A million with `--full`; `--durations=2` tells how long."""
    count = 1_000_000 if full else 2_000
    database = await connect(released_url, patience_s=600)

    def fill(conn: Connection) -> None:
        conn.exec_driver_sql(FILL[conn.dialect.name].format(count=count, insert=INSERT).replace("%", "%%"))

    await database.write(fill)
    await database.close()
    told: list[Any] = []
    await migrate(released_url, told.append)
    assert told[0].calls == count + 1
    database = await open_database(released_url)
    assert len(await SqlLedger(database).calls(limit=10)) == 10
    assert await database.read(lambda conn: conn.scalar(text("SELECT count(*) FROM calls"))) == count + 1
    await database.close()
