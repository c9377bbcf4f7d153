"""The demo app's database on a real file."""

from __future__ import annotations

import asyncio
from pathlib import Path

from scopegate.demo.records import LeadRecord, opened

LEAD = LeadRecord("lead-1", 1, "Ada", "ada@example.com", "demo", "A crack'; DROP TABLE leads; --", ("http://x/1",))


async def test_a_lead_comes_back_as_it_was_put_also_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path / "app.db") as records:
        await records.put(LEAD)
    async with opened(tmp_path / "app.db") as records:
        assert await records.get("lead-1") == LEAD
        assert await records.get("lead-2") is None
        assert await records.is_well()


async def test_a_delivery_is_stored_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "app.db") as records:
        await records.put(LEAD)
        assert await records.take_delivery("m1", 5, "lead-1", analysis={"total": 1}) == "stored"
        assert await records.take_delivery("m1", 6, "lead-1", analysis={"total": 2}) == "duplicate"
        assert await records.take_delivery("m2", 7, "lead-1", score=80) == "stored"
        found = await records.get("lead-1")
    assert found is not None
    assert (found.analysis, found.score) == ({"total": 1}, 80)


async def test_a_delivery_for_an_unknown_lead_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path / "app.db") as records:
        assert await records.take_delivery("m1", 5, "lead-1", score=1) == "unknown lead"
        await records.put(LEAD)
        assert await records.take_delivery("m1", 6, "lead-1", score=2) == "stored"


async def test_writers_at_once_do_not_share_a_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path / "app.db") as records:
        await records.put(LEAD)
        unknown = [records.take_delivery(f"u{n}", 1, "nobody", score=n) for n in range(20)]
        known = [records.take_delivery(f"k{n}", 1, "lead-1", score=n) for n in range(20)]
        outcomes = await asyncio.gather(*(one for pair in zip(unknown, known, strict=True) for one in pair))
    assert outcomes == ["unknown lead", "stored"] * 20
    async with opened(tmp_path / "app.db") as records:
        assert await records.take_delivery("k7", 1, "lead-1", score=1) == "duplicate"
