from __future__ import annotations

from scopegate.policy.addresses import Address
from scopegate.policy.sections.redirect import Redirect, RedirectShape, overlap


def test_a_redirect_is_one_of_port_80_to_port_443() -> None:
    assert RedirectShape().build() == Redirect(Address("0.0.0.0", 80), 443, None)
    said = {"listen": "127.0.0.1:8080", "port": 8443, "webroot": "/var/lib/acme"}
    assert RedirectShape.model_validate(said).build() == Redirect(Address("127.0.0.1", 8080), 8443, "/var/lib/acme")


def test_listeners_that_are_one() -> None:
    everywhere, here, there = (Address(host, 80) for host in ("0.0.0.0", "127.0.0.1", "127.0.0.2"))
    assert overlap(everywhere, here)
    assert overlap(here, everywhere)
    assert overlap(here, here)
    assert not overlap(here, there)
    assert not overlap(here, Address("127.0.0.1", 81))
    assert not overlap(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
