"""What is seen on this machine: from where connections come, who holds a port, how much room there is."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from scopegate import settings
from scopegate.cli import machine
from scopegate.cli.diagnosis import State
from scopegate.policy.policy import Policy
from tests.policies import compiled_with


def line(peer: str, port: int = 8080, state: str = "01") -> str:
    """One of /proc/net/tcp on this machine: `peer` in IPv4."""
    raw = socket.inet_aton(peer)
    digits = (raw[::-1] if sys.byteorder == "little" else raw).hex().upper()
    return f"0: 0100007F:{port:04X} {digits}:C350 {state} 00000000:00000000"


def policy(trusted: Sequence[str] = ()) -> Policy:
    return compiled_with(server={"listen": "0.0.0.0:8080", "trusted_proxies": list(trusted)})


@pytest.mark.parametrize(
    ("trusted", "peers", "state", "said"),
    [
        ([], ["8.8.8.8"], State.OK, "no proxy among them"),
        ([], ["10.0.0.5"], State.WARNING, "10.0.0.5, which no trusted network holds"),
        (["10.0.0.0/8"], ["10.0.0.5"], State.OK, "all from trusted networks"),
        (["10.0.0.0/8"], ["8.8.8.8"], State.WARNING, "none of them of a trusted network"),
        (["10.0.0.0/8"], ["10.0.0.5", "8.8.8.8"], State.WARNING, "besides the proxies, 8.8.8.8 connect directly"),
        (["10.0.0.0/8"], [], State.UNASKED, "nobody is connected now"),
    ],
)
def test_trusted_proxies_are_held_against_who_is_connected(
    trusted: list[str], peers: list[str], state: State, said: str
) -> None:
    elsewhere = [line("9.9.9.9", port=443), line("9.9.9.9", state="06")]
    found = machine.proxies(policy(trusted), [*map(line, peers), *elsewhere])
    assert (found.state, said in found.said) == (state, True), found
    assert bool(found.mend) == (state is State.WARNING)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_tells_who_is_connected(family: socket.AddressFamily) -> None:
    loopback = "127.0.0.1" if family is socket.AF_INET else "::1"
    with socket.socket(family) as listener:
        listener.bind((loopback, 0))
        listener.listen()
        port: int = listener.getsockname()[1]
        with socket.create_connection((loopback, port)):
            lines = [line for name in ("tcp", "tcp6") for line in _lines(name)]
            assert loopback in {str(peer) for peer in machine.peers_of(lines, port)}


def _lines(name: str) -> list[str]:
    return Path("/proc/net", name).read_text("ascii").splitlines()[1:]


def test_a_port_that_somebody_else_holds_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        taken = compiled_with(server={"listen": f"127.0.0.1:{port}"}, admin={"listen": "127.0.0.1:0"})
        found = list(machine.ports(settings.load({"SCOPEGATE_STATE_DIR": str(tmp_path)}), taken))
    assert [one.state for one in found] == [State.FAILED, State.OK]
    assert f"127.0.0.1:{port}" in found[0].said
    assert "server.listen" in found[0].mend


@pytest.mark.parametrize(
    ("free", "state"), [(1 << 20, State.FAILED), (machine.MIN_FREE_BYTES, State.WARNING), (1 << 40, State.OK)]
)
def test_room_is_told_before_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 0, free))
    found = machine.disk(settings.load({"SCOPEGATE_STATE_DIR": str(tmp_path / "not" / "yet")}))
    assert (found.state, str(tmp_path) in found.said) == (state, True)


def test_postgresql_without_its_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = machine.extras(settings.load({"DATABASE_URL": "postgresql://u@h/d"}))
    assert (found.state, found.mend) == (State.FAILED, "install scopegate[postgres]")
