"""The database of a simulation: the project's own queries on SQLite in memory, behind a door that fails.

One transaction runs whole, at one moment, as on engines whose transactions are serializable. What fails is what the
caller hears of it: refused before, lost afterwards (it is committed, and nobody says so), or so slow that the caller
has gone. Triggers watch what no query of the project may do, whichever comes: they write it down, and hinder nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from scopegate.errors import StoreUnavailable
from scopegate.stores.database import PATIENCE_S, Transaction
from scopegate.stores.faults import translated
from scopegate.stores.schema import metadata
from tests.simulation.loop import OUTSIDE, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
_SOMETHING = object()

_WATCHES = {
    "a finished step changed": (
        "BEFORE UPDATE ON steps WHEN OLD.state = 'done' AND (NEW.state <> 'done' OR NEW.result IS NOT OLD.result)",
        "OLD.job_id || ' ' || OLD.step",
    ),
    "an attempt of a finished step": (
        "BEFORE INSERT ON attempts WHEN EXISTS (SELECT 1 FROM attempts a WHERE a.job_id = NEW.job_id"
        " AND a.step = NEW.step AND a.state = 'done')",
        "NEW.job_id || ' ' || NEW.step",
    ),
    "two attempts of a job at once": (
        "BEFORE INSERT ON attempts WHEN EXISTS"
        " (SELECT 1 FROM attempts a WHERE a.job_id = NEW.job_id AND a.state = 'running')",
        "NEW.job_id || ' ' || NEW.step",
    ),
    "an ended attempt changed": (
        "BEFORE UPDATE ON attempts WHEN OLD.state <> 'running' AND NEW.state <> OLD.state",
        "OLD.job_id || ' ' || OLD.step || ' ' || OLD.n",
    ),
    "a final job changed": (
        "BEFORE UPDATE ON jobs WHEN OLD.finished_ms IS NOT NULL AND (NEW.state <> OLD.state"
        " OR NEW.finished_ms IS NOT OLD.finished_ms)",
        "OLD.job_id || ' ' || OLD.state || ' ' || NEW.state",
    ),
    "a job done without its steps": (
        "AFTER UPDATE ON jobs WHEN NEW.state = 'done' AND OLD.state <> 'done' AND 4 >"
        " (SELECT count(*) FROM steps s WHERE s.job_id = NEW.job_id AND s.state = 'done')",
        "NEW.job_id",
    ),
    "a taken lead let go": (
        "BEFORE UPDATE ON orders WHEN OLD.state = 'accepted' AND NEW.state <> 'accepted'",
        "OLD.order_id || ' ' || NEW.state",
    ),
    "an order deleted": ("BEFORE DELETE ON orders", "OLD.order_id"),
    "a job deleted": ("BEFORE DELETE ON jobs", "OLD.job_id"),
    "more than the cap": (
        "AFTER UPDATE ON accounts WHEN NEW.spent_usd_micros + NEW.reserved_usd_micros > NEW.cap_usd_micros",
        "NEW.scope || ' ' || NEW.spent_usd_micros || ' + ' || NEW.reserved_usd_micros",
    ),
    "less than nothing set aside": ("AFTER UPDATE ON accounts WHEN NEW.reserved_usd_micros < 0", "NEW.scope"),
    "less than nothing spent": ("AFTER UPDATE ON accounts WHEN NEW.spent_usd_micros < 0", "NEW.scope"),
    "a booked call deleted": ("BEFORE DELETE ON calls WHEN OLD.outcome NOT IN ('sent', 'unknown')", "OLD.call_id"),
    "a booked call changed": (
        "BEFORE UPDATE ON calls WHEN OLD.outcome NOT IN ('sent', 'unknown') AND NEW.outcome <> OLD.outcome",
        "OLD.call_id || ' ' || OLD.outcome || ' ' || NEW.outcome",
    ),
}


_LOOKS: dict[str, tuple[str, Any]] = {
    "take": ("jobs WHERE finished_ms IS NULL", []),
    "_overdue": ("orders WHERE state = 'pending'", 0),
    "_forget": ("answers", 0),
    "SqlOutbox.ask.<locals>.<lambda>": ("orders WHERE state IN ('pending', 'unknown')", None),
    "SqlLedger.expire.<locals>.<lambda>": ("reservations WHERE state = 'open'", []),
    "SqlThresholds.claim.<locals>.<lambda>": ("thresholds WHERE due_ms IS NOT NULL", []),
}
"""What workers look for every two seconds, and what they find where there is nothing of the kind at all: half of a
run's time would go into queries that find nothing."""


