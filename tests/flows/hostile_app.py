"""The app behind the gateway that hostile clients meet: small answers, answers of 10 MiB, uploads that it counts.

    python -m tests.flows.hostile_app

Prints its port. `GET /written` tells how many bytes of large answers it could get rid of so far.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys

BIG_BYTES = 10 * 1024 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)
written = 0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await exchange(reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    global written
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ", 2)[1]
    if path == b"/big":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % BIG_BYTES)
        for _ in range(BIG_BYTES // 16384):
            writer.write(b"x" * 16384)
            await writer.drain()
            written += 16384
        return True
    taken = await body(reader, head)
    answer = {b"/upload": b"%d" % taken, b"/written": b"%d" % written}.get(path, b"ok")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
    await writer.drain()
    return True


async def body(reader: asyncio.StreamReader, head: bytes) -> int:
    """How many bytes it has; read and forgotten."""
    taken = 0
    length = _LENGTH.search(head)
    if length is not None:
        while taken < int(length[1]):
            part = await reader.read(min(65536, int(length[1]) - taken))
            if not part:
                raise ConnectionError
            taken += len(part)
    elif b"transfer-encoding: chunked" in head.lower():
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
            taken += size
        await reader.readuntil(b"\r\n")
    return taken


async def main() -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # what the kernel holds is not what we got rid of
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock, limit=1 << 20)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
