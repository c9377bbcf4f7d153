"""Listening sockets, and what is said when there is none to be had."""

from __future__ import annotations

import fcntl
import os
import re
import socket

import pytest

from scopegate.cli import ports
from scopegate.policy.policy import Address


def test_a_socket_listens_where_it_is_told() -> None:
    with ports.listen(Address("127.0.0.1", 0)) as sock:
        with socket.create_connection(sock.getsockname()[:2], timeout=5):
            pass
        assert sock.getblocking() is False


def test_a_port_in_use_is_said_clearly() -> None:
    with ports.listen(Address("127.0.0.1", 0)) as sock:
        taken = Address("127.0.0.1", sock.getsockname()[1])
        with pytest.raises(
            ports.PortUnusable, match=f"cannot listen on 127.0.0.1:{taken.port}: Address already in use"
        ):
            ports.listen(taken)


def test_a_socket_is_taken_over_by_its_number() -> None:
    with ports.listen(Address("127.0.0.1", 0)) as sock, ports.inherited(os.dup(sock.fileno())) as taken:
        assert taken.getsockname() == sock.getsockname()
        assert taken.getblocking() is False


def test_sockets_are_taken_over_from_a_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """sd_listen_fds(3): the variables are for the process they name, and not for its children."""
    with ports.listen(Address("127.0.0.1", 0)) as one, ports.listen(Address("127.0.0.1", 0)) as two:
        first = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 200)
        assert fcntl.fcntl(two.fileno(), fcntl.F_DUPFD, 200) == first + 1
        monkeypatch.setattr(ports, "_FIRST_HANDED_FD", first)
        assert ports.activated(["a", "b"]) == []
        monkeypatch.setenv("LISTEN_FDS", "2")
        monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
        assert ports.activated(["a", "b"]) == [], "they were meant for somebody else"
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        taken = ports.activated(["a", "b"])
        assert [sock.getsockname() for sock in taken] == [one.getsockname(), two.getsockname()]
        assert not any(os.get_inheritable(sock.fileno()) for sock in taken)
        for sock in taken:
            sock.close()
        assert "LISTEN_FDS" not in os.environ
        assert ports.activated(["a", "b"]) == []


@pytest.mark.parametrize("served", [["server.listen"], ["server.listen", "server.redirect.listen", "c"]])
def test_as_many_sockets_are_taken_over_as_are_served(monkeypatch: pytest.MonkeyPatch, served: list[str]) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    told = f"handed over 2 sockets, and there are {len(served)} served ({', '.join(served)})"
    with pytest.raises(ports.PortUnusable, match=re.escape(told)):
        ports.activated(served)


def test_what_is_no_listening_socket_is_said_clearly() -> None:
    with socket.socket() as idle, pytest.raises(ports.PortUnusable, match="does not listen"):
        ports.inherited(os.dup(idle.fileno()))
    with open(os.devnull) as file, pytest.raises(ports.PortUnusable, match="is no socket"):
        ports.inherited(os.dup(file.fileno()))


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_ours_is_said_clearly(host: str) -> None:
    with pytest.raises(ports.PortUnusable, match=f"cannot listen on {host}:80"):
        ports.listen(Address(host, 80))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (Address("0.0.0.0", 8080), "http://127.0.0.1:8080"),
        (Address("::", 8080), "http://[::1]:8080"),
        (Address("::1", 80), "http://[::1]:80"),
        (Address("10.1.2.3", 81), "http://10.1.2.3:81"),
    ],
)
def test_a_url_is_one_a_browser_here_can_open(address: Address, url: str) -> None:
    assert ports.url(address) == url
