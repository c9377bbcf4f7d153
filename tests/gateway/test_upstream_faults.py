"""A thousand of each thing an app or a visitor can do to an exchange, over GET and POST, fifty at a time.

The visitor gets the status that fits or sees a broken transfer; nothing is left of any of it five seconds later; no
POST reaches the app twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from tests.gateway.app import OK, Answer, App, End, Received
from tests.gateway.client import BrokenTransferError
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

CASES = 1000
AT_ONCE = 50
SEED = int(os.environ.get("FAULTS_SEED", "20261124"))
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b"x" * 20
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"

Fault = Callable[[random.Random], Answer]


def hang(dice: random.Random) -> Answer:
    return Answer([WHOLE[: dice.randrange(30)], End.HANG])  # somewhere in the head


def reset(dice: random.Random) -> Answer:
    return Answer([WHOLE[: dice.randrange(30)], dice.choice([End.RESET, End.CLOSE])])


def half(dice: random.Random) -> Answer:
    whole = dice.choice([WHOLE, CHUNKED])
    begin = whole.index(b"\r\n\r\n") + 4
    return Answer([whole[: dice.randrange(begin, len(whole))], dice.choice([End.RESET, End.CLOSE])])


def slow(dice: random.Random) -> Answer:
    cut = dice.randrange(len(WHOLE))
    return Answer([dice.random() * 0.03, WHOLE[:cut], dice.random() * 0.03, WHOLE[cut:]], early=dice.random() < 0.2)


FAULTS: dict[str, tuple[Fault, set[str]]] = {
    "hang": (hang, {"504 upstream_timeout"}),
    "reset": (reset, {"502 upstream_reset"}),
    "half answer": (half, {"broken"}),
    "client gone": (slow, {"left", "200"}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_thousand_of_each(gates: Rigs, name: str) -> None:
    fault, expected = FAULTS[name]
    dice = random.Random(f"{SEED} {name}")
    sys.stdout.write(f"{name}: {CASES} cases, FAULTS_SEED={SEED}\n")
    answers = {b"%d" % n: fault(dice) for n in range(CASES)}
    rig = await gates.start(upstream={"response": "120ms" if fault is hang else "10s"}, limits={"in_flight": 1000})

    def script(received: Received) -> Answer | bytes:
        return answers.get(received.target[1:], OK)

    rig.app.default = script
    await ask_once(rig, b"warm", dice, leaves=False)
    descriptors, tasks = count_descriptors(), len(asyncio.all_tasks())
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: bytes) -> str:
        async with places:
            return await ask_once(rig, number, dice, leaves=fault is slow)

    outcomes = Counter(await asyncio.gather(*(one(number) for number in answers)))
    assert outcomes.keys() <= expected, outcomes
    assert outcomes.total() == CASES
    await gone(rig, descriptors, tasks)
    posts = Counter(request.target for request in rig.app.requests if request.method == b"POST")
    assert len(posts) > CASES / 10
    assert set(posts.values()) == {1}


async def ask_once(rig: Rig, number: bytes, dice: random.Random, *, leaves: bool) -> str:
    """What one visitor sees."""
    method = dice.choice(["GET", "POST"])
    length = b"content-length: 100\r\n" if method == "POST" else b""
    body = b"x" * 100 if method == "POST" else b""
    raw = method.encode() + b" /" + number + b" HTTP/1.1\r\n" + HOST + length + b"\r\n" + body
    client = await rig.connect()
    rig.clients.remove(client)
    try:
        if leaves and dice.random() < 0.9:
            client.send(raw if dice.random() < 0.7 else raw[: dice.randrange(1, len(raw))])
            await asyncio.sleep(dice.random() * 0.05)
            return "left"
        reply = await client.ask(raw)
        return "200" if reply.status == 200 else f"{reply.status} {reply.code}"
    except BrokenTransferError:
        return "broken"
    finally:
        await client.close()


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def gone(rig: Rig, descriptors: int, tasks: int) -> None:
    """Everything is as it was, at most for what the pool keeps open on purpose."""
    app: App = rig.app
    for writer in app.open:
        writer.transport.abort()  # what was told to hang would hang for ever
    for server in rig.servers:
        server.expire(float("inf"))

    def left() -> dict[str, int]:
        return {
            "in_flight": rig.gateway.shared.in_flight,
            "held_bytes": rig.gateway.shared.held.bytes,
            "connections": len(rig.gateway.connections.open),
            "open": sum(server.open for server in rig.servers),
            "descriptors": max(0, count_descriptors() - descriptors),
        }

    await eventually(lambda: not any(left().values()), left, patience_s=5.0)
    for task in list(app._serving):
        task.cancel()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks, lambda: asyncio.all_tasks(), patience_s=5.0)
    app.faults.clear()  # requests broken off in the middle, by visitors who left
