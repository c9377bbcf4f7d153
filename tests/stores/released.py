"""Databases as released versions left them: `releases/VERSION.sql`, for either engine. A release adds its own."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

RELEASES = sorted(Path(__file__).with_name("releases").glob("*.sql"))


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
async def released_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """Each released schema on each engine, with rows."""
    await lay(database_url, request.param)
    return database_url


async def lay(url: str, release: Path) -> None:
    """Make an empty database what this release left."""
    script = release.read_text("utf-8")
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with sqlite3.connect(path) as connection:
            connection.executescript(script)
        connection.close()
        return
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()