@cache
def _template() -> bytes:
    """An empty database with its watches."""
    raw = sqlite3.connect(":memory:")
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    metadata.create_all(engine)
    raw.execute("CREATE TABLE broken (rule TEXT, detail TEXT)")
    for number, (rule, (when, detail)) in enumerate(_WATCHES.items()):
        raw.execute(f"CREATE TRIGGER watch_{number} {when} BEGIN INSERT INTO broken VALUES ('{rule}', {detail}); END")
    raw.commit()
    return raw.serialize()


@cache
def _connection() -> tuple[sqlite3.Connection, Connection]:
    """One for all runs of this process: the compiled queries stay."""
    raw = sqlite3.connect(":memory:", check_same_thread=False)
    raw.isolation_level = None
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    return raw, engine.connect()


class Engine:
    """The one database of a run. It outlives every process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._raw, self._connection = _connection()
        self._connection.rollback()
        self._raw.deserialize(_template())
        self._raw.execute("PRAGMA foreign_keys=ON")
        self.transactions = 0
        self.lost: dict[Process, None] = {}
        """Processes that were not told what came of a transaction of theirs."""

    def run(self, work: Transaction[T]) -> T:
        """One transaction, now."""
        self.transactions += 1
        self._raw.execute("BEGIN")
        try:
            with translated():
                result = work(self._connection)
        except BaseException:
            self._connection.rollback()
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            raise
        self._connection.commit()
        if self._raw.in_transaction:
            self._raw.execute("COMMIT")
        return result

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._raw.execute(query).fetchall()

    def broken(self) -> list[str]:
        """What the watches saw."""
        return [f"{rule}: {detail}" for rule, detail in self.rows("SELECT rule, detail FROM broken")]

    # ── the door ────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, process: Process, work: Transaction[T], word: str) -> asyncio.Future[T]:
        world = self._world
        heard: asyncio.Future[T] = world.loop.create_future()
        before_s, after_s = world.wait_s(), world.wait_s()
        kind = world.outage()
        if kind == "connect" or (kind is None and world.fails("store_refuses")):
            self._tell(process, heard, StoreUnavailable("connect", "simulated"), before_s)
            return heard
        if kind == "timeout" or world.fails("store_hangs"):
            before_s += 2 * PATIENCE_S * world.faulty.random()
            self._tell(process, heard, StoreUnavailable("timeout", "simulated"), PATIENCE_S)
        world.loop.call_in(OUTSIDE, before_s, self._perform, process, work, word, heard, after_s)
        return heard

    def _perform(
        self, process: Process, work: Transaction[T], word: str, heard: asyncio.Future[T], after_s: float
    ) -> None:
        """A transaction on its way may be done although its process is dead, or gave up waiting."""
        world = self._world
        if not process.alive and world.faulty.random() < 0.5:
            return
        told: Any
        try:
            told = self._looked(word)
            if told is _SOMETHING:
                told = self.run(work)
        except Exception as error:
            told = error
        world.happened(process, f"db {word}", type(told).__name__ if isinstance(told, Exception) else "")
        if not isinstance(told, Exception) and world.fails("store_forgets"):
            self.lost[process] = None
            told = StoreUnavailable("reset", "simulated")
        self._tell(process, heard, told, after_s)

    def _looked(self, word: str) -> Any:
        look = _LOOKS.get(word)
        if look is None or self._raw.execute(f"SELECT 1 FROM {look[0]} LIMIT 1").fetchone() is not None:
            return _SOMETHING
        return look[1]

    def _tell(self, process: Process, heard: asyncio.Future[Any], told: Any, delay_s: float) -> None:
        if isinstance(told, StoreUnavailable):
            self.lost[process] = None
        self._world.loop.call_in(OUTSIDE, delay_s, _settle, heard, told)


def _settle(heard: asyncio.Future[Any], told: Any) -> None:
    if heard.done():
        return
    if isinstance(told, Exception):
        heard.set_exception(told)
    else:
        heard.set_result(told)


class SimulatedDatabase:
    """`Database` of one process."""

    def __init__(self, engine: Engine, process: Process) -> None:
        self._engine = engine
        self._process = process

    async def write(self, work: Transaction[T]) -> T:
        return await self._engine.submit(self._process, work, _word(work))

    async def read(self, work: Transaction[T]) -> T:
        return await self._engine.submit(self._process, work, _word(work))

    async def scrub(self) -> bool:
        return True

    async def close(self) -> None: ...


def _word(work: object) -> str:
    while isinstance(work, partial):
        work = work.func
    return str(getattr(work, "__qualname__", work))
