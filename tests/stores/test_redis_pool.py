"""What redis-py connects to."""

from __future__ import annotations

import pytest
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool

from scopegate.stores.redis_pool import pool_of


def test_a_server_or_the_master_of_sentinels() -> None:
    assert isinstance(pool_of("redis://127.0.0.1:1/0", timeout=1.0), BlockingConnectionPool)
    pool = pool_of("redis+sentinel://u:w@127.0.0.1:1/mymaster/3", timeout=1.0, max_connections=4)
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "mymaster"
    assert {name: pool.connection_kwargs[name] for name in ("db", "username", "password")} == {
        "db": 3,
        "username": "u",
        "password": "w",
    }


def test_what_is_no_url() -> None:
    with pytest.raises(ValueError, match=r"Sentinel|redis"):
        pool_of("redis+sentinel://")
