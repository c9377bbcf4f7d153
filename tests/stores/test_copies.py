"""A copy of a SQLite file: whole while others write, private, without what was deleted, and never half."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from scopegate.errors import StoreError, StoreUnavailable
from scopegate.stores.copies import copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.db"
    with sqlite3.connect(path) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (n INTEGER, twice INTEGER, words TEXT)")
    connection.close()
    return path


def rows(path: Path) -> list[tuple[int, int]]:
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT n, twice FROM t ORDER BY n").fetchall()
    connection.close()
    return found


def test_a_copy_is_private_and_has_what_was_committed(source: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(source, isolation_level=None)
    writer.execute("INSERT INTO t VALUES (1, 2, '')")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO t VALUES (2, 4, '')")
    target = tmp_path / "copy.db"
    assert copy(source, target) == target.stat().st_size
    writer.close()
    assert rows(target) == [(1, 2)]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_copy_is_of_one_moment_while_others_write(source: Path, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        writer = sqlite3.connect(source, timeout=10)
        n = 0
        while not stop.is_set():
            n += 1
            with writer:
                writer.execute("INSERT INTO t VALUES (?, 0, ?)", (n, "x" * 500))
                writer.execute("UPDATE t SET twice = 2 * n WHERE n = ?", (n,))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    copies = [tmp_path / f"copy-{n}.db" for n in range(5)]
    for target in copies:
        copy(source, target)
    stop.set()
    thread.join()
    assert all(twice == 2 * n for target in copies for n, twice in rows(target))
    assert [n for n, _ in rows(copies[-1])] == list(range(1, len(rows(copies[-1])) + 1))


def test_a_copy_holds_nothing_that_was_deleted(source: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute("PRAGMA secure_delete=OFF")
    connection.execute("INSERT INTO t VALUES (1, 2, 'my telephone is 555-0100')")
    connection.execute("DELETE FROM t")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert b"555-0100" in source.read_bytes()
    copy(source, tmp_path / "copy.db")
    assert b"555-0100" not in (tmp_path / "copy.db").read_bytes()


def test_an_earlier_copy_is_replaced_whole(source: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("an earlier one")
    copy(source, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db") == []


def test_an_earlier_copy_stays_when_a_new_one_fails(tmp_path: Path) -> None:
    (tmp_path / "source.db").write_text("no database at all, but longer than a header " * 100)
    (tmp_path / "copy.db").write_text("an earlier one")
    with pytest.raises(StoreUnavailable, match="not a database"):
        copy(tmp_path / "source.db", tmp_path / "copy.db")
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "source.db"]
    assert (tmp_path / "copy.db").read_text() == "an earlier one"


def test_a_place_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/copy.db cannot be written: No such file"):
        copy(source, tmp_path / "nowhere/copy.db")
