"""The database itself: opening, transactions, durability, and what each failure of an engine is called."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text

from scopegate.errors import StoreUnavailable, StoreUnusable
from scopegate.leads.job import JobFilter, OrderState
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs, due_query
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.schema import calls, jobs, orders, schema_version
from tests.engines import running_postgres
from tests.stores.orders import accepted, booked, call, lead, order
from tests.stores.writer import BUDGET

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


# ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_sqlite_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state" / "scopegate.db"
    database = await open_database(f"sqlite+aiosqlite:///{path}")
    await accepted(database)
    assert [mode(path.parent), mode(path), mode(path.with_suffix(".db-wal"))] == ["0o700", "0o600", "0o600"]
    await database.close()


async def test_sqlite_runs_as_its_durability_is_promised(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/x.db")

    def pragmas(conn: Connection) -> list[Any]:
        return [conn.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert await database.write(pragmas) == ["wal", 2, 1]
    assert await database.read(pragmas) == ["wal", 2, 1]
    await database.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///x.db?mode=ro", "plain file"),
        ("mysql://user:hunter2@db/app", "must be sqlite or postgresql, not mysql"),
        ("no url with hunter2", "cannot be read"),
    ],
)
async def test_a_url_that_cannot_be_used_is_said_without_its_secrets(url: str, says: str) -> None:
    with pytest.raises(StoreUnusable, match=says) as caught:
        await open_database(url)
    assert "hunter2" not in str(caught.value)


async def test_opening_again_keeps_everything(database: Database, database_url: str) -> None:
    job = await accepted(database)
    again = await open_database(database_url)
    assert await SqlJobs(again).get(job.job_id) == job
    await again.close()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, much longer than the header of one " * 100)
    with pytest.raises(StoreUnusable, match=r"no SQLite database \(file is not a database\)"):
        await open_database(f"sqlite:///{tmp_path}/x.db")


async def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        await open_database(f"sqlite:///{tmp_path}/file/state/x.db")


def test_postgresql_without_its_driver_names_the_extra() -> None:
    script = (
        "import asyncio, sys; sys.modules['asyncpg'] = None\n"
        "from scopegate.stores.database import open_database\n"
        "asyncio.run(open_database('postgresql://db/app'))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert run.stderr.strip().splitlines()[-1].endswith("pip install 'scopegate[postgres]'")


# ── several processes ───────────────────────────────────────────────────────────────────────────────────────────────


def writer(url: str, name: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.stores.writer", url, str(name), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


async def test_processes_that_start_and_write_at_once_share_one_truth(database_url: str) -> None:
    processes = [writer(database_url, name, 12) for name in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [output[0] for output in outputs] == ["granted"] * 3
    assert sum(int(output[1]) for output in outputs) == 25
    database = await open_database(database_url)
    assert len(await SqlJobs(database).list(JobFilter(limit=1_000))) == 12
    assert await SqlOutbox(database).count(OrderState.ACCEPTED) == 36
    assert await SqlLedger(database).accounts([BUDGET.scope], 0) == {BUDGET.scope: (1_000, 0)}
    await database.close()


async def test_a_new_file_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Of 1200 connections turning new files to WAL eight at a time, 8 got `database is locked` at once."""
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    opening = asyncio.create_task(open_database(f"sqlite:///{tmp_path}/x.db"))
    done, _ = await asyncio.wait({opening}, timeout=0.3)
    assert not done
    os.close(held)
    await (await opening).close()


async def test_every_order_told_stored_is_there_after_a_kill(database_url: str) -> None:
    process = writer(database_url, 0, 0)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    told = [process.stdout.readline().strip() for _ in range(40)][1:]
    process.kill()
    told += process.stdout.read().split()
    process.communicate()
    database = await open_database(database_url)
    assert len(told) >= 39
    assert await SqlOutbox(database).count(OrderState.PENDING) in (len(told), len(told) + 1)
    assert await SqlOutbox(database).overdue(9_999) >= len(told)
    await database.close()


# ── transactions ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_work_raises_rolls_back_and_passes_through(database: Database) -> None:
    def half(conn: Connection) -> None:
        conn.execute(schema_version.update().values(version=77))
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        await database.write(half)
    assert await database.read(lambda conn: conn.scalar(select(schema_version.c.version))) == 2


async def test_a_read_sees_one_moment(database: Database, database_url: str) -> None:
    other = await open_database(database_url)
    loop = asyncio.get_running_loop()
    count = select(func.count()).select_from(schema_version)

    def twice(conn: Connection) -> tuple[int | None, int | None]:
        before = conn.scalar(count)
        write = other.write(lambda conn: conn.execute(insert(schema_version).values(id=2, version=9)))
        if conn.dialect.name == "sqlite":  # this runs in a thread: the loop is free to write meanwhile
            asyncio.run_coroutine_threadsafe(write, loop).result(10)
        else:
            from sqlalchemy.util import await_only

            await_only(write)
        return before, conn.scalar(count)

    assert await database.read(twice) == (1, 1)
    assert await database.read(lambda conn: conn.scalar(count)) == 2
    await other.close()


