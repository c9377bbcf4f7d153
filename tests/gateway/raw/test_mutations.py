"""Spoilt requests by the thousand: whatever of them is forwarded, everybody reads alike.

The gateway's own reading is its access log (method, path, bytes of the body, by request id); the others are httptools,
h11 and node over the very bytes that reached the app. 5,000 mutations in a usual run, 100,000 with --full.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from scopegate.gateway.access import AccessLog
from tests.engines import missing
from tests.gateway.raw.case import HOSTS, LIMITS
from tests.gateway.raw.mutate import mutation
from tests.gateway.raw.readings import Node, Reading, Tape, by_h11
from tests.gateway.raw.wire import Wire
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

SEED = int(os.environ.get("MUTATION_SEED") or random.SystemRandom().randrange(1 << 32))
COUNT, FULL_COUNT = 5_000, 100_000
AT_ONCE = 64
PATIENCE_S = 5.0


async def carried(rig: Rig, index: int) -> None:
    """One mutation, on a connection of its own, as far as it gets."""
    wire = Wire(rig.gateway)
    for packet in mutation(SEED, index):
        wire.deliver(packet)
        await asyncio.sleep(0)
    waited = 0.0
    while not is_over(wire):
        await asyncio.sleep(0.003)
        waited += 0.003
        assert waited < PATIENCE_S, ("no end", SEED, index, mutation(SEED, index))
    wire.hang_up()


def is_over(wire: Wire) -> bool:
    """Refused, answered, or waiting for bytes that will not come."""
    connection = wire.connection
    exchange = connection._exchange
    if wire.ended or exchange is None:
        return True
    return connection._delivering and not exchange.body_done


async def carry_all(rig: Rig, count: int) -> None:
    indices = iter(range(count))

    async def some() -> None:
        for index in indices:
            await carried(rig, index)

    await asyncio.gather(*[some() for _ in range(AT_ONCE)])


@pytest.mark.timeout(900)
async def test_whatever_is_forwarded_is_read_alike_by_everybody(
    gates: Rigs, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    count = FULL_COUNT if full else COUNT
    async with Tape() as tape:
        url = f"http://127.0.0.1:{tape.port}"
        rig = await gates.start(servers=[url], limits=LIMITS, server={"hosts": HOSTS})
        log = io.StringIO()
        rig.gateway.shared.access = AccessLog(rig.gateway.shared.now_ms, log)
        await carry_all(rig, count)
        await rig.settled()
        rig.gateway.shared.access.flush()
        ours = {row["request_id"]: row for row in map(json.loads, log.getvalue().splitlines())}
        read = compare(tape, ours)
    served = sum(row["status"] == 200 for row in ours.values())
    assert served > count // 20
    assert len(ours) - served > count // 4
    with capsys.disabled():
        print(f"\nseed {SEED}: {count} mutations, {len(ours)} requests, {read} forwarded and read alike")  # noqa: T201
    compare_with_node(tape, shutil.which("node") or missing("Node.js"))


def compare(tape: Tape, ours: dict[str, Any]) -> int:
    """How many requests reached the app whole."""
    assert [connection.fault for connection in tape.connections if connection.fault] == [], SEED
    by_id: dict[str, Reading] = {}
    for connection in tape.connections:
        readings = connection.reader.readings
        stream = bytes(connection.stream[: connection.complete])
        assert by_h11(stream) == readings, SEED
        for request_id, reading in zip(connection.reader.ids, readings, strict=True):
            assert request_id not in by_id, (SEED, "forwarded twice", reading)
            by_id[request_id] = reading
    for request_id, reading in by_id.items():
        row = ours[request_id]
        assert (row["method"], row["path"]) == (reading.method, reading.target.partition("?")[0]), SEED
        assert row["status"] in (200, 499), (SEED, "forwarded and refused", row)
        assert row["bytes_in"] == reading.body_bytes, SEED
    assert {request_id for request_id, row in ours.items() if row["status"] == 200} <= by_id.keys(), SEED
    return len(by_id)


def compare_with_node(tape: Tape, binary: str) -> None:
    with Node(binary) as node:
        for connection in tape.connections:
            stream = bytes(connection.stream[: connection.complete])
            assert node.read(stream) == connection.reader.readings, SEED


@pytest.fixture
def node() -> Iterator[Node]:
    with Node(shutil.which("node") or missing("Node.js")) as child:
        yield child


async def test_node_tells_a_stream_that_it_reads_from_one_that_it_does_not(node: Node) -> None:
    good = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET /y HTTP/1.1\r\nhost: a\r\n\r\n"
    assert node.read(good) == by_h11(good)
    with pytest.raises(AssertionError, match="refused"):
        node.read(b"GET /x HTTP/1.1\r\nhost : a\r\n\r\n")
    assert node.read(good) == by_h11(good)
