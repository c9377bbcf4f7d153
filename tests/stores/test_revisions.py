"""The revisions: one line of them, and they make what the tables say, on either engine."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Index, MetaData, Text, inspect, text

from scopegate.errors import StoreUnusable
from scopegate.stores import revisions, schema
from scopegate.stores.database import Database, connect, open_database

FILES = sorted(Path(revisions.__file__).parent.glob("migrations/versions/r*.py"))


def test_the_revisions_are_one_line_in_the_order_of_their_names() -> None:
    config = revisions._config()
    line = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert list(reversed(line)) == revisions.known() == [f"{n:04}" for n in range(1, len(FILES) + 1)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_revision_says_in_a_line_what_it_does_and_reads_nothing_of_ours(path: Path) -> None:
    """The tables of `schema` change, a revision stays what it was."""
    source = path.read_text("utf-8")
    first, second, *_ = source.splitlines()
    assert re.fullmatch(r'"""[A-Z].{10,110}\."""', first)
    assert second == ""
    assert "scopegate" not in source


def differences(conn: Connection) -> list[object]:
    context = MigrationContext.configure(conn, opts={"version_table": revisions.TABLE, "compare_type": True})
    return list(compare_metadata(context, schema.metadata))


async def test_revisions_and_tables_agree(database: Database) -> None:
    assert await database.read(differences) == []


async def test_they_agree_for_a_database_of_any_release(released_url: str) -> None:
    database = await connect(released_url, migrates=True)
    await database.write(partial(revisions.apply, number=revisions.known()[-1]))
    assert await database.read(differences) == []
    await database.close()


async def test_a_column_that_no_revision_makes_is_found(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is one of another type, and an index."""
    changed = MetaData()
    for table in schema.metadata.tables.values():
        table.to_metadata(changed)
    monkeypatch.setattr(schema, "metadata", changed)
    changed.tables["jobs"].c.score.type = Text()
    changed.tables["jobs"].append_column(Column("mood", Text))
    Index("ix_jobs_mood", changed.tables["jobs"].c.mood)
    found = str(await database.read(differences))
    assert all(word in found for word in ("add_column", "add_index", "modify_type"))


def definitions(conn: Connection) -> dict[str, str]:
    """Every index as its engine tells it, with its condition, which Alembic does not compare."""
    if conn.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    found = {row[0]: " ".join(row[1].split()) for row in conn.execute(text(query))}
    return {name: definition for name, definition in found.items() if not name.startswith(revisions.TABLE)}


async def test_indexes_have_the_conditions_that_the_tables_say(database: Database) -> None:
    made = await database.read(definitions)
    assert any("WHERE" in definition for definition in made.values())

    def anew(conn: Connection) -> None:
        schema.metadata.drop_all(conn)
        schema.metadata.create_all(conn)

    await database.write(anew)
    assert await database.read(definitions) == made


async def test_an_empty_database_gets_the_newest_revision(database: Database) -> None:
    assert await database.read(revisions.found) == revisions.known()[-1]


async def test_a_database_of_version_0_1_0_is_known_as_the_first(database: Database) -> None:
    def as_0_1_0(conn: Connection) -> None:
        conn.execute(text(f"DROP TABLE {revisions.TABLE}"))

    await database.write(as_0_1_0)
    assert await database.read(revisions.found) == revisions.FIRST


async def test_programs_of_version_0_1_0_refuse_what_came_after(released_url: str) -> None:
    """They read this number, and compare it with 1."""
    database = await connect(released_url, migrates=True)
    await database.write(partial(revisions.apply, number=revisions.known()[-1]))
    assert await database.read(lambda conn: conn.scalar(text("SELECT version FROM schema_version"))) > 1
    await database.close()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("0001", r"has revision 0001, this program needs \d{4}: .*`scopegate migrate`"),
        ("9999", r"has revision 9999, this program knows \d{4} at most: run the newer program"),
        ("a'b", r"has revision a'b, this program knows"),
    ],
)
async def test_a_database_of_another_revision_is_refused_and_left_alone(
    database: Database, database_url: str, number: str, says: str
) -> None:
    change = text(f"UPDATE {revisions.TABLE} SET version_num = :number")
    await database.write(lambda conn: conn.execute(change, {"number": number}))
    with pytest.raises(StoreUnusable, match=says):
        await open_database(database_url)
    assert await database.read(revisions.found) == number


async def test_tables_of_another_program_are_left_alone(database_url: str) -> None:
    database = await connect(database_url)
    await database.write(lambda conn: conn.execute(text("CREATE TABLE orders (id INTEGER)")))
    with pytest.raises(StoreUnusable, match=r"tables of another program \(orders\)"):
        await open_database(database_url)
    assert await database.read(lambda conn: inspect(conn).get_table_names()) == ["orders"]
    await database.close()


async def test_an_app_may_keep_its_own_tables_and_revisions_beside_ours(database_url: str) -> None:
    database = await connect(database_url)
    await database.write(lambda conn: conn.execute(text("CREATE TABLE alembic_version (version_num TEXT)")))
    await database.write(lambda conn: conn.execute(text("INSERT INTO alembic_version VALUES ('theirs')")))
    await (await open_database(database_url)).close()
    assert await database.read(lambda conn: conn.scalar(text("SELECT version_num FROM alembic_version"))) == "theirs"
    await database.close()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_statements_for_who_runs_them_by_hand(dialect: str) -> None:
    whole = revisions.sql(dialect, None)
    assert "CREATE TABLE jobs" in whole
    assert "UPDATE schema_version SET version = 2" in whole
    rest = revisions.sql(dialect, "0001")
    assert "CREATE TABLE jobs" not in rest
    assert f"UPDATE {revisions.TABLE} SET version_num='{revisions.known()[-1]}'" in rest


def test_a_revision_that_breaks_references_is_not_committed(tmp_path: Path) -> None:
    """Foreign keys are not looked at while tables are replaced, so they are looked at in the end."""
    import asyncio

    async def check() -> None:
        database = await connect(f"sqlite:///{tmp_path}/x.db", migrates=True)
        await database.write(partial(revisions.apply, number="0001"))
        orphan = text("INSERT INTO steps (job_id, step, state) VALUES ('none', 'scope', 'waiting')")
        await database.write(lambda conn: conn.execute(orphan))
        with pytest.raises(AssertionError, match="0002 leaves rows without what they refer to"):
            await database.write(partial(revisions.apply, number="0002"))
        assert await database.read(revisions.found) == "0001"
        await database.close()

    asyncio.run(check())
