"""An app in a process of its own that closes each connection which has idled for a while, whatever is on its way then.

`python -m tests.gateway.impatient IDLE_S HINT`: prints its port. With HINT 1 its answers say `Keep-Alive: timeout=...`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast


class Impatient(asyncio.Protocol):
    def __init__(self, idle_s: float, answer: bytes) -> None:
        self._idle_s = idle_s
        self._answer = answer
        self._ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Requests are small and come one at a time: each comes whole."""
        if self._ending is not None:
            self._ending.cancel()
        self._transport.write(self._answer)
        self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._transport.abort)


async def main(idle_s: float, hint: bool) -> None:
    told = b"Keep-Alive: timeout=%d\r\n" % idle_s if hint else b""
    answer = b"HTTP/1.1 200 OK\r\n" + told + b"Content-Length: 2\r\n\r\nok"
    server = await asyncio.get_running_loop().create_server(lambda: Impatient(idle_s, answer), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2] == "1"))
