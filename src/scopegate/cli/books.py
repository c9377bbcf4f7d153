"""What the commands that read or change the database share: settings, opening it, saying so when it cannot be had.

Called by `jobs` and `usage`. Nothing is created: where no database is, none appears.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.clock import Clock, SystemClock
from scopegate.errors import StoreError, StoreUnavailable
from scopegate.leads.job import Action

if TYPE_CHECKING:
    from scopegate.settings import Settings
    from scopegate.stores.ports import JobStore, Ledger, Messenger, OutboxDesk, RetentionStore

EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Books:
    jobs: JobStore
    ledger: Ledger
    outbox: OutboxDesk
    messenger: Messenger
    clock: Clock
    retention: RetentionStore
    actor: str
    """Who gives the command, as far as the system knows."""

    async def record(self, name: str, subject: str, detail: str = "") -> None:
        """That it was done by hand."""
        await self.jobs.record(Action(self.clock.now_ms(), self.actor, name, subject, detail))


def with_books(work: Callable[[Books], Awaitable[int]]) -> int:
    """Run `work` on the database that the environment names; its exit code, or 1 with one clear line on standard error
    when the database cannot be used. Raises ConfigError for a bad environment."""
    from scopegate import settings as environment

    settings = environment.load(os.environ)
    try:
        return asyncio.run(_with(settings, work))
    except StoreUnavailable as fault:
        return complain(f"the database cannot be used now: {fault}")
    except StoreError as fault:
        return complain(str(fault))


def complain(line: str) -> int:
    print(f"scopegate: {line}", file=sys.stderr)
    return EXIT_FAILED


async def _with(settings: Settings, work: Callable[[Books], Awaitable[int]]) -> int:
    async with _opened(settings) as books:
        return await work(books)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Books]:
    from scopegate.stores.database import open_database
    from scopegate.stores.jobs import SqlJobs
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.outbox import SqlOutbox
    from scopegate.stores.retention import SqlRetention

    must_exist(settings.database)
    messenger = _messenger(settings)
    database = await open_database(settings.database)
    try:
        jobs, ledger, outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
        yield Books(jobs, ledger, outbox, messenger, SystemClock(), SqlRetention(database), _actor())
    finally:
        await messenger.close()
        await database.close()


def _actor() -> str:
    """By the user id, which no variable of the environment changes."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def must_exist(url: str) -> None:
    """Opening a SQLite file makes one: to whoever only wants to read, an empty database would be a false answer."""
    scheme, _, path = url.partition("///")
    if scheme.startswith("sqlite") and not Path(path).is_file():
        raise StoreError(f"there is no database at {path}: nothing has run here, or SCOPEGATE_STATE_DIR is another one")


def _messenger(settings: Settings) -> Messenger:
    from scopegate.stores.queue import ArqMessenger, NoMessenger

    return NoMessenger() if settings.redis_url is None else ArqMessenger(settings.redis_url, SystemClock())
