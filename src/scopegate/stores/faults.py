"""What the failures of an engine, a driver or its socket mean. Every exception of theirs leaves `database` by way of
this file: as StoreUnavailable, or while it is opened as StoreUnusable where no waiting would mend it.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scopegate.errors import StoreUnavailable, StoreUnusable


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


@contextmanager
def opening() -> Iterator[None]:
    """Around the first use of a database: a fault that lies in its address, its rights or its file is StoreUnusable."""
    try:
        yield
    except StoreUnavailable as outage:
        cause = outage.__cause__ or outage
        mend = _mend(cause)
        if mend is None:
            raise
        raise StoreUnusable(f"{mend} ({_detail(cause)})") from outage
    except TypeError as exc:  # a keyword from the URL's query that the driver's `connect` does not have
        if "keyword argument" not in str(exc):
            raise
        raise StoreUnusable("the database URL has a parameter that the driver does not know") from exc


def kind_of(exc: BaseException) -> StoreUnavailable.Kind | None:
    """What an exception of the engines means, None for one that is none of theirs."""
    cause: BaseException | None = exc.orig if isinstance(exc, DBAPIError) else exc
    if isinstance(cause, sqlite3.Error):
        return _SQLITE_KINDS.get(_sqlite_code(cause), "other")
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


def _mend(exc: BaseException) -> str | None:
    """What a person has to see to, None where waiting may help."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    if isinstance(cause, sqlite3.Error):
        return _SQLITE_MENDS.get(_sqlite_code(cause))
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "the database server does not prove itself"
    if isinstance(cause, socket.gaierror):
        return "the database server's name is unknown" if cause.errno in _NO_SUCH_NAME else None
    sqlstate = getattr(cause, "sqlstate", None)
    if not isinstance(sqlstate, str):
        return None
    return _SQLSTATE_MENDS.get(sqlstate) or _SQLSTATE_MENDS.get(sqlstate[:2])


def _detail(exc: BaseException) -> str:
    """The engine's own first line: never the statement, its parameters or the failing row (DETAIL)."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    lines = str(cause).splitlines()
    return lines[0][:200] if lines else type(cause).__name__


def _sqlite_code(error: sqlite3.Error) -> int:
    """The primary result code, 0 where there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


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
    socket.gaierror: "connect",
}
_ERRNO_KINDS: dict[int, StoreUnavailable.Kind] = {28: "full", 122: "full", 30: "readonly"}  # ENOSPC, EDQUOT, EROFS

_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_SQLITE_MENDS = {
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged: restore it from a backup",
}
_SQLSTATE_MENDS = {
    "28": "the database server refuses the user or the password",
    "3D": "the database server has no such database: create it first",
    "42501": "the database user may not do that",
}
