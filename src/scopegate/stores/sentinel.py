"""Which server is the master now, as Sentinels know it. Used by `redis_address`."""

from __future__ import annotations

import asyncio

from scopegate.policy.sentinels import SentinelAddress

_PATIENCE_S = 0.3  # for one Sentinel: the next is asked then


async def master_of(watched: SentinelAddress) -> tuple[str, int]:
    """Host and port, by the first Sentinel that knows. Raises OSError."""
    for sentinel in watched.sentinels:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await _ask(sentinel, watched.service)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            continue
    raise OSError("no Sentinel names a master")


async def _ask(sentinel: tuple[str, int], service: str) -> tuple[str, int]:
    reader, writer = await asyncio.open_connection(*sentinel)
    try:
        words = ("SENTINEL", "get-master-addr-by-name", service)
        writer.write(b"*3\r\n" + b"".join([b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words]))
        if await reader.readline() != b"*2\r\n":
            raise ValueError("knows no such master")
        return await _word(reader), int(await _word(reader))
    finally:
        writer.close()


async def _word(reader: asyncio.StreamReader) -> str:
    length = int((await reader.readline())[1:])
    return (await reader.readexactly(length + 2))[:-2].decode()
