"""Processes name their keys by the policy, and many policies of tests are alike: each test has a store of its own."""

from __future__ import annotations

import pytest

from tests.valkey import Server


@pytest.fixture
def valkey_url(server: Server) -> str:
    return server.url
