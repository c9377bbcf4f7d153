"""Checks a second, on a real server."""

from __future__ import annotations

from bench.checks import figures


async def test_memory_and_redis_are_measured_with_one_window_and_with_six(redis_url: str) -> None:
    found = await figures(redis_url, 0.05)
    assert [each.name for each in found] == [
        "memory, 1 window",
        "Redis, 1 window",
        "memory, 6 windows",
        "Redis, 6 windows",
    ]
    assert all(each.per_second > 0 and each.cpu_us > 0 for each in found)
    assert str(found[0]).startswith("| memory, 1 window | ")
