"""What leaves the database: what is old enough and nothing else, a batch at a time, and one person's data, whole."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text

from scopegate.leads.job import SENT, Attempt, AttemptState, JobFilter, Lead, LeadJob, OrderState, Unreadable
from scopegate.limits.budget import Account, Reservation
from scopegate.limits.steps import StepName
from scopegate.policy.policy import Kept
from scopegate.stores import schema
from scopegate.stores.database import Database, open_database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.ledger import SqlLedger
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.ports import Busy, Erased
from scopegate.stores.retention import OF_A_JOB, OF_A_LEAD, OF_AN_ACCOUNT, OF_AN_ORDER, SqlRetention
from tests.engines import postgres_binary
from tests.stores.orders import HOSTILE, booked, call, intent, order

WORDS = "my telephone is 555-0100"
LATER_MS = 10**12


class Shop:
    """Leads that leave something everywhere."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs, self.ledger, self.outbox = SqlJobs(database), SqlLedger(database), SqlOutbox(database)
        self.retention = SqlRetention(database)

    async def queued(self, lead_id: str, at_ms: int = 1_000, n: int = 1) -> LeadJob:
        lead = Lead(lead_id, "roofers", f"{WORDS} {lead_id} {HOSTILE}", (f"https://p.example/{lead_id}?key=k",))
        asked = replace(order(n, at_ms), order_id=f"order-{lead_id}", request={"text": WORDS, "lead": lead_id})
        await self.outbox.put(asked)
        job = await self.outbox.settle(asked, OrderState.ACCEPTED, 201, lead)
        assert job is not None
        return job

    async def ended(self, lead_id: str, at_ms: int = 1_000, *, fails: bool = False) -> LeadJob:
        """Finished at `at_ms`, with a result, an attempt, and a call of a budget for each lead."""
        return await self.end(await self.queued(lead_id, at_ms), at_ms, fails=fails)

    async def end(self, job: LeadJob, at_ms: int, *, fails: bool = False) -> LeadJob:
        lead_id = job.lead.lead_id
        taken = await self.jobs.lease(job.job_id, "worker", at_ms, at_ms + 15_000)
        assert taken is not None
        lease, _ = taken
        attempt = await self.jobs.start_attempt(lease, StepName.ESTIMATE, at_ms)
        paid = call(f"call-{job.job_id}", 100, job_id=job.job_id, lead_id=lead_id, started_ms=at_ms)
        await booked(self.ledger, paid, Account(f"each|{lead_id}", "each", 10_000, None))
        done = Attempt(attempt.n, AttemptState.DONE, at_ms, at_ms, error_detail=f"{WORDS} {lead_id}")
        await self.jobs.finish_attempt(lease, StepName.ESTIMATE, done, {"said": f"{WORDS} {lead_id}"})
        await self.jobs.finish(lease, at_ms, error_code="auth" if fails else None)
        found = await self.jobs.get(job.job_id)
        assert found is not None
        return found

    async def leads(self) -> list[str]:
        return sorted(job.lead.lead_id for job in await self.jobs.list(JobFilter(limit=1_000)))

    async def rows(self) -> dict[str, int]:
        def count(conn: Connection) -> dict[str, int]:
            tables = schema.metadata.tables.values()
            return {one.name: conn.execute(select(func.count()).select_from(one)).scalar_one() for one in tables}

        return {name: number for name, number in (await self.database.read(count)).items() if number}


@pytest.fixture
async def shop(database: Database) -> Shop:
    return Shop(database)


ACCOUNTED_FOR = {schema.schema_version, schema.jobs, schema.orders, schema.calls, schema.reservations}
ACCOUNTED_FOR |= {schema.paused, schema.actions}  # what operators did


def test_every_table_says_how_its_rows_leave() -> None:
    """A new one refers to a job, an order or an account, and goes with it; or `stores/retention` has to learn it."""
    known = {*OF_A_JOB, *OF_A_LEAD, *OF_AN_ORDER, *OF_AN_ACCOUNT, *ACCOUNTED_FOR}
    assert [table.name for table in schema.metadata.sorted_tables if table not in known] == []


# ── old enough ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lead_goes_with_all_that_is_its_own(shop: Shop) -> None:
    await shop.ended("old", 1_000)
    await shop.ended("young", 5_000)
    await shop.queued("open", 500)
    assert await shop.retention.count(Kept.LEADS, 5_000) == 1
    assert await shop.retention.oldest_ms(Kept.LEADS, 5_000) == 1_000
    assert await shop.retention.prune(Kept.LEADS, 5_000, 10) == 1
    assert await shop.leads() == ["open", "young"]
    rows = await shop.rows()
    assert (rows["jobs"], rows["steps"], rows["attempts"], rows["orders"]) == (2, 1, 1, 2)
    assert (rows["calls"], rows["accounts"]) == (2, 2)
    assert await shop.retention.oldest_ms(Kept.LEADS, 5_000) is None


