"""Bringing a database to the newest revision, one transaction for each: killed in the middle, the next run goes on.

Several at once take turns, and each looks again when it is its turn. A SQLite file is copied first. Called by
`scopegate migrate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import Connection, func, select

from scopegate.stores import copies, revisions
from scopegate.stores.database import Database, connect, parse_url, take_turns
from scopegate.stores.faults import opening
from scopegate.stores.revisions import Revision
from scopegate.stores.schema import calls, jobs

_PATIENCE_S = 24 * 3600.0
"""How long one revision may take. Whoever waits sees that it runs, and may end it without harm."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: `number` is the revision as it was found, None of a database without tables of ours."""

    number: str | None
    left: tuple[Revision, ...]
    jobs: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Copied:
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Begun:
    revision: Revision


@dataclass(frozen=True, slots=True)
class Done:
    """`by_us` is False where another process was first."""

    revision: Revision
    by_us: bool


Tell: TypeAlias = Callable[[Plan | Copied | Begun | Done], None]


async def look(url: str) -> Plan:
    """What `migrate` would do. Changes nothing, and makes no file; raises as `migrate` does."""
    file = file_of(url)
    if file is not None and not file.exists():
        return Plan(None, tuple(revisions.after(None)))
    database = await connect(url)
    try:
        return await _plan(database)
    finally:
        await database.close()


async def migrate(url: str, told: Tell) -> None:
    """Raises StoreUnusable for what only a person mends, also for a database of a newer revision; StoreError where
    the copy cannot be written; StoreUnavailable."""
    database = await connect(url, _PATIENCE_S, migrates=True)
    try:
        plan = await _plan(database)
        told(plan)
        file = file_of(url)
        if plan.left and plan.number is not None and file is not None:
            told(_copied(file, plan.number))
        for revision in plan.left:
            told(Begun(revision))
            told(Done(revision, await database.write(partial(_applied, number=revision.number))))
    finally:
        await database.close()


async def _plan(database: Database) -> Plan:
    with opening():
        plan = await database.read(_planned)
    if not plan.left and plan.number is not None:
        revisions.demand_newest(plan.number)
    return plan


def _planned(conn: Connection) -> Plan:
    number = revisions.found(conn)
    if number is None:
        return Plan(None, tuple(revisions.after(None)))
    if number not in revisions.known():
        return Plan(number, ())
    sizes = [conn.execute(select(func.count()).select_from(table)).scalar_one() for table in (jobs, calls)]
    return Plan(number, tuple(revisions.after(number)), *sizes)


def _applied(conn: Connection, number: str) -> bool:
    """False when it was done meanwhile."""
    take_turns(conn)
    if (revisions.found(conn) or "") >= number:
        return False
    revisions.apply(conn, number)
    return True


def file_of(url: str) -> Path | None:
    parsed = parse_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def copy_of(file: Path, number: str) -> Path:
    """Where the database is kept as it was at this revision."""
    return file.with_name(f"{file.name}.revision-{number}")


def _copied(file: Path, number: str) -> Copied:
    path = copy_of(file, number)
    return Copied(path, copies.copy(file, path))
