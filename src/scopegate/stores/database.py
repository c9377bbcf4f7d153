"""The database: opening it, transactions, and what its failures mean. SQLite embedded, PostgreSQL when it grows.

The only file that knows engines and drivers. `jobs`, `outbox` and `ledger` hand in plain functions of a SQLAlchemy
connection; each runs as one transaction, off the event loop on SQLite, inside the driver's greenlet on PostgreSQL.
Every driver exception leaves here as StoreUnavailable.

Durability: a write that returned survives `kill -9` and a power cut (SQLite: WAL with synchronous=FULL, one fsync per
commit; PostgreSQL: its own synchronous_commit). A caller cancelled or timed out in the middle does not know whether
its write happened: it happened whole or not at all. Orders, settlements and results may simply be written again.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scopegate.errors import StoreError, StoreUnavailable
from scopegate.process import lockfile
from scopegate.stores import schema

T = TypeVar("T")
Transaction = Callable[[Connection], T]

PATIENCE_S = 15.0
"""How long one transaction may take, waiting for its turn included."""
_BUSY_S = 10.0
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

    async def close(self) -> None:
        """Finish what is under way and let go of every connection."""
        ...


async def open_database(url: str) -> Database:
    """Connect, and create the tables that are missing; safe when several processes do it at once.

    `url` is `sqlite:///PATH` or `postgresql://...`, with or without a driver's name. Raises StoreError for a URL that
    cannot be used and for a database of a newer version, StoreUnavailable when it cannot be reached.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return await _open_sqlite(parsed)
    return await _open_postgres(parsed)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("the database URL cannot be read") from None  # its text may hold a password
    backend = {"postgres": "postgresql"}.get(parsed.get_backend_name(), parsed.get_backend_name())
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"the database must be sqlite or postgresql, not {backend}")
    return parsed.set(drivername=backend)


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SqliteDatabase:
    """One file. Writers of this process take turns in one thread, writers of other processes at BEGIN IMMEDIATE:
    a transaction that would fail half-way for a lock never starts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(scopegate_begin="BEGIN IMMEDIATE")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="scopegate-db-write")
        self._readers = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="scopegate-db-read")

    async def write(self, work: Transaction[T]) -> T:
        return await _in_thread(self._writer, self._writing, work)

    async def read(self, work: Transaction[T]) -> T:
        return await _in_thread(self._readers, self._engine, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()


async def _in_thread(pool: ThreadPoolExecutor, engine: Engine, work: Transaction[T]) -> T:
    future = asyncio.get_running_loop().run_in_executor(pool, _transact, engine, work)
    with translated():
        async with asyncio.timeout(PATIENCE_S):
            return await future


def _transact(engine: Engine, work: Transaction[T]) -> T:
    with engine.begin() as conn:
        return work(conn)


async def _open_sqlite(url: URL) -> SqliteDatabase:
    if not url.database or url.database == ":memory:" or url.query:
        raise StoreError("a SQLite database needs a plain file: sqlite:///PATH")
    path = Path(url.database)
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_READER_THREADS + 1,
        max_overflow=0,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure_connection)
    event.listen(engine, "begin", _begin)
    database = SqliteDatabase(engine)
    try:
        with translated():
            _create_file(path)
            lock = await _lock_folder(path.parent)
        try:
            await database.write(_create_missing)
        finally:
            os.close(lock)
    except BaseException:
        await database.close()
        raise
    return database


def _configure_connection(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the sqlite3 module begins nothing by itself: `_begin` does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


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
        async with asyncio.timeout(_BUSY_S):
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

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def write(self, work: Transaction[T]) -> T:
        return await self._run(self._engine, work)

    async def read(self, work: Transaction[T]) -> T:
        return await self._run(self._reading, work)

    async def _run(self, engine: Any, work: Transaction[T]) -> T:
        with translated():
            async with asyncio.timeout(PATIENCE_S), engine.begin() as conn:
                result: T = await conn.run_sync(work)
                return result

    async def close(self) -> None:
        await self._engine.dispose()


async def _open_postgres(url: URL) -> PostgresDatabase:
    try:
        import asyncpg  # noqa: F401 - SQLAlchemy loads it later, and without saying what to install
        from sqlalchemy.ext.asyncio import create_async_engine
    except ImportError:
        raise StoreError("PostgreSQL needs the extra: pip install 'scopegate[postgres]'") from None
    if "sslmode" in url.query:  # libpq's name for what asyncpg calls `ssl`
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=6,
        pool_timeout=_BUSY_S,
        connect_args={
            "timeout": _CONNECT_S,
            "command_timeout": PATIENCE_S,
            "server_settings": {"application_name": "scopegate"},
        },
    )
    database = PostgresDatabase(engine)
    try:
        await database.write(_create_missing)
    except BaseException:
        await database.close()
        raise
    return database


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_missing(conn: Connection) -> None:
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    found = None
    if inspect(conn).has_table(schema.schema_version.name):
        found = conn.scalar(select(schema.schema_version.c.version))
    if found is None:
        schema.metadata.create_all(conn)
        conn.execute(schema.schema_version.insert().values(id=1, version=schema.SCHEMA_VERSION))
    elif found > schema.SCHEMA_VERSION:
        raise StoreError(
            f"the database has version {found}, this program knows {schema.SCHEMA_VERSION}: run the newer program"
        )


def insert(conn: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, in the dialect of `conn`."""
    return postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)