async def test_a_replayed_job_goes_after_its_replay(shop: Shop) -> None:
    first = await shop.ended("lead", 1_000, fails=True)
    again = await shop.jobs.replay(first.job_id, "again", 2_000, StepName.ESTIMATE)
    assert again is not None
    assert await shop.retention.prune(Kept.LEADS, 5_000, 10) == 0
    await shop.end(again, 3_000)
    assert await shop.retention.prune(Kept.LEADS, 2_000, 10) == 0
    assert [await shop.retention.prune(Kept.LEADS, 5_000, 10) for _ in range(3)] == [1, 1, 0]
    assert await shop.leads() == []


async def test_orders_that_are_closed_have_their_own_time_and_others_that_of_leads(shop: Shop) -> None:
    await shop.ended("lead", 1_000)
    for n, state in enumerate((OrderState.REFUSED, OrderState.UNKNOWN, OrderState.UNREADABLE), 10):
        await shop.outbox.settle(order(n, 1_000), state, None, None)
    assert await shop.retention.prune(Kept.ORDERS, 1_000, 10) == 0
    assert await shop.retention.prune(Kept.ORDERS, 1_001, 10) == 2
    assert (await shop.rows())["orders"] == 2
    assert await shop.leads() == ["lead"]
    assert await shop.retention.prune(Kept.LEADS, 1_001, 10) == 3
    assert "orders" not in await shop.rows()


async def test_photo_addresses_of_done_jobs_alone_are_forgotten(shop: Shop) -> None:
    done, failed = await shop.ended("done"), await shop.ended("failed", fails=True)
    waiting = await shop.queued("waiting")
    assert await shop.retention.prune(Kept.PHOTOS, LATER_MS, 10) == 1
    found = [await shop.jobs.get(job.job_id) for job in (done, failed, waiting)]
    assert [len(job.lead.photos) for job in found if job] == [0, 1, 1]
    assert await shop.retention.prune(Kept.PHOTOS, LATER_MS, 10) == 0


async def test_calls_go_with_the_budgets_that_ended_before_and_nothing_else_does(shop: Shop) -> None:
    ledger = shop.ledger
    period, rolling = Account("day", "day", 1_000, 2_000), Account("24h", "24h", 1_000, 2_000, 86_400_000)
    await booked(ledger, call("old", 100, started_ms=1_000), period, rolling, Account("all", "all", 1_000, None))
    await booked(ledger, call("young", 100, started_ms=5_000), Account("day2", "day2", 1_000, 6_000))
    held = await ledger.reserve([Account("day0", "day0", 1_000, 2_000)], intent(10, 1_000), LATER_MS)
    assert isinstance(held, Reservation)
    while await shop.retention.prune(Kept.CALLS, 5_000, 10):
        pass
    assert sorted(one.call_id for one in await ledger.calls()) == sorted(["young", held.call_id])
    names = await shop.database.read(lambda conn: list(conn.scalars(select(schema.accounts.c.scope))))
    assert sorted(names) == ["24h", "all", "day0", "day2"]


async def test_a_batch_is_bounded_and_the_oldest_go_first(shop: Shop) -> None:
    for n in range(5):
        await shop.ended(f"lead-{n}", 1_000 + n)
    assert await shop.retention.prune(Kept.LEADS, LATER_MS, 2) == 2
    assert await shop.leads() == ["lead-2", "lead-3", "lead-4"]


async def test_two_that_prune_at_once_share_the_rows(shop: Shop, database_url: str) -> None:
    for n in range(30):
        await shop.ended(f"lead-{n}")
    other = await open_database(database_url)
    counts = await asyncio.gather(
        *(SqlRetention(one).prune(Kept.LEADS, LATER_MS, 10) for one in (shop.database, other, other))
    )
    assert sum(counts) + await shop.retention.count(Kept.LEADS, LATER_MS) == 30
    await other.close()


QUESTIONS = [(Kept.LEADS, "ix_jobs_finished"), (Kept.PHOTOS, "ix_jobs_photos"), (Kept.CALLS, "ix_calls_started")]


@pytest.mark.parametrize(("what", "index"), QUESTIONS)
async def test_what_is_old_is_found_by_an_index(shop: Shop, what: Kept, index: str) -> None:
    """Asked at every scrape."""
    from scopegate.stores.retention import _OLD

    def plan(conn: Connection) -> str:
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL enable_seqscan = off"))
        old = _OLD[what][0]
        query = select(func.min(old.since)).where(old.before(5_000))
        words = "EXPLAIN QUERY PLAN" if conn.dialect.name == "sqlite" else "EXPLAIN"
        compiled = query.compile(conn, compile_kwargs={"literal_binds": True})
        return "\n".join(str(row) for row in conn.exec_driver_sql(f"{words} {compiled}".replace("%", "%%")))

    assert index in await shop.database.read(plan)


# ── gone from the disk ──────────────────────────────────────────────────────────────────────────────────────────────


