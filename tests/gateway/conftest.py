"""Fixtures of the tests that serve. See `rig`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import uvloop

from tests.gateway.rig import Rigs

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Modules marked ON_ONE_LOOP run on uvloop, as the gateway does; all others as they always do."""
    marker = item.get_closest_marker("asyncio")
    asked = marker is not None and marker.kwargs.get("loop_factories")
    return {"uvloop": uvloop.new_event_loop} if asked else {"asyncio": asyncio.new_event_loop}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rigs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rigs]:
    made = Rigs(tmp_path_factory.mktemp("rigs"))
    yield made
    await made.stopped()


@pytest_asyncio.fixture(loop_scope="module")
async def gates(rigs: Rigs) -> AsyncIterator[Rigs]:
    """Start a gateway with `await gates.start(...)`. After the test, nothing may be left of its visitors."""
    yield rigs
    await rigs.settled()
