"""Listening sockets, and what is said when there is none to be had."""

from __future__ import annotations

import os
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


def test_a_socket_is_taken_over_from_a_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """sd_listen_fds(3): the variables are for the process they name, and not for its children."""
    with ports.listen(Address("127.0.0.1", 0)) as sock:
        monkeypatch.setattr(ports, "_FIRST_HANDED_FD", os.dup(sock.fileno()))
        assert ports.activated() is None
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
        assert ports.activated() is None, "they were meant for somebody else"
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        taken = ports.activated()
        assert taken is not None
        with taken:
            assert taken.getsockname() == sock.getsockname()
            assert not os.get_inheritable(taken.fileno())
        assert "LISTEN_FDS" not in os.environ
        assert ports.activated() is None


def test_one_socket_is_served_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    with pytest.raises(ports.PortUnusable, match="handed over 2 sockets, and one is served"):
        ports.activated()


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
