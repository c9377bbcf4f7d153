"""Hostile clients, one kind a function, run as processes of their own in a network namespace.

    python -m tests.flows.hostile KIND '{"host": ..., "port": ...}'

Each prints one line of JSON at its end: what it saw. Those that hold print `ready` first and end when their standard
input does. No test framework and nothing of the gateway is imported here.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Seen = dict[str, Any]
HEAD = b"GET /small HTTP/1.1\r\nHost: a.example\r\n"
MIB = 1024 * 1024


class Target:
    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    async def connect(self, *, source: str | None = None, kernel_bytes: int | None = None) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        if kernel_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
        if source is not None:
            sock.bind((source, 0))
        try:
            await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        except OSError:
            sock.close()
            raise
        return sock


async def hold() -> None:
    """Until standard input ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


async def rest_of(sock: socket.socket) -> bytes:
    """Everything until the other side ends, however it does."""
    loop, data = asyncio.get_running_loop(), b""
    try:
        while part := await loop.sock_recv(sock, 65536):
            data += part
    except ConnectionError:
        pass
    return data


def status_of(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


# ── a client with nothing to hide ───────────────────────────────────────────────────────────────────────────────────


async def canary(target: Target, source: str) -> Seen:
    """A small GET every 20 ms, every tenth on a connection of its own; latencies and failures."""
    ending = asyncio.create_task(hold())
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    failures: list[str] = []
    sock: socket.socket | None = None
    while not ending.done():
        began = loop.time()
        try:
            async with asyncio.timeout(5):
                if sock is None or len(taken) % 10 == 0:
                    if sock is not None:
                        sock.close()
                    sock = await target.connect(source=source)
                await loop.sock_sendall(sock, HEAD + b"\r\n")
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    part = await loop.sock_recv(sock, 65536)
                    if not part:
                        raise ConnectionError(answer[:60])
                    answer += part
                if status_of(answer) != 200:
                    raise ConnectionError(answer[:60])
            taken.append(loop.time() - began)
        except (OSError, TimeoutError) as error:
            failures.append(repr(error))
            if sock is not None:
                sock.close()
            sock = None
        await asyncio.sleep(0.02)
    if sock is not None:
        sock.close()
    taken.sort()
    return {
        "asked": len(taken) + len(failures),
        "failures": failures[:5],
        "p50_ms": round(taken[len(taken) // 2] * 1000, 1),
        "p99_ms": round(taken[len(taken) * 99 // 100] * 1000, 1),
        "max_ms": round(taken[-1] * 1000, 1),
    }


# ── slow ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _drip(sock: socket.socket, data: bytes, pause_s: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        for at in range(len(data)):
            await loop.sock_sendall(sock, data[at : at + 1])
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass


async def _until_ended(target: Target, first: bytes, dripped: bytes, pause_s: float) -> Seen:
    """When the other side ended, and with which status."""
    sock = await target.connect()
    began = time.monotonic()
    await asyncio.get_running_loop().sock_sendall(sock, first)
    dripping = asyncio.create_task(_drip(sock, dripped, pause_s))
    async with asyncio.timeout(30):
        answer = await rest_of(sock)
    seconds = time.monotonic() - began
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    sock.close()
    return {"status": status_of(answer), "seconds": round(seconds, 2)}


async def slow_heads(target: Target) -> Seen:
    names = ["idle", "half", "dripping", "field by field"]
    found = await asyncio.gather(
        _until_ended(target, b"", b"", 1),
        _until_ended(target, HEAD, b"", 1),
        _until_ended(target, b"G", HEAD[1:] * 10, 1),
        _until_ended(target, HEAD, b"X: y\r\n" * 100, 0.2),
    )
    return dict(zip(names, found, strict=True))


async def slow_bodies(target: Target) -> Seen:
    head = b"POST /upload HTTP/1.1\r\nHost: a.example\r\n"
    length = head + b"Content-Length: 1000000\r\n\r\n"
    names = ["stalled", "stalled, chunked", "below the rate", "at a fair rate for ever"]
    found = await asyncio.gather(
        _until_ended(target, length + b"abc", b"", 1),
        _until_ended(target, head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", b"", 1),
        _until_ended(target, length, b"a" * 10_000, 0.02),
        _until_ended(target, length, b"a" * 100_000, 0.0015),
    )
    return dict(zip(names, found, strict=True))


async def slow_readers(target: Target, count: int, seconds: float) -> Seen:
    """Answers of 10 MiB, read at about 1 KiB/s each."""
    loop = asyncio.get_running_loop()
    read = [0] * count
    until = loop.time() + seconds

    async def one(n: int) -> None:
        sock = await target.connect(kernel_bytes=4096)
        await loop.sock_sendall(sock, b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n")
        while loop.time() < until:
            part = await loop.sock_recv(sock, 1024)
            if not part:
                break
            read[n] += len(part)
            await asyncio.sleep(1)
        sock.close()

    tasks = [asyncio.create_task(one(n)) for n in range(count)]
    await asyncio.sleep(seconds / 2)
    await hold()
    await asyncio.gather(*tasks)
    return {"clients": count, "least_read": min(read), "most_read": max(read)}


async def slow_sockets(target: Target, count: int, addresses: list[str], seconds: float) -> Seen:
    """Half a head and one byte a second on each; one that is cut comes again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    state = {"open": 0, "most_open": 0, "made": 0, "refused": 0}

    async def one(n: int) -> None:
        while loop.time() < until:
            try:
                sock = await target.connect(source=addresses[n % len(addresses)])
            except OSError:
                state["refused"] += 1
                await asyncio.sleep(0.5)
                continue
            state["made"] += 1
            state["open"] += 1
            state["most_open"] = max(state["most_open"], state["open"])
            try:
                await loop.sock_sendall(sock, HEAD)
                while loop.time() < until:
                    await loop.sock_sendall(sock, b"x")
                    await asyncio.sleep(1)
            except OSError:
                pass
            state["open"] -= 1
            sock.close()

    tasks = [asyncio.create_task(one(n)) for n in range(count)]
    await asyncio.sleep(seconds * 0.6)
    await hold()
    await asyncio.gather(*tasks)
    return dict(state)


async def crowd(target: Target, count: int) -> Seen:
    """Many connections from one address, all at once and all idle: how many were let in."""
    socks = [await target.connect() for _ in range(count)]
    answers = await asyncio.gather(*map(rest_of, socks))  # those let in are ended in the end, with no answer
    for sock in socks:
        sock.close()
    turned_away = sum(status_of(answer) == 503 for answer in answers)
    return {"opened": count, "turned_away": turned_away}


# ── too much ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _pour(target: Target, first: bytes, block: bytes, most_bytes: int, patience_s: float = 5.0) -> Seen:
    """Send for ever, until `most_bytes` are out, the other side ends, or nothing moves any more."""
    loop = asyncio.get_running_loop()
    sock = await target.connect()
    answer = asyncio.create_task(rest_of(sock))
    sent = 0
    stopped = "all sent"
    try:
        await loop.sock_sendall(sock, first)
        while sent < most_bytes:
            async with asyncio.timeout(patience_s):
                await loop.sock_sendall(sock, block)
            sent += len(block)
    except TimeoutError:
        stopped = "not read any more"
    except ConnectionError:
        stopped = "cut off"
    await asyncio.wait({answer}, timeout=patience_s)
    got = answer.result() if answer.done() else b""
    answer.cancel()
    sock.close()
    return {"sent_mib": round(sent / MIB, 1), "stopped": stopped, "status": status_of(got)}


async def endless_head(target: Target) -> Seen:
    return await _pour(target, HEAD + b"X: ", b"a" * 65536, 200 * MIB)


async def endless_fields(target: Target) -> Seen:
    return await _pour(target, HEAD, b"X-Field: y\r\n" * 5000, 200 * MIB)


async def endless_target(target: Target) -> Seen:
    return await _pour(target, b"GET /", b"a" * 65536, 200 * MIB)


async def endless_chunks(target: Target) -> Seen:
    head = b"POST /small HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    return await _pour(target, head, b"10000\r\n" + b"a" * 65536 + b"\r\n", 10 * 1024 * MIB)


async def endless_tiny_chunks(target: Target) -> Seen:
    head = b"POST /small HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    return await _pour(target, head, b"1\r\na\r\n" * 10_000, 10 * 1024 * MIB)


async def pipelined(target: Target) -> Seen:
    """20 MiB of requests on one connection, no answer taken."""
    loop = asyncio.get_running_loop()
    sock = await target.connect(kernel_bytes=4096)
    block = (HEAD + b"\r\n") * 1000
    sent = 0
    try:
        while sent < 20 * MIB:
            async with asyncio.timeout(2):
                await loop.sock_sendall(sock, block)
            sent += len(block)
    except (TimeoutError, ConnectionError):
        pass
    await hold()
    sock.close()
    return {"sent_mib": round(sent / MIB, 1)}


async def upload(target: Target) -> Seen:
    """25 MiB, honest and fast."""
    return await _upload(target, b"Content-Length: %d\r\n\r\n" % (25 * MIB), b"a" * 65536, b"")


async def upload_chunked(target: Target) -> Seen:
    chunk = b"10000\r\n%b\r\n" % (b"a" * 65536)
    return await _upload(target, b"Transfer-Encoding: chunked\r\n\r\n", chunk, b"0\r\n\r\n")


async def _upload(target: Target, framing: bytes, block: bytes, end: bytes) -> Seen:
    loop = asyncio.get_running_loop()
    sock = await target.connect()
    await loop.sock_sendall(sock, b"POST /upload HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n" + framing)
    for _ in range(25 * MIB // 65536):
        await loop.sock_sendall(sock, block)
    await loop.sock_sendall(sock, end)
    answer = await rest_of(sock)
    sock.close()
    return {"status": status_of(answer), "taken": int(answer.rpartition(b"\r\n\r\n")[2] or 0)}


KINDS: dict[str, Callable[..., Awaitable[Seen]]] = {
    each.__name__: each
    for each in (
        canary, slow_heads, slow_bodies, slow_readers, slow_sockets, crowd, endless_head, endless_fields,
        endless_target, endless_chunks, endless_tiny_chunks, pipelined, upload, upload_chunked,
    )
}  # fmt: skip


async def main() -> None:
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    target = Target(options.pop("host"), options.pop("port"))
    seen = await KINDS[kind](target, **options)
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main())
