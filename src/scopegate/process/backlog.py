"""The end of a listening socket, without resetting a connection that the kernel has completed already.

Closing resets whatever nobody has accepted. So, first, no further connection may begin; then what waits is taken; then
the socket is closed. Called by `serving`, and by `cli` for the sockets that are ours alone.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

SIZE = 2048
"""How many connections the kernel keeps for us until they are accepted."""

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>; `socket` has no name for it
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
"""A classic BPF program (Linux, networking/filter.rst); a TCP socket's packets begin with their header."""


def take_no_more(sock: socket.socket) -> None:
    """Let no further connection begin on this listening socket, in whatever process it is shared. Handshakes under way
    are completed. Who comes now is refused once the socket is closed: it tries again by itself after a second. Only for
    a socket that nobody will serve any more. Where the system cannot do it, nothing changes."""
    if sys.platform != "linux":
        return
    import ctypes  # only a process that ends comes here

    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code)))


def waiting(sock: socket.socket) -> Iterator[socket.socket]:
    """Accept what waits on a non-blocking listening socket, until nothing does; SIZE of them at most."""
    for _ in range(SIZE):
        try:
            client, _address = sock.accept()
        except ConnectionAbortedError:  # it went away while it waited
            continue
        except OSError:
            return
        yield client
