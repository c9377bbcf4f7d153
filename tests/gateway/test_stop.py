"""A stop and those who are not accepted yet: the kernel has completed their connections, closing would reset them."""

from __future__ import annotations

import asyncio
import socket
import time
from functools import partial

from scopegate.process.serving import HANDSHAKE_S
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs

pytestmark = ON_ONE_LOOP


async def test_who_waits_to_be_accepted_is_served_before_the_port_is_closed(rigs: Rigs) -> None:
    """The loop is held until the handshakes are over, and visitors come in then: nobody accepts them before the end."""
    rig = await rigs.start()
    loop = asyncio.get_running_loop()
    visitors: list[socket.socket] = []

    def hold_and_visit() -> None:
        time.sleep(HANDSHAKE_S)
        for _ in range(3):
            visitors.append(socket.create_connection(("127.0.0.1", rig.port)))
            visitors[-1].sendall(b"GET /waited HTTP/1.1\r\n" + HOST + b"\r\n")

    rig.stop.set()
    await asyncio.sleep(0)
    loop.call_later(HANDSHAKE_S / 2, hold_and_visit)
    await rig.stopped()
    assert len(visitors) == 3
    for visitor in visitors:
        with visitor:
            visitor.settimeout(5)
            answer = b"".join(iter(partial(visitor.recv, 4096), b""))
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nconnection: close\r\n" in answer.lower()
