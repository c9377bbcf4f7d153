"""Every raw request again, cut at every place into two packets, and as packets of one byte: the verdict is the same.

The client's socket is not real here (see `wire`), everything behind it is. Long requests are cut at their ends and at
every 61st byte between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
import pytest_asyncio

from tests.gateway.raw.case import HOSTS, LIMITS, Answered, Case, Passed, Refused
from tests.gateway.raw.tables import CASES
from tests.gateway.raw.wire import Wire, answers
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

LONG_BYTES = 400
AT_ONCE = 16
TOPICS = sorted({name.partition(":")[0] for name in CASES})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(rigs: Rigs) -> Rig:
    return await rigs.start(limits=LIMITS, server={"hosts": HOSTS})


@pytest_asyncio.fixture(loop_scope="module")
async def rig(house: Rig) -> AsyncIterator[Rig]:
    house.app.requests.clear()
    yield house
    await house.settled()


def cuts(case: Case) -> Iterable[int]:
    """Where `case.raw` is cut in two."""
    size = len(case.raw)
    if size > LONG_BYTES:
        return sorted({*range(1, 64), *range(64, size, 61), *range(size - 32, size)})
    return range(1, size)


def packets(case: Case) -> Iterable[Sequence[bytes]]:
    raw, rest = case.raw, case.whole[len(case.raw) :]
    yield [raw[at : at + 1] for at in range(len(raw))] + [rest]
    for cut in cuts(case):
        yield raw[:cut], raw[cut:], rest


def expected(case: Case) -> list[tuple[int, frozenset[str]]]:
    told: list[tuple[int, frozenset[str]]] = []
    for verdict in case.verdicts:
        match verdict:
            case Passed():
                told.append((200, frozenset([""])))
            case Refused(status, codes) | Answered(status, codes):
                told.append((status, frozenset(codes.split(", "))))
    return told + [(200, frozenset([""]))] * case.goes_on


async def carried(rig: Rig, case: Case, parts: Sequence[bytes]) -> None:
    """One run: these packets, one after the other."""
    wire = Wire(rig.gateway)
    told = expected(case)
    methods = [verdict.method if isinstance(verdict, Passed) else b"GET" for verdict in case.verdicts]

    def got() -> list[tuple[int, str]]:
        return answers(bytes(wire.sent), methods)

    try:
        for part in filter(None, parts):
            wire.deliver(part)
            await asyncio.sleep(0)
        await wire.until(lambda: len(got()) >= len(told) and (case.goes_on or wire.ended))
    except TimeoutError:
        raise AssertionError((parts, got())) from None
    finally:
        wire.hang_up()
    found = got()
    assert len(found) == len(told), (parts, found)
    assert all(f[0] == t[0] and f[1] in t[1] for f, t in zip(found, told, strict=True)), (parts, found, told)
    assert wire.ended == (not case.goes_on), parts


async def all_splits(rig: Rig, case: Case) -> None:
    runs = list(packets(case))
    rig.app.requests.clear()
    for at in range(0, len(runs), AT_ONCE):
        await asyncio.gather(*[carried(rig, case, parts) for parts in runs[at : at + AT_ONCE]])
    wanted = [*case.forwarded, *[Passed(b"GET", b"/next")] * case.goes_on]
    seen = Counter(_unframed(each.method, each.target, each.framing, each.body) for each in rig.app.requests)
    told = Counter(_unframed(each.method, each.target, each.framing, each.body) for each in wanted)
    assert seen == Counter({passed: count * len(runs) for passed, count in told.items()})


def _unframed(method: bytes, target: bytes, framing: str, body: bytes) -> Passed:
    """A chunked body goes on with its length when all of it came with the head, and in chunks when it did not."""
    return Passed(method, target, "none" if framing == "none" else "length", body)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", TOPICS)
async def test_the_verdict_is_the_same_at_every_split(rig: Rig, topic: str) -> None:
    for name, case in CASES.items():
        if name.startswith(topic + ":"):
            await all_splits(rig, case)


async def test_there_are_as_many_splits_as_promised() -> None:
    assert sum(len(list(packets(case))) for case in CASES.values()) >= 2000
