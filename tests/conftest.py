"""Fixtures of every test: real Redis engines. A missing one is a failure when CI=true and a named skip elsewhere.

`--full` runs the long tests at their promised size (100,000 mutations, 5,000 slow sockets); without it they do less.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.valkey import Server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="long tests at their promised size")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether long tests run at their promised size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey server shared by the whole session: use keys of your own, expect others', never flush it."""
    with tempfile.TemporaryDirectory(prefix="scopegate-") as folder, Server(Path(folder)) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The same on the machine's own redis-server."""
    with tempfile.TemporaryDirectory(prefix="scopegate-") as folder, Server(Path(folder), "redis") as server:
        yield server.url


@pytest.fixture
def server() -> Iterator[Server]:
    """A Valkey server of the test's own, to break."""
    with tempfile.TemporaryDirectory(prefix="scopegate-") as folder, Server(Path(folder)) as server:
        yield server
