"""A simulated Claude on a real socket, in a thread, for tests that use the real SDK.

`from tests.simulated import simulated_claude, picture` in a test module (or conftest) makes the fixture usable there.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from PIL import Image as Pillow

from scopegate.clock import SystemClock
from scopegate.demo.claude import Injected, SeenCall, Simulation, listen, server
from scopegate.worker.call import Image

KEY = "sk-ant-simulated"
BROWN = (120, 80, 45)


@dataclass(frozen=True)
class SimulatedClaude:
    """`url` is the base URL; faults and calls are those of the running server."""

    url: str
    simulation: Simulation

    def fail(self, *faults: Injected) -> None:
        self.simulation.faults.extend(faults)

    @property
    def requests(self) -> int:
        return self.simulation.requests

    @property
    def calls(self) -> list[SeenCall]:
        return list(self.simulation.calls)

    def reset(self) -> None:
        self.simulation.faults.clear()
        self.simulation.calls.clear()
        self.simulation.batches.made.clear()
        self.simulation.batches.lasts_s, self.simulation.clock = 0.0, SystemClock()
        self.simulation.requests, self.simulation.latency_s, self.simulation.api_key = 0, 0.0, KEY


@pytest.fixture(scope="session")
def _running_claude() -> Iterator[SimulatedClaude]:
    simulation = Simulation(api_key=KEY)
    listener = listen()
    running = server(simulation)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not running.started:
        assert thread.is_alive(), "the simulated Claude did not start"
        assert time.monotonic() < deadline, "the simulated Claude did not start in time"
        time.sleep(0.01)
    host, port = listener.getsockname()
    yield SimulatedClaude(f"http://{host}:{port}", simulation)
    running.should_exit = True
    thread.join(10)
    listener.close()
    assert not thread.is_alive(), "the simulated Claude did not stop"


@pytest.fixture
def simulated_claude(_running_claude: SimulatedClaude) -> SimulatedClaude:
    """Fresh for each test: no faults, no calls, the key is `KEY`."""
    _running_claude.reset()
    return _running_claude


def picture(colour: str | tuple[int, int, int] = BROWN, size: tuple[int, int] = (96, 64)) -> Image:
    """A small JPEG of one colour."""
    out = io.BytesIO()
    Pillow.new("RGB", size, colour).save(out, "JPEG")
    return Image("image/jpeg", out.getvalue(), *size, "Photo 1")
