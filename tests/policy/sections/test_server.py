from __future__ import annotations

import pytest
import yaml

from scopegate.policy.policy import AddressSource, HostUse, Policy
from tests.policies import MINIMAL, compiled, compiled_with, document, review


def test_the_public_port(edge: Policy) -> None:
    assert edge.server.address_from is AddressSource.PROXY_PROTOCOL
    assert edge.server.forwarded_host == {HostUse.APP, HostUse.HOSTS}
    assert edge.server.limits.connections_per_client == 64
    assert edge.server.timeouts.body_s == 600


@pytest.mark.parametrize(
    ("limits", "per_client"),
    [({"connections": 64}, 64), ({"connections": 64, "connections_per_client": 64}, 64), ({}, 512)],
)
def test_the_bound_of_one_client_gives_way_to_that_of_all(limits: dict[str, int], per_client: int) -> None:
    assert compiled_with(server={"limits": limits}).server.limits.connections_per_client == per_client


@pytest.mark.parametrize(
    ("limits", "per_client"),
    [({"in_flight": 8}, 8), ({"in_flight": 8, "in_flight_per_client": 8}, 8), ({}, 256), ({"in_flight": 600}, 256)],
)
def test_the_requests_of_one_client_give_way_to_those_of_all(limits: dict[str, int], per_client: int) -> None:
    assert compiled_with(server={"limits": limits}).server.limits.in_flight_per_client == per_client


def test_what_was_left_out_is_no_mistake() -> None:
    """512 requests at once by default, on 100 connections."""
    found = review(yaml.safe_dump(document(server={"limits": {"connections": 100}})))
    assert (found.problems, found.warnings) == ((), ())


def test_numbers_and_words_may_come_from_the_environment() -> None:
    text = MINIMAL + "server: {workers: '${W}', listen: '127.0.0.1:${PORT:-8081}', limits: {fields: '${F}'}}\n"
    found = compiled(text, {"W": "auto", "F": "50"})
    assert (found.server.workers, found.server.listen.port, found.server.limits.fields) == (None, 8081, 50)
