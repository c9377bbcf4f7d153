"""The database: opening it, transactions, and what its failures mean. SQLite embedded, PostgreSQL when it grows.

The only file that makes engines and names drivers. `jobs`, `outbox` and `ledger` hand in plain functions of a
SQLAlchemy connection; each runs as one transaction, off the event loop on SQLite, inside the driver's greenlet on
PostgreSQL. Every driver exception leaves here as `faults` translates it.

Durability: a write that returned survives `kill -9` and a power cut (SQLite: WAL with synchronous=FULL, one fsync per
commit; PostgreSQL: its own synchronous_commit). A caller cancelled or timed out in the middle does not know whether
its write happened: it happened whole or not at all. Orders, settlements and results may simply be written again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from scopegate.errors import StoreUnusable
from scopegate.process import lockfile
from scopegate.stores import revisions
from scopegate.stores.faults import opening, translated

T = TypeVar("T")
Transaction = Callable[[Connection], T]

PATIENCE_S = 15.0
"""How long one transaction may take, waiting for its turn included."""
_BUSY_SHARE = 2 / 3
"""Of the patience: how long a writer waits for its turn. The rest is for its work."""
_CONNECT_S = 5.0
_READER_THREADS = 4
_ADVISORY_LOCK = 0x5C09E6A7E
"""Any constant will do, the same in every process (PostgreSQL manual, advisory locks)."""


class Database(Protocol):
    """Transactions. Both verbs raise StoreUnavailable; what `work` raises itself rolls back and passes through."""

    async def write(self, work: Transaction[T]) -> T:
        """Run `work` in a transaction that sees no other writer's half, and commit it."""
        ...

    async def read(self, work: Transaction[T]) -> T:
        """Run `work` on one consistent snapshot; it must not write."""
        ...

    async def scrub(self) -> bool:
        """What was deleted leaves the disk now: SQLite's log is emptied into the file, where zeros stand for it. False
        when a reader held it up. PostgreSQL does it by itself (VACUUM)."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of every connection."""
        ...


async def open_database(url: str) -> Database:
    """Connect; a database that holds nothing yet gets its tables, also when several processes come at once.

    `url` is `sqlite:///PATH` or `postgresql://...`, with or without a driver's name. Raises StoreUnusable for what no
    waiting mends: the URL, its rights, a database of another revision; StoreUnavailable when it cannot be reached.
    """
    database = await connect(url)
    try:
        with opening():
            number = await database.read(revisions.found)
            if number is None:
                number = await database.write(_created)
        revisions.demand_newest(number)
    except BaseException:
        await database.close()
        raise
    return database


async def connect(url: str, patience_s: float = PATIENCE_S, *, migrates: bool = False) -> Database:
    """As `open_database`, whatever the database holds. With `migrates` tables may be replaced by others: SQLite does
    not look at foreign keys then (sqlite.org/lang_altertable.html)."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return await _connect_sqlite(parsed, patience_s, foreign_keys=not migrates)
    return _connect_postgres(parsed, patience_s)


def take_turns(conn: Connection) -> None:
    """Who changes the schema does so alone. SQLite's writers take turns in any case."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})


def _created(conn: Connection) -> str:
    take_turns(conn)
    number = revisions.found(conn)
    if number is None:
        number = revisions.known()[-1]
        revisions.apply(conn, number)
    return number


def parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUnusable("the database URL cannot be read") from None  # its text may hold a password
    backend = {"postgres": "postgresql"}.get(parsed.get_backend_name(), parsed.get_backend_name())
    if backend not in ("sqlite", "postgresql"):
        raise StoreUnusable(f"the database must be sqlite or postgresql, not {backend}")
    return parsed.set(drivername=backend)


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SqliteDatabase:
    """One file. Writers of this process take turns in one thread, writers of other processes at BEGIN IMMEDIATE:
    a transaction that would fail half-way for a lock never starts."""

    def __init__(self, engine: Engine, patience_s: float = PATIENCE_S) -> None:
        self._engine = engine
        self._patience_s = patience_s
        self._writing = engine.execution_options(scopegate_begin="BEGIN IMMEDIATE")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="scopegate-db-write")
        self._readers = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="scopegate-db-read")

    async def write(self, work: Transaction[T]) -> T:
        return await self._in_thread(self._writer, self._writing, work)

    async def read(self, work: Transaction[T]) -> T:
        return await self._in_thread(self._readers, self._engine, work)

    async def scrub(self) -> bool:
        return await self._in_thread(self._writer, self._engine, _empty_log)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    async def _in_thread(self, pool: ThreadPoolExecutor, engine: Engine, work: Transaction[T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(pool, _transact, engine, work)
        with translated():
            async with asyncio.timeout(self._patience_s):
                return await future


def _transact(engine: Engine, work: Transaction[T]) -> T:
    with engine.begin() as conn:
        return work(conn)


async def _connect_sqlite(url: URL, patience_s: float, *, foreign_keys: bool) -> SqliteDatabase:
    if not url.database or url.database == ":memory:" or url.query:
        raise StoreUnusable("a SQLite database needs a plain file: sqlite:///PATH")
    path = Path(url.database)
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_READER_THREADS + 1,
        max_overflow=0,
        connect_args={"timeout": patience_s * _BUSY_SHARE, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_configure_connection, foreign_keys=foreign_keys))
    event.listen(engine, "begin", _begin)
    database = SqliteDatabase(engine, patience_s)
    try:
        with translated():
            _create_file(path)
            lock = await _lock_folder(path.parent)
        try:
            with opening():
                await database.read(_touched)
        finally:
            os.close(lock)
    except BaseException:
        await database.close()
        raise
    return database


def _touched(conn: Connection) -> None:
    """Connected: from here on the file is in WAL."""


def _configure_connection(connection: Any, _record: object, *, foreign_keys: bool) -> None:
    connection.isolation_level = None  # the sqlite3 module begins nothing by itself: `_begin` does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"foreign_keys={foreign_keys:d}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _empty_log(conn: Connection) -> bool:
    """A checkpoint is no part of a transaction; of one that has read nothing yet there is nothing to lose."""
    conn.exec_driver_sql("COMMIT")
    busy: int = conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
    conn.exec_driver_sql("BEGIN")
    return not busy


def _begin(conn: Connection) -> None:
    conn.exec_driver_sql(conn.get_execution_options().get("scopegate_begin", "BEGIN"))


def _create_file(path: Path) -> None:
    """The folder 0700 and the file 0600; SQLite gives its -wal and -shm files the mode of the file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


async def _lock_folder(folder: Path) -> int:
    """An exclusive flock on the folder: turning a new file to WAL has no busy time-out when two do it at once.
    A descriptor on the database file itself would drop SQLite's own locks when closed (sqlite.org/howtocorrupt)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(PATIENCE_S * _BUSY_SHARE):
            while not lockfile.try_lock(descriptor):  # noqa: ASYNC110 - another process holds it: no event of ours can tell
                await asyncio.sleep(0.02)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────────────────


class PostgresDatabase:
    """READ COMMITTED for writes: each guards itself by conditional updates and ordered row locks. REPEATABLE READ for
    reads: one snapshot."""

    def __init__(self, engine: Any, patience_s: float = PATIENCE_S) -> None:
        self._engine = engine
        self._patience_s = patience_s
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def write(self, work: Transaction[T]) -> T:
        return await self._run(self._engine, work)

    async def read(self, work: Transaction[T]) -> T:
        return await self._run(self._reading, work)

    async def _run(self, engine: Any, work: Transaction[T]) -> T:
        with translated():
            async with asyncio.timeout(self._patience_s), engine.begin() as conn:
                result: T = await conn.run_sync(work)
                return result

    async def scrub(self) -> bool:
        return True

    async def close(self) -> None:
        await self._engine.dispose()


def _connect_postgres(url: URL, patience_s: float) -> PostgresDatabase:
    try:
        import asyncpg  # noqa: F401 - SQLAlchemy loads it later, and without saying what to install
        from sqlalchemy.ext.asyncio import create_async_engine
    except ImportError:
        raise StoreUnusable("PostgreSQL needs the extra: pip install 'scopegate[postgres]'") from None
    if "sslmode" in url.query:  # libpq's name for what asyncpg calls `ssl`
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=6,
        pool_timeout=PATIENCE_S * _BUSY_SHARE,
        connect_args={
            "timeout": _CONNECT_S,
            "command_timeout": patience_s,
            "server_settings": {"application_name": "scopegate"},
        },
    )
    return PostgresDatabase(engine, patience_s)


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert(conn: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, in the dialect of `conn`."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
