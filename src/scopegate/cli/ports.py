"""Listening sockets, bound by the parent so that a port in use is said once, clearly, before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from scopegate.errors import ScopegateError
from scopegate.policy.policy import Address
from scopegate.process import backlog

_FIRST_HANDED_FD = 3


class PortUnusable(ScopegateError):
    """An address we should listen on cannot be had: in use, not ours, or not allowed."""


def listen(address: Address) -> socket.socket:
    """A listening, non-blocking TCP socket. Raises PortUnusable."""
    try:
        host = address.host.encode() if address.host.isascii() else address.host  # text has Python load all of IDNA
        family, _, _, _, place = socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise PortUnusable(f"cannot listen on {shown(address)}: {exc.strerror or exc}") from exc
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(backlog.SIZE)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise PortUnusable(f"cannot listen on {shown(address)}: {exc.strerror or exc}") from exc
    return sock


def activated(served: Sequence[str]) -> list[socket.socket]:
    """The sockets a service manager listens on for us (LISTEN_PID and LISTEN_FDS, sd_listen_fds(3)); none when it does
    not. With them, a restart of the whole service refuses no connection. `served` names the settings they stand for, in
    order. Raises PortUnusable for another number of them."""
    handed = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not handed.isdigit() or handed == "0":
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # they are for this process, not for its children
    if int(handed) != len(served):
        wanted = f"{len(served)} served ({', '.join(served)})"
        raise PortUnusable(f"the service manager handed over {handed} sockets, and there are {wanted}")
    fds = range(_FIRST_HANDED_FD, _FIRST_HANDED_FD + len(served))
    for fd in fds:
        os.set_inheritable(fd, False)
    return [inherited(fd) for fd in fds]


def inherited(fd: int) -> socket.socket:
    """The listening socket a supervisor passed to this process. Raises PortUnusable when there is none at `fd`."""
    try:
        sock = socket.socket(fileno=fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise PortUnusable(f"file descriptor {fd} is no socket: {exc.strerror}") from exc
    if not listens:
        sock.close()
        raise PortUnusable(f"the socket at file descriptor {fd} does not listen")
    sock.setblocking(False)
    return sock


def shown(address: Address) -> str:
    """`host:port`, brackets around IPv6."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def url(address: Address, *, tls: bool = False) -> str:
    """Where a browser on this machine finds it: a wildcard address is shown as loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address.host, address.host)  # noqa: S104 - shown
    return f"{'https' if tls else 'http'}://{shown(Address(host, address.port))}"
