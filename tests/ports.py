"""Ports for servers that are started later, and again: below those that the kernel gives to outgoing connections, so
that none of these takes one meanwhile, and each once, in a part of its own for every process of the tests."""

from __future__ import annotations

import os
import socket
from itertools import count

_FIRST, _BEYOND = 10_240, 32_768
_STEP = 7
_turn = count()


def free_port() -> int:
    """Nobody listens there, on loopback."""
    begin = (os.getpid() * 997) % (_BEYOND - _FIRST)
    while True:
        port = _FIRST + (begin + next(_turn) * _STEP) % (_BEYOND - _FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_addresses(count: int) -> list[str]:
    """As a policy names them."""
    return [f"127.0.0.1:{free_port()}" for _ in range(count)]
