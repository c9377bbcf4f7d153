"""The worker's round: everything that is old, batch after batch, as the policy in force says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import REGISTRY

from scopegate.clock import ManualClock
from scopegate.policy.policy import Kept, Retention
from scopegate.stores.database import open_database
from scopegate.stores.late import LateDatabase
from scopegate.stores.retention import SqlRetention
from scopegate.worker import pruner
from scopegate.worker.pruner import Pruner
from tests.stores.test_retention import Shop

HOUR_MS = 3_600_000


def deleted() -> Mapping[str, float]:
    name = "scopegate_retention_deleted_total"
    return {what.value: REGISTRY.get_sample_value(name, {"what": what.value}) or 0.0 for what in Kept}


async def test_a_round_deletes_all_that_is_old_and_counts_it(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path}/x.db")
    shop, clock = Shop(database), ManualClock(50 * HOUR_MS)
    for n in range(3):
        await shop.ended(f"old-{n}", HOUR_MS)
    await shop.ended("young", 49 * HOUR_MS)
    before = deleted()
    policy = Retention(leads_ms=24 * HOUR_MS, photos_ms=0)
    pruned = await Pruner(lambda: shop.retention, lambda: policy, clock, batch=2).prune()
    assert pruned == {Kept.PHOTOS: 4, Kept.LEADS: 3}
    assert await shop.leads() == ["young"]
    assert {what: now - before[what] for what, now in deleted().items()} == {
        "photos": 4, "leads": 3, "orders": 0, "calls": 0,
    }  # fmt: skip
    assert (tmp_path / "x.db-wal").stat().st_size == 0
    await database.close()


async def test_the_policy_in_force_decides_and_an_outage_is_waited_for(tmp_path: Path) -> None:
    """Nothing is opened while everything is kept for ever; a database that is away is asked again in the next round."""
    clock = ManualClock(50 * HOUR_MS)
    policy = Retention()
    late = LateDatabase(f"sqlite:///{tmp_path}/in/x.db")
    serving = asyncio.create_task(Pruner(lambda: SqlRetention(late), lambda: policy, clock).serve())

    async def a_round() -> None:
        await asyncio.sleep(0)
        clock.advance(max(pruner.FIRST_S, pruner.EVERY_S))
        for _ in range(50):
            await asyncio.sleep(0.01)

    await a_round()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in").write_text("a file where a folder has to be")
    policy = Retention(leads_ms=HOUR_MS)
    await a_round()
    assert not serving.done()
    (tmp_path / "in").unlink()
    shop = Shop(await open_database(f"sqlite:///{tmp_path}/in/x.db"))
    await shop.ended("old", HOUR_MS)
    await a_round()
    assert await shop.leads() == []
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await late.close()
    await shop.database.close()
