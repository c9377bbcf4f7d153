"""What each failure of an engine is called, and which of them no waiting mends."""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from scopegate.errors import StoreUnavailable, StoreUnusable
from scopegate.stores.database import open_database
from scopegate.stores.faults import kind_of, opening, translated
from tests.engines import Postgres, postgres_binary, running_postgres


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    return error


class SqlState(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "full"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), "readonly"),
        (sqlite_error(sqlite3.SQLITE_BUSY), "timeout"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "timeout"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), "connect"),
        (sqlite_error(sqlite3.SQLITE_IOERR), "other"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), "other"),
        (sqlite3.ProgrammingError("closed"), "other"),
        (SqlState("53100"), "full"),
        (SqlState("25006"), "readonly"),
        (SqlState("40P01"), "timeout"),
        (SqlState("55P03"), "timeout"),
        (SqlState("57P01"), "reset"),
        (SqlState("57P03"), "connect"),
        (SqlState("57014"), "timeout"),
        (SqlState("08006"), "reset"),
        (SqlState("28P01"), "connect"),
        (SqlState("42P01"), "other"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "connect"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (FileNotFoundError(errno.ENOENT, "no"), "connect"),
        (PermissionError(errno.EACCES, "no"), "readonly"),
        (OSError(errno.ENOSPC, "no"), "full"),
        (OSError(errno.EROFS, "no"), "readonly"),
        (OSError(errno.EIO, "no"), "other"),
        (DBAPIError("SELECT 1", {}, Exception("connection is closed")), "reset"),
        (DBAPIError("SELECT 1", {}, Exception("odd")), "other"),
        (NoSuchTableError("jobs"), "other"),
        (ValueError("a bug of ours"), None),
        (LookupError("a bug of ours"), None),
    ],
)
def test_every_failure_has_one_name(exc: Exception, kind: str | None) -> None:
    assert kind_of(exc) == kind
    with pytest.raises(type(exc) if kind is None else StoreUnavailable) as caught, translated():
        raise exc
    assert getattr(caught.value, "kind", None) == kind


# ── what no waiting mends ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("exc", "says"),
    [
        (sqlite_error(sqlite3.SQLITE_NOTADB), "the file is no SQLite database"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX), "damaged: restore it from a backup"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), None),
        (sqlite_error(sqlite3.SQLITE_FULL), None),
        (SqlState("28P01"), "refuses the user or the password"),
        (SqlState("28000"), "refuses the user or the password"),
        (SqlState("3D000"), "no such database: create it first"),
        (SqlState("42501"), "the database user may not do that"),
        (SqlState("53300"), None),
        (SqlState("57P03"), None),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "server's name is unknown"),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), None),
        (ssl.SSLCertVerificationError(1, "self-signed"), "does not prove itself"),
        (ConnectionRefusedError(), None),
        (TimeoutError(), None),
    ],
)
def test_at_the_opening_a_lasting_fault_is_told_from_an_outage(exc: Exception, says: str | None) -> None:
    with pytest.raises(StoreUnavailable if says is None else StoreUnusable, match=says), opening(), translated():
        raise exc


@pytest.mark.parametrize("bug", [ValueError("ours"), TypeError("ours"), LookupError("ours")])
def test_a_bug_of_ours_is_no_fault_of_the_database(bug: Exception) -> None:
    with pytest.raises(type(bug), match="ours"), opening(), translated():
        raise bug


@pytest.fixture(scope="module")
def strict_url() -> Iterator[str]:
    """A server that asks for passwords; `visitor` may sign in and create nothing."""
    with running_postgres() as server:
        sql = (
            "ALTER USER app PASSWORD 'right'; CREATE USER visitor PASSWORD 'right'; CREATE DATABASE empty; "
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )
        for statement in sql.split("; "):
            command = [postgres_binary("psql"), "-q", "-h", str(server.folder), "-U", "app", "-d", "postgres"]
            subprocess.run([*command, "-c", statement], check=True, capture_output=True, timeout=30)
        demand_passwords(server)
        yield server.url


def demand_passwords(server: Postgres) -> None:
    (server.folder / "data" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
    server.stop()
    server.start()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("app@", "app:wrong@", "refuses the user or the password"),
        ("app@", "nobody:right@", "refuses the user or the password"),
        ("app@/postgres?", "app:right@/nowhere?", 'no such database: create it first .*"nowhere" does not exist'),
        ("app@/postgres?", "visitor:right@/postgres?", "the database user may not do that"),
        ("app@/postgres?", "app:right@/postgres?colour=red&", "a parameter that the driver does not know"),
    ],
)
async def test_what_only_a_person_mends_is_said_in_a_line_without_the_password(
    strict_url: str, old: str, new: str, says: str
) -> None:
    with pytest.raises(StoreUnusable, match=says) as caught:
        await open_database(strict_url.replace(old, new))
    assert not any(secret in str(caught.value) for secret in ("right", "wrong", "\n"))


async def test_a_name_that_nobody_has_is_said() -> None:
    with pytest.raises(StoreUnusable, match="server's name is unknown"):
        await open_database("postgresql://app:right@no-such-host.invalid/postgres")


async def test_the_right_password_opens(strict_url: str) -> None:
    await (await open_database(strict_url.replace("app@/postgres?", "app:right@/empty?"))).close()


async def test_a_server_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="connect"):
        await open_database(f"postgresql://app@/app?host={tmp_path}")
