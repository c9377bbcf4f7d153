"""Listening sockets at their end: who waits is taken, who comes is refused, nobody is reset."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from scopegate.process import backlog


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def test_all_that_wait_are_taken(sock: socket.socket) -> None:
    visitors = [socket.create_connection(sock.getsockname()) for _ in range(3)]
    taken = list(backlog.waiting(sock))
    assert [client.getpeername() for client in taken] == [visitor.getsockname() for visitor in visitors]
    assert list(backlog.waiting(sock)) == []
    for each in visitors + taken:
        each.close()


def test_nobody_is_taken_from_a_closed_socket(sock: socket.socket) -> None:
    sock.close()
    backlog.take_no_more(sock)
    assert list(backlog.waiting(sock)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of the Linux kernel")
def test_who_comes_after_the_last_is_refused_and_not_reset(sock: socket.socket) -> None:
    address = sock.getsockname()
    with socket.create_connection(address) as visitor:
        backlog.take_no_more(sock)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, 0.2)
        [client] = backlog.waiting(sock)
        with client:
            sock.close()
            client.sendall(b"served")
            assert visitor.recv(16) == b"served"
            visitor.sendall(b"heard")
            client.settimeout(5)
            assert client.recv(16) == b"heard"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)