async def remains(shop: Shop, url: str, word: str) -> list[str]:
    """Where a word still stands: in the files of SQLite, byte by byte; in a dump of PostgreSQL."""
    if url.startswith("sqlite"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        return [path.name for path in folder.iterdir() if word.encode() in path.read_bytes()]
    command = [postgres_binary("pg_dump"), "--dbname", url]
    dump = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
    return ["dump"] if word.encode() in dump.stdout else []


async def test_what_was_pruned_is_nowhere_on_the_disk(shop: Shop, database_url: str) -> None:
    for n in range(12):
        await shop.ended(f"lead-{n}")
    await shop.outbox.settle(
        replace(order(99), request=Unreadable("no JSON", WORDS.encode())), OrderState.UNREADABLE, 201, None
    )
    assert await remains(shop, database_url, "555-0100")
    for what in Kept:
        while await shop.retention.prune(what, LATER_MS, 5):
            pass
    assert await shop.retention.scrub()
    assert await remains(shop, database_url, "555-0100") == []
    assert await remains(shop, database_url, "p.example") == []


async def test_of_many_leads_that_come_and_go_nothing_stays(tmp_path: Path) -> None:
    """Pages are split, merged and used again; words of any length lie across several."""
    rng = random.Random(7)
    url = f"sqlite:///{tmp_path}/x.db"
    database = await open_database(url)
    shop = Shop(database)
    lengthen = text("UPDATE jobs SET lead_text = :words WHERE job_id = :job_id")
    for n in range(60):
        job = await shop.queued(f"lead-{n}")
        words = '"' + " ".join([WORDS] * rng.choice([1, 3, 40, 400])) + '"'
        change = partial(Connection.execute, statement=lengthen, parameters={"words": words, "job_id": job.job_id})
        await database.write(change)
        await shop.end(job, 1_000 + n)
        if n % 7 == 6:
            await shop.retention.prune(Kept.LEADS, 1_000 + n - rng.randrange(5), 50)
    while await shop.retention.prune(Kept.LEADS, LATER_MS, 20):
        pass
    assert await shop.retention.scrub()
    assert await remains(shop, url, "555-0100") == []
    await database.close()


async def test_a_reader_holds_the_scrub_up_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scopegate.stores.database._BUSY_SHARE", 0.01)
    shop = Shop(await open_database(f"sqlite:///{tmp_path}/x.db"))
    await shop.ended("lead")
    reader = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM jobs").fetchall()
    await shop.retention.prune(Kept.LEADS, LATER_MS, 10)
    assert not await shop.retention.scrub()
    reader.close()
    assert await shop.retention.scrub()
    await shop.database.close()


# ── one person ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def two(shop: Shop) -> Shop:
    await shop.ended("mine", fails=True)
    await shop.ended("theirs")
    return shop


async def test_an_export_has_everything_of_one_lead_and_nothing_of_another(two: Shop) -> None:
    [job] = await two.jobs.list(JobFilter(lead_id="mine"))
    again = await two.jobs.replay(job.job_id, "again", 2_000)
    assert again is not None
    found = await two.retention.export("mine")
    assert {name: len(rows) for name, rows in found.items()} == {
        "jobs": 2, "steps": 2, "attempts": 1, "orders": 1, "calls": 1, "accounts": 1,
    }  # fmt: skip
    assert found["jobs"][0]["lead_text"] == job.lead.text
    assert "theirs" not in str(found)
    assert await two.retention.export("nobody") == {}


async def test_what_is_erased_is_gone_and_the_sums_stay(two: Shop, database_url: str) -> None:
    before = await two.ledger.spend_by("day", "2000-01-01")
    accounts = select(func.sum(schema.accounts.c.spent_usd_micros), func.count())
    spent = await two.database.read(lambda conn: conn.execute(accounts).one())
    erased = await two.retention.erase("mine")
    assert erased == Erased({"jobs": 1, "steps": 1, "attempts": 1, "orders": 1, "calls": 1, "accounts": 1})
    await two.retention.scrub()
    assert await remains(two, database_url, "mine") == []
    assert await remains(two, database_url, "theirs") != []
    assert await two.ledger.spend_by("day", "2000-01-01") == before
    assert await two.database.read(lambda conn: conn.execute(accounts).one()) == spent
    assert await two.retention.export("mine") == {}
    assert await two.leads() == ["theirs"]


async def test_nothing_is_erased_while_work_on_it_is_under_way(two: Shop) -> None:
    job = await two.queued("open")
    assert await two.retention.erase("open") == Busy(
        f"job {job.job_id} is not at its end: `scopegate jobs cancel {job.job_id}` first"
    )
    sent = intent(10, lead_id="mine")
    reservation = await two.ledger.reserve([Account("day", "day", 1_000, 2_000)], sent, LATER_MS)
    assert isinstance(reservation, Reservation)
    found = await two.retention.erase("mine")
    assert isinstance(found, Busy)
    assert "model call of it is under way" in found.reason
    assert await two.leads() == ["mine", "open", "theirs"]
    await two.ledger.withdraw(reservation)
    assert isinstance(await two.retention.erase("mine"), Erased)
    assert SENT not in {one.outcome for one in await two.ledger.calls()}


async def test_a_contractor_of_the_same_name_keeps_his_account(shop: Shop) -> None:
    await shop.ended("roofers")
    await shop.retention.erase("roofers")
    names = await shop.database.read(lambda conn: list(conn.scalars(select(schema.accounts.c.scope))))
    assert names == ["each|roofers"]