async def test_a_cancelled_write_happens_whole_or_not_at_all(database: Database) -> None:
    rng = random.Random(3)
    outbox = SqlOutbox(database)
    for n in range(60):
        task = asyncio.create_task(outbox.settle(order(n), OrderState.ACCEPTED, 201, lead(f"lead-{n}")))
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.random() * 0.004)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await outbox.settle(order(999), OrderState.ACCEPTED, 201, lead("lead-after")) is not None

    def counts(conn: Connection) -> list[int | None]:
        return [conn.scalar(select(func.count()).select_from(table)) for table in (orders, jobs)]

    in_orders, in_jobs = await database.read(counts)  # one snapshot: the last cancelled may still commit
    assert in_orders == in_jobs


async def test_what_is_due_is_found_by_its_index(database: Database) -> None:
    await accepted(database)

    def plan(conn: Connection) -> str:
        query = due_query(2_000, 10).compile(conn, compile_kwargs={"literal_binds": True})
        if conn.dialect.name == "sqlite":
            rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
        else:
            conn.execute(text("SET LOCAL enable_seqscan = off"))  # the table is too small to be worth an index
            rows = conn.exec_driver_sql(f"EXPLAIN {query}").all()
        return "\n".join(str(row) for row in rows)

    explained = await database.read(plan)
    assert "ix_jobs_due" in explained
    assert "sort" not in explained.lower().replace("b-tree", "sort")


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "scopegate-test", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_is_called_full_and_passes_when_there_is_room(small_disk: Path) -> None:
    database = await open_database(f"sqlite:///{small_disk}/state/scopegate.db")
    outbox, ledger = SqlOutbox(database), SqlLedger(database)
    first = await accepted(database)
    (small_disk / "filler").write_bytes(b"x" * os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize)
    with pytest.raises(StoreUnavailable) as put:
        for n in range(1_000):
            await outbox.put(order(100 + n))
    with pytest.raises(StoreUnavailable) as settled:
        for n in range(1_000):
            await booked(ledger, call(f"c{n}"))
    assert (put.value.kind, settled.value.kind) == ("full", "full")
    assert await SqlJobs(database).get(first.job_id) == first
    (small_disk / "filler").unlink()
    await outbox.put(order(9_999))
    await booked(ledger, call("after"))
    await database.close()
    again = await open_database(f"sqlite:///{small_disk}/state/scopegate.db")
    assert (await SqlLedger(again).calls())[-1] == call("after")
    await again.close()


async def test_a_read_only_disk_is_called_readonly(small_disk: Path) -> None:
    database = await open_database(f"sqlite:///{small_disk}/scopegate.db")
    await accepted(database)
    await database.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreUnavailable) as caught:
        await accepted(await open_database(f"sqlite:///{small_disk}/scopegate.db"), 2)
    assert caught.value.kind == "readonly"


async def test_postgresql_gone_is_named_and_comes_back() -> None:
    with running_postgres() as server:
        database = await open_database(f"{server.url}&sslmode=disable")
        job = await accepted(database)
        server.stop()
        for kinds in ({"reset", "connect"}, {"connect"}):
            with pytest.raises(StoreUnavailable) as caught:
                await SqlOutbox(database).put(order(2))
            assert caught.value.kind in kinds
        with pytest.raises(StoreUnavailable, match="connect"):
            await open_database(server.url)
        server.start()
        assert await SqlJobs(database).get(job.job_id) == job
        await SqlOutbox(database).put(order(2))
        server.stop()
        server.start()
        await SqlOutbox(database).put(order(3))  # its connections are dead, and nobody was told
        await database.close()


async def test_a_transaction_that_was_killed_is_a_reset(postgres_url: str) -> None:
    database = await open_database(postgres_url)
    with pytest.raises(StoreUnavailable) as caught:
        await database.write(lambda conn: conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")))
    assert caught.value.kind == "reset"
    await database.read(lambda conn: conn.execute(text("SELECT 1")))
    await database.close()


async def test_a_broken_constraint_tells_nothing_of_the_row(database: Database) -> None:
    await booked(SqlLedger(database), call("secret-id"))
    with pytest.raises(StoreUnavailable) as caught:
        row = dict.fromkeys((column.name for column in calls.columns), 0) | {"call_id": "secret-id", "model": "words"}
        await database.write(lambda conn: conn.execute(calls.insert().values(row)))
    assert caught.value.kind == "other"
    assert "secret-id" not in str(caught.value)
