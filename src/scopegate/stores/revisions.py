"""The revisions of the schema: which there are, which one a database has, and the way from one to the next.

Each is a file of `migrations/versions`; Alembic runs it, and is imported when there is something to run. Works on a
connection that is handed in, within its transaction. Called by `database` for a new database, by `upgrade` for one
that is there already.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, inspect, text

from scopegate.errors import StoreUnusable
from scopegate.stores.schema import metadata

if TYPE_CHECKING:
    from alembic.config import Config

TABLE = "scopegate_revision"
"""Ours, and not Alembic's `alembic_version`: an app may keep its own beside it."""
FIRST = "0001"
"""What version 0.1.0 made, which wrote no revision down."""
_MADE_BY_0_1_0 = "schema_version"
_FOLDER = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Revision:
    """`what` is one line: what is so once it is applied."""

    number: str
    what: str


def known() -> Sequence[str]:
    """The numbers of all revisions, in their order; the last is what this program needs."""
    return sorted(path.name[1:5] for path in (_FOLDER / "versions").glob("r[0-9][0-9][0-9][0-9]_*.py"))


def found(conn: Connection) -> str | None:
    """The revision of this database; None of one that holds nothing of ours."""
    tables = set(inspect(conn).get_table_names())
    if TABLE in tables:
        number: str | None = conn.execute(text(f"SELECT version_num FROM {TABLE}")).scalar()  # noqa: S608 - a constant
        return number
    if _MADE_BY_0_1_0 in tables:
        return FIRST
    if strange := sorted(tables & metadata.tables.keys()):
        names = ", ".join(strange)
        raise StoreUnusable(f"the database has tables of another program ({names}): give scopegate one of its own")
    return None


def demand_newest(number: str) -> None:
    """Raises StoreUnusable for a database of any other revision than the newest, with the command that helps."""
    numbers = known()
    if number not in numbers:
        raise StoreUnusable(
            f"the database has revision {number}, this program knows {numbers[-1]} at most: run the newer program, "
            "or restore a backup from before its first start"
        )
    if number != numbers[-1]:
        raise StoreUnusable(
            f"the database has revision {number}, this program needs {numbers[-1]}: stop what uses it, make a backup, "
            "and run `scopegate migrate`"
        )


def after(number: str | None) -> Sequence[Revision]:
    """What is still to be applied to a database of this revision, in order."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    left = reversed(list(scripts.iterate_revisions("head", number or "base")))
    return [Revision(script.revision, script.doc) for script in left]


def apply(conn: Connection, number: str) -> None:
    """Bring the database to this revision, from whichever earlier one it has."""
    from alembic import command

    config = _config(connection=conn)
    if found(conn) == FIRST and not inspect(conn).has_table(TABLE):
        command.stamp(config, FIRST)
    command.upgrade(config, number)
    if conn.dialect.name == "sqlite" and (broken := conn.exec_driver_sql("PRAGMA foreign_key_check").all()):
        raise AssertionError(f"revision {number} leaves rows without what they refer to: {broken[:3]}")


def sql(dialect: str, number: str | None) -> str:
    """The statements that bring a database of this revision to the newest, for who runs them by hand."""
    from alembic import command

    output = io.StringIO()
    config = _config(dialect=dialect)
    config.output_buffer = output
    command.upgrade(config, f"{number or 'base'}:head", sql=True)
    return output.getvalue()


def _config(**attributes: Any) -> Config:
    from alembic.config import Config

    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
