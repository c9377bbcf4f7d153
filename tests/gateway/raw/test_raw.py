"""Every raw request as one packet on a real socket: what is refused reaches nobody, what is clean reaches the app once.

What arrives at the app is held to the universal promises by the recording app itself (`App.faults`): it re-parses
strictly, it is framed once, it has one Host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.client import Client
from tests.gateway.raw import cases_chunks, cases_framing, cases_host
from tests.gateway.raw.case import HOSTS, LIMITS, NEXT, Answered, Case, Passed, Refused, Verdict
from tests.gateway.raw.tables import CASES
from tests.gateway.rig import ON_ONE_LOOP, Rig, Rigs

pytestmark = ON_ONE_LOOP

REFUSED = [name for name, case in CASES.items() if isinstance(case.verdicts[0], Refused)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(rigs: Rigs) -> Rig:
    return await rigs.start(limits=LIMITS, server={"hosts": HOSTS})


@pytest_asyncio.fixture(loop_scope="module")
async def rig(house: Rig) -> AsyncIterator[Rig]:
    """The module's gateway, seen fresh."""
    house.app.requests.clear()
    yield house
    await house.settled()


async def test_the_tables_are_as_large_as_promised() -> None:
    assert len({case.raw for case in CASES.values()}) >= 300
    assert len(cases_chunks.TRAILERS) == 17
    assert len(cases_host.CASES) >= 34
    assert len(cases_framing.CASES) + len(cases_framing.CODINGS) >= 60


async def check(client: Client, verdict: Verdict, method: bytes) -> None:
    reply = await client.answer(method.decode("latin-1"))
    match verdict:
        case Passed():
            assert reply.status == 200
        case Refused(status, codes):
            assert (reply.status, reply.get(b"connection")) == (status, [b"close"])
            assert method == b"HEAD" or reply.code in codes.split(", ")
        case Answered(status, code):
            assert (reply.status, reply.code, reply.get(b"connection")) == (status, code, [])


async def check_all(client: Client, case: Case) -> None:
    for verdict in case.verdicts:
        await check(client, verdict, verdict.method if isinstance(verdict, Passed) else b"GET")
    if case.goes_on:
        assert (await client.answer()).status == 200
    else:
        assert await client.ends() == b""


def forwarded(rig: Rig) -> list[Passed]:
    return [Passed(each.method, each.target, each.framing, each.body) for each in rig.app.requests]


@pytest.mark.parametrize("name", CASES)
async def test_a_raw_request_meets_its_verdict(rig: Rig, name: str) -> None:
    case = CASES[name]
    client = await rig.connect()
    client.send(case.whole)
    await check_all(client, case)
    assert forwarded(rig) == [*case.forwarded, *[Passed(b"GET", b"/next")] * case.goes_on]


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_behind_a_good_request_is_refused_all_the_same(rig: Rig, name: str) -> None:
    case = CASES[name]
    client = await rig.connect()
    client.send(NEXT + case.raw + (NEXT if b"\r\n\r\n" in case.raw else b""))
    assert (await client.answer()).status == 200
    await check_all(client, case)
    assert forwarded(rig) == [Passed(b"GET", b"/next")]
