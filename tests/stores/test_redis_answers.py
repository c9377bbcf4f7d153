"""Answers in a real Valkey: what is found is whole, all of it has a bound and an end, and purges are heard in order."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from scopegate.caching.purges import Purge, PurgeKind
from scopegate.caching.stored import Stored
from scopegate.clock import ManualClock
from scopegate.errors import ConfigError, StoreUnavailable
from scopegate.stores.redis_answers import CHUNK_BYTES, RedisAnswers
from tests.caching.kept import NOW_S, said, stored
from tests.valkey import Server

FRESH = "cache-control: max-age=60"
NOTHING = said("")
MANY = 1 << 30


@pytest.fixture
async def answers(server: Server) -> AsyncIterator[RedisAnswers]:
    store = RedisAnswers(server.url, ManualClock(int(NOW_S * 1000)), most_bytes=4 << 20)
    yield store
    await store.close()


def key() -> bytes:
    return uuid.uuid4().bytes


def kept(size: int = 2, fields: str = "", request: str = "") -> Stored:
    return stored(f"{FRESH}\n{fields}", request, body=b"x" * size, max_object_bytes=MANY)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 << 20])
async def test_what_is_put_is_found_whole(answers: RedisAnswers, size: int) -> None:
    one, other = key(), key()
    assert await answers.put(one, kept(size))
    found = await answers.find(one, NOTHING)
    assert found is not None
    assert (found.body, found.url, found.left_s(NOW_S)) == (b"x" * size, b"a.example/x", 60)
    assert await answers.find(other, NOTHING) is None


async def test_variants(answers: RedisAnswers) -> None:
    one = key()
    for lang in ("de", "en"):
        await answers.put(one, kept(len(lang), "vary: accept-language\nx: " + lang, f"accept-language: {lang}"))
    found = await answers.find(one, said("accept-language: en"))
    assert found is not None
    assert b"x: en\r\n" in found.notes.passed
    assert await answers.find(one, NOTHING) is None


async def test_a_body_that_lacks_a_byte_is_none(answers: RedisAnswers, server: Server) -> None:
    one = key()
    await answers.put(one, kept(CHUNK_BYTES * 3))
    [body] = server.run("KEYS", "scopegate:{c}:b:*")
    server.run("RPOP", body)
    assert await answers.find(one, NOTHING) is None
    server.run("DEL", body)
    assert await answers.find(one, NOTHING) is None


async def test_its_bound_holds_and_what_ends_first_goes_first(answers: RedisAnswers, server: Server) -> None:
    soon, late = key(), key()
    await answers.put(late, stored("cache-control: max-age=9000", body=b"x" * (1 << 20), max_object_bytes=MANY))
    await answers.put(soon, kept(1 << 20))
    for _ in range(8):
        other = stored("cache-control: max-age=5000", body=b"x" * (1 << 20), max_object_bytes=MANY)
        assert await answers.put(key(), other)
        assert int(server.run("GET", "scopegate:{c}:bytes")) <= 4 << 20
        assert len(server.run("KEYS", "scopegate:{c}:b:*")) <= 4
    assert await answers.find(soon, NOTHING) is None
    assert await answers.find(late, NOTHING) is not None
    assert not await answers.put(key(), kept(5 << 20))


async def test_a_newer_answer_takes_the_place_of_the_older(answers: RedisAnswers, server: Server) -> None:
    one = key()
    for size in (100, 200, 300):
        await answers.put(one, kept(size))
    found = await answers.find(one, NOTHING)
    assert found is not None
    assert len(found.body) == 300
    assert len(server.run("KEYS", "scopegate:{c}:b:*")) == 1


async def test_every_key_has_an_end(answers: RedisAnswers, server: Server) -> None:
    one = key()
    await answers.put(one, kept(CHUNK_BYTES * 2))
    await answers.lease(one)
    await answers.drop_url(b"a.example/y")
    await answers.purge(Purge(PurgeKind.TAG, b"t"))
    lives = {name: server.run("PTTL", name) for name in server.run("KEYS", "*")}
    assert len(lives) >= 8
    assert all(0 < life <= 3 * 86_400_000 for life in lives.values()), lives


async def test_a_change_ends_all_of_a_url_and_what_was_fetched_before(answers: RedisAnswers) -> None:
    one = key()
    await answers.put(one, kept())
    await answers.drop_url(b"a.example/x")
    assert await answers.find(one, NOTHING) is None
    assert not await answers.put(one, kept()), "it may have been fetched before the change"


async def test_one_fetches_at_a_time(answers: RedisAnswers, server: Server) -> None:
    one, other = key(), RedisAnswers(server.url, ManualClock(int(NOW_S * 1000)))
    try:
        assert await answers.lease(one)
        assert not await other.lease(one)
        await other.release(one)
        assert not await other.lease(one), "nobody ends another's lease"
        await answers.release(one)
        assert await other.lease(one)
    finally:
        await other.close()


async def test_purges_are_told_in_order(answers: RedisAnswers) -> None:
    told = [Purge(PurgeKind.TAG, b"\xfft"), Purge(PurgeKind.PREFIX, b"/p", soft=True), Purge(PurgeKind.URL, b"a/x")]
    assert [await answers.purge(each) for each in told] == [1, 2, 3]
    assert await answers.purges_after(0) == (3, list(zip([1, 2, 3], told, strict=True)))
    assert await answers.purges_after(2) == (3, [(3, told[2])])
    assert await answers.purges_after(3) == (3, [])


async def test_a_store_that_is_full_or_gone_is_an_outage(answers: RedisAnswers, server: Server) -> None:
    one = key()
    await answers.put(one, kept())
    server.run("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailable) as full:
        await answers.put(key(), kept(CHUNK_BYTES))
    assert full.value.kind == "full"
    server.kill()
    with pytest.raises(StoreUnavailable):
        await answers.find(one, NOTHING)


async def test_a_store_that_fills_up_in_the_middle_of_a_body_has_none_of_it(server: Server) -> None:
    store = RedisAnswers(server.url, ManualClock(int(NOW_S * 1000)), most_bytes=MANY, timeout_s=10)
    one = key()
    try:
        with server.client() as client:
            used = client.info("memory")["used_memory"]
        server.run("CONFIG", "SET", "maxmemory", used + (6 << 20))
        with pytest.raises(StoreUnavailable):
            await store.put(one, kept(12 << 20))
        [chunks] = server.run("KEYS", "scopegate:{c}:b:*")
        assert 0 < server.run("LLEN", chunks) * CHUNK_BYTES < 12 << 20
        assert 0 < server.run("PTTL", chunks) <= 60_000, "and what was written of it goes by itself"
        assert await store.find(one, NOTHING) is None
    finally:
        await store.close()


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError):
        RedisAnswers("http://x", ManualClock())
