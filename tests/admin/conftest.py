"""A real SQLite database behind the admin application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scopegate.admin.sources import Sources
from scopegate.clock import ManualClock
from scopegate.stores.database import open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.retention import SqlRetention
from tests.admin import house


@dataclass
class House:
    jobs: SqlJobs
    ledger: SqlLedger
    outbox: SqlOutbox
    retention: SqlRetention
    clock: ManualClock

    def sources(self) -> Sources:
        return Sources(house.policy, self.jobs, self.ledger, self.outbox, self.retention, self.clock)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    database = await open_database(f"sqlite:///{tmp_path}/scopegate.db")
    jobs, ledger, outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
    yield House(jobs, ledger, outbox, SqlRetention(database), ManualClock(house.NOW_MS))
    await database.close()