@contextmanager
def translated() -> Iterator[None]:
    """Turns every exception of an engine, a driver or its socket into StoreUnavailable; others pass."""
    try:
        yield
    except Exception as exc:
        kind = kind_of(exc)
        if kind is None:
            raise
        raise StoreUnavailable(kind, _detail(exc)) from exc


def kind_of(exc: BaseException) -> StoreUnavailable.Kind | None:
    """What an exception of the engines means, None for one that is none of theirs."""
    cause: BaseException | None = exc.orig if isinstance(exc, DBAPIError) else exc
    if isinstance(cause, sqlite3.Error):
        return _SQLITE_KINDS.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, "other")
    if isinstance(cause, TimeoutError | PoolTimeout):
        return "timeout"
    sqlstate = getattr(cause, "sqlstate", None)
    if isinstance(sqlstate, str):
        return _SQLSTATE_KINDS.get(sqlstate) or _SQLSTATE_KINDS.get(sqlstate[:2], "other")
    if isinstance(cause, OSError):
        return _OS_KINDS.get(type(cause), _ERRNO_KINDS.get(cause.errno or 0, "other"))
    if isinstance(exc, DBAPIError):
        return "reset" if exc.connection_invalidated or "connection" in str(cause).lower() else "other"
    return "other" if isinstance(exc, SQLAlchemyError) else None


def _detail(exc: BaseException) -> str:
    """The engine's own first line: never the statement, its parameters or the failing row (DETAIL)."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    lines = str(cause).splitlines()
    return lines[0][:200] if lines else type(cause).__name__


_SQLITE_KINDS: dict[int, StoreUnavailable.Kind] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_BUSY: "timeout",
    sqlite3.SQLITE_LOCKED: "timeout",
    sqlite3.SQLITE_CANTOPEN: "connect",
    sqlite3.SQLITE_PERM: "readonly",
}
_SQLSTATE_KINDS: dict[str, StoreUnavailable.Kind] = {
    "53100": "full",
    "53300": "connect",  # too many connections
    "25006": "readonly",
    "40001": "timeout",  # serialization failure, deadlock, lock and statement time-outs: the same call may succeed
    "40P01": "timeout",
    "55P03": "timeout",
    "57014": "timeout",
    "57P03": "connect",  # starting up
    "57": "reset",
    "08": "reset",
    "28": "connect",  # wrong user or password
    "3D": "connect",  # no such database
}
_OS_KINDS: dict[type[OSError], StoreUnavailable.Kind] = {
    ConnectionRefusedError: "connect",
    ConnectionResetError: "reset",
    BrokenPipeError: "reset",
    FileNotFoundError: "connect",
    PermissionError: "readonly",
}
_ERRNO_KINDS: dict[int, StoreUnavailable.Kind] = {28: "full", 122: "full", 30: "readonly"}  # ENOSPC, EDQUOT, EROFS
