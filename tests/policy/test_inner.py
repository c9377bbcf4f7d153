"""Which fields are taken out of every request, in every spelling that apps read alike."""

from __future__ import annotations

import pytest

from scopegate.policy.inner import is_inner


@pytest.mark.parametrize(
    "name", [b"x-middleware-subrequest", b"x_middleware_subrequest", b"x.scopegate-user", b"x-isr"]
)
def test_inner_names_are_so_in_every_spelling(name: bytes) -> None:
    assert is_inner(name)


@pytest.mark.parametrize("name", [b"x-tenant", b"next-action", b"x-nextjs-data", b"x-nextjs-request-id", b"x-middle"])
def test_what_clients_send_is_not(name: bytes) -> None:
    assert not is_inner(name)
