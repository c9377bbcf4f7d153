"""The demo app's own database: the leads it took and what came back about them. It knows nothing of scopegate."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from scopegate.types import Json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leads (
  id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, name TEXT NOT NULL, email TEXT NOT NULL,
  contractor_slug TEXT NOT NULL, project_description TEXT NOT NULL, photos TEXT NOT NULL,
  analysis TEXT, score INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS deliveries (webhook_id TEXT PRIMARY KEY, received_ms INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class LeadRecord:
    """A lead as the app keeps it. `analysis` and `score` are None until they arrive; `photos` are addresses."""

    id: str
    created_ms: int
    name: str
    email: str
    contractor_slug: str
    project_description: str
    photos: tuple[str, ...]
    analysis: Json = None
    score: int | None = None


class Records:
    """One SQLite file; made by `opened`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._db = connection
        self._writing = asyncio.Lock()  # one connection, one transaction at a time

    async def put(self, lead: LeadRecord) -> None:
        photos = json.dumps(lead.photos)
        values = (lead.id, lead.created_ms, lead.name, lead.email, lead.contractor_slug, lead.project_description)
        async with self._writing:
            await self._db.execute("INSERT INTO leads VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)", (*values, photos))
            await self._db.commit()

    async def get(self, lead_id: str) -> LeadRecord | None:
        async with self._db.execute("SELECT * FROM leads WHERE id = ?", (lead_id,)) as rows:
            row = await rows.fetchone()
        if row is None:
            return None
        key, created_ms, name, email, slug, text, photos, analysis, score = row
        found = None if analysis is None else json.loads(analysis)
        return LeadRecord(key, created_ms, name, email, slug, text, tuple(json.loads(photos)), found, score)

    async def take_delivery(
        self, webhook_id: str, now_ms: int, lead_id: str, *, analysis: Json = None, score: int | None = None
    ) -> str:
        """Store what a webhook brought, once per `webhook_id`: `stored`, `duplicate`, or `unknown lead`."""
        async with self._writing:
            try:
                outcome = await self._store(webhook_id, now_ms, lead_id, analysis, score)
                if outcome == "stored":
                    await self._db.commit()
            finally:
                await self._db.rollback()  # nothing to undo after a commit
        return outcome

    async def _store(self, webhook_id: str, now_ms: int, lead_id: str, analysis: Json, score: int | None) -> str:
        taken = await self._db.execute(
            "INSERT INTO deliveries VALUES (?, ?) ON CONFLICT DO NOTHING", (webhook_id, now_ms)
        )
        if taken.rowcount == 0:
            return "duplicate"
        text = None if analysis is None else json.dumps(analysis)
        updated = await self._db.execute(
            "UPDATE leads SET analysis = coalesce(?, analysis), score = coalesce(?, score) WHERE id = ?",
            (text, score, lead_id),
        )
        return "stored" if updated.rowcount else "unknown lead"

    async def is_well(self) -> bool:
        async with self._db.execute("SELECT 1") as rows:
            return await rows.fetchone() == (1,)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Records]:
    """The records in this file, made when absent; closed at the end."""
    async with aiosqlite.connect(path) as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.executescript(_SCHEMA)
        yield Records(connection)
