"""Answers that all gateways share, in Redis: bounded in bytes, each with an end, bodies in chunks.

Under `scopegate:{c}:` stand, per cache key, a hash of packed answers by what their Vary selected (`k:`), a list of
chunks for each body (`b:`), who fetches it now (`l:`), and the keys of each URL (`u:`); beside them one set of all
sizes by their end, and the purges in order. A body is written before the answer that names it: what is found is whole,
and a body that lacks a byte is none. Raises StoreUnavailable, which is a miss. Made by `wiring`.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from scopegate.caching.packed import packed, unpacked
from scopegate.caching.purges import Purge, PurgeKind
from scopegate.caching.said import Said
from scopegate.caching.shelf import KEPT_BEYOND_S
from scopegate.caching.stored import Stored
from scopegate.caching.vary import selecting
from scopegate.clock import Clock
from scopegate.errors import ConfigError, Problem, StoreUnavailable
from scopegate.stores.redis_errors import translated
from scopegate.stores.redis_pool import pool_of

CHUNK_BYTES = 128 * 1024
_PREFIX = "scopegate:{c}:"
_TIMEOUT_S = 0.5
_AT_ONCE = 32
"""Chunks in one command."""
_LEASE_MS = 30_000
_CHANGED_MS = 5000
"""How long after a change nothing is taken of its URL: it may have been fetched before."""
_LIFE_MS = 3 * 86_400_000
_PURGES_KEPT = 10_000
_WRITING_MS = 60_000
"""How long chunks are kept that no answer names yet."""
_APPEND = "redis.call('RPUSH', KEYS[1], unpack(ARGV, 2)) return redis.call('PEXPIRE', KEYS[1], ARGV[1])"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_PURGE = (
    "local n = redis.call('INCR', KEYS[1]) "
    "redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], n .. '-0', 'kind', ARGV[2], 'what', ARGV[3], 'soft', ARGV[4]) "
    "redis.call('PEXPIRE', KEYS[1], ARGV[5]) redis.call('PEXPIRE', KEYS[2], ARGV[5]) return n"
)


class RedisAnswers:
    """`AnswerStore` on a Redis or Valkey server."""

    def __init__(self, url: str, clock: Clock, *, most_bytes: int = 0, timeout_s: float = _TIMEOUT_S) -> None:
        """`most_bytes`: what bodies and fields may take together. Raises ConfigError for a URL that is none."""
        self.most_bytes = most_bytes
        self._clock = clock
        self._timeout_s = timeout_s
        self._owner = secrets.token_hex(8)
        self._keep = files("scopegate.stores").joinpath("keep.lua").read_text()
        try:
            pool = pool_of(url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, max_connections=16)
        except ValueError:
            raise ConfigError([Problem("REDIS_URL", "", "is not a redis://, rediss:// or unix:// address")]) from None
        self._redis = Redis(connection_pool=pool)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, key: bytes, request: Said) -> Stored | None:
        """The newest answer that a request may get by its Vary, with its body."""
        found: dict[bytes, bytes] = await self._run("HGETALL", _name("k", key))
        best: tuple[Stored, int, bytes] | None = None
        for value in found.values():
            body, _, rest = value.partition(b" ")
            read = unpacked(rest.partition(b" ")[2])
            if read is None:
                continue
            stored, size = read
            if selecting(stored.vary, request) == stored.selected and (best is None or stored.born_s > best[0].born_s):
                best = stored, size, body
        if best is None:
            return None
        stored, size, body = best
        stored.body = await self._body(body.decode(), size)
        return stored if len(stored.body) == size else None

    async def _body(self, body: str, size: int) -> bytes:
        parts: list[bytes] = []
        for first in range(0, -(-size // CHUNK_BYTES), _AT_ONCE):
            parts += await self._run("LRANGE", f"{_PREFIX}b:{body}", first, first + _AT_ONCE - 1)
        return b"".join(parts)

    async def put(self, key: bytes, stored: Stored) -> bool:
        """False where it has no room."""
        now_ms = self._clock.now_ms()
        ends_ms = min(int(stored.ends_s(KEPT_BEYOND_S) * 1000), now_ms + _LIFE_MS)
        text = packed(stored)
        size = len(stored.body) + len(text)
        if size > self.most_bytes or ends_ms <= now_ms:
            return False
        body = secrets.token_hex(12)
        place = f"{_PREFIX}b:{body}"
        chunks = [stored.body[at : at + CHUNK_BYTES] for at in range(0, len(stored.body), CHUNK_BYTES)]
        for first in range(0, len(chunks), _AT_ONCE):
            await self._run("EVAL", _APPEND, 1, place, _WRITING_MS, *chunks[first : first + _AT_ONCE])
        variant = hashlib.blake2b(b"\n".join([*stored.vary, b"", stored.selected]), digest_size=12).hexdigest()
        keys = [_name("k", key), f"{_PREFIX}ends", f"{_PREFIX}bytes", _name("u", stored.url), _name("c", stored.url)]
        words = [variant, text, body, size, ends_ms, now_ms, self.most_bytes]
        places = [f"{_PREFIX}b:", f"{_PREFIX}k:", _digest(key), _LIFE_MS]
        return bool(await self._run("EVAL", self._keep, len(keys), *keys, *words, *places))

    async def drop_url(self, url: bytes) -> None:
        """Every answer of a URL. Their bodies go when their place is needed, or with their end."""
        await self._run("SET", _name("c", url), 1, "PX", _CHANGED_MS)
        names: Sequence[bytes] = await self._run("SMEMBERS", _name("u", url))
        if names:
            await self._run("DEL", *[f"{_PREFIX}k:{name.decode()}" for name in names], _name("u", url))

    # ── one fetch at a time ─────────────────────────────────────────────────────────────────────────────────────────

    async def lease(self, key: bytes) -> bool:
        """Whether this process is to fetch it: nobody else does for the next half minute."""
        return bool(await self._run("SET", _name("l", key), self._owner, "NX", "PX", _LEASE_MS))

    async def release(self, key: bytes) -> None:
        await self._run("EVAL", _RELEASE, 1, _name("l", key), self._owner)

    # ── purges ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def purge(self, purge: Purge) -> int:
        """Its number."""
        keys = (f"{_PREFIX}purge", f"{_PREFIX}purges")
        words = (_PURGES_KEPT, purge.kind.value, purge.what, int(purge.soft), _LIFE_MS)
        return int(await self._run("EVAL", _PURGE, 2, *keys, *words))

    async def purges_after(self, number: int) -> tuple[int, list[tuple[int, Purge]]]:
        """The newest number, and the purges after `number` that are still told, in order."""
        last = int(await self._run("GET", f"{_PREFIX}purge") or 0)
        if last <= number:
            return last, []
        rows = await self._run("XRANGE", f"{_PREFIX}purges", f"{number + 1}-0", "+", "COUNT", _PURGES_KEPT)
        return last, [(int(row[0].partition(b"-")[0]), _purge(row[1])) for row in rows or []]

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _run(self, *words: Any) -> Any:
        try:
            with translated():
                async with asyncio.timeout(self._timeout_s):
                    return await self._redis.execute_command(*words)
        except TimeoutError:
            raise StoreUnavailable("timeout", "no answer in time") from None


def _digest(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=20).hexdigest()


def _name(kind: str, key: bytes) -> str:
    return f"{_PREFIX}{kind}:{_digest(key)}"


def _purge(row: Any) -> Purge:
    told = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
    return Purge(PurgeKind(told[b"kind"].decode()), told[b"what"], told[b"soft"] == b"1")
