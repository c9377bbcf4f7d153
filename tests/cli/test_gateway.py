"""How many gateway processes there are, and how each is started. Running ones are in `tests/flows`."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scopegate.cli import gateway
from scopegate.policy.policy import Policy
from tests.policies import compiled_with


@pytest.fixture
def policy() -> Policy:
    return compiled_with(server={"listen": "127.0.0.1:8080", "workers": 3})


@pytest.mark.parametrize(("shared_limits", "count"), [(True, 3), (False, 1)])
def test_how_many_gateway_processes(policy: Policy, shared_limits: bool, count: int) -> None:
    assert gateway.worker_count(policy, shared_limits=shared_limits) == count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not tell")
def test_auto_is_one_process_for_each_core_that_we_may_use(policy: Policy) -> None:
    policy = replace(policy, server=replace(policy.server, workers=None))
    allowed = os.sched_getaffinity(0)
    assert gateway.worker_count(policy, shared_limits=True) == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert gateway.worker_count(policy, shared_limits=True) == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("workers", "names"), [(1, ["gateway"]), (3, ["gateway-1", "gateway-2", "gateway-3"])])
def test_every_process_serves_on_the_one_socket_by_the_one_copy(workers: int, names: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        ports = gateway.Ports(sock)
        found = gateway.children(Path("g.yaml"), ports, workers, {"A": "b"}, Path("copy.json"), after=("valkey",))
        fd = sock.fileno()
    assert [child.name for child in found] == names
    options = ("-c", "g.yaml", "--copy", "copy.json", "--fd", str(fd))
    assert {child.argv for child in found} == {(sys.executable, "-P", "-m", "scopegate", "gateway", *options)}
    assert {(child.pass_fds, child.after, child.env["A"]) for child in found} == {((fd,), ("valkey",), "b")}


def test_the_port_that_redirects_is_handed_on_beside_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        [child] = gateway.children(Path("g.yaml"), gateway.Ports(one, two), 1, {}, Path("copy.json"))
        assert child.pass_fds == (one.fileno(), two.fileno())
        assert child.argv[-4:] == ("--fd", str(one.fileno()), "--redirect-fd", str(two.fileno()))


def test_one_that_was_killed_is_back_within_a_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        [child] = gateway.children(Path("g.yaml"), gateway.Ports(sock), 1, {}, Path("copy.json"))
    assert child.rule is not None
    assert child.rule.served_max_delay_s == 1.0
