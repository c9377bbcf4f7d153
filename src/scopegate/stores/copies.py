"""Copies of a SQLite file: whole and consistent, also while others write to it, and without what was deleted in it.

Called by `upgrade` before it changes anything, and by `scopegate backup`.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from scopegate.errors import StoreError
from scopegate.stores.faults import translated

_BUSY_S = 60.0


def copy(source: Path, target: Path) -> int:
    """Make `target` a copy of the database `source`, 0600, in place of what was there; its size in bytes.

    It appears under its name when it is complete and on the disk. Raises StoreError where `target` cannot be written,
    StoreUnavailable as `faults` translates."""
    growing = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        with translated():
            _write(source, growing)
        size = _settle(growing, target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        growing.unlink(missing_ok=True)
    return size


def _write(source: Path, growing: Path) -> None:
    """VACUUM INTO takes an empty file as none (sqlite.org/lang_vacuum.html), and leaves its mode alone."""
    connection = sqlite3.connect(source, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("VACUUM INTO ?", (str(growing),)).close()
    finally:
        connection.close()


def _settle(growing: Path, target: Path) -> int:
    """On the disk first, then under its name, then the name on the disk."""
    with growing.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    growing.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size
