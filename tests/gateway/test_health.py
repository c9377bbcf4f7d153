"""Health questions to servers: who does not answer well gets no requests until it does again."""

from __future__ import annotations

import asyncio
import logging

from scopegate.limits.health import ServerState
from tests.gateway.app import OK, Answer, App, End, IgnoredFaults, Received, Script, body_of
from tests.gateway.rig import HOST, ON_ONE_LOOP, Lines, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
ASKED = {"path": "/up", "every": "20ms", "timeout": "150ms", "unhealthy_after": 2, "healthy_after": 2}


def app_with(well: list[Script]) -> App:
    """Its answer to the health question is the last of `well`."""
    app = App()
    app.faults = IgnoredFaults()  # a health question is no proxied request

    def answer(received: Received) -> Answer | bytes:
        said = well[-1] if received.target == b"/up" else OK
        assert not callable(said)
        return said

    app.default = answer
    return app


def state(rig: Rig) -> ServerState:
    return rig.servers[0].state(rig.gateway.shared.loop.time())


async def test_a_server_that_is_not_well_gets_nothing_until_it_is(gates: Rigs) -> None:
    well: list[Script] = [OK]
    sick, other = app_with(well), app_with([OK])
    lines, logger = Lines(), logging.getLogger("scopegate.upstream")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    await sick.start()
    await other.start()
    try:
        rig = await gates.start(
            app=sick, servers=[sick.url, other.url], pool={"health": ASKED, "eject": {"slow_start": "10ms"}}
        )
        client = await rig.connect()
        for answer in (body_of(b"no", "503 No"), body_of(b"", "302 Found"), b"hello\r\n\r\n", Answer([End.HANG])):
            await eventually(lambda: state(rig) is ServerState.UP)
            well.append(answer)
            await eventually(lambda: state(rig) is ServerState.UNHEALTHY)
            before = len([1 for each in sick.requests if each.target == b"/x"])
            for _ in range(6):
                assert (await client.ask(GET)).body == b"ok"
            assert len([1 for each in sick.requests if each.target == b"/x"]) == before
            well.append(OK)
            await eventually(lambda: state(rig) is ServerState.UP)
        said = [record.getMessage() for record in lines.records]
        assert said == ["upstream.server_out", "upstream.server_back"] * 4
        asked = next(each for each in sick.requests if each.target == b"/up")
        assert asked.get(b"user-agent") == [b"scopegate-health"]
        assert asked.get(b"host") == [sick.url.removeprefix("http://").encode()]
        await rig.gateway.shared.rules.match("GET", "/x", "a.example").pool.close()  # type: ignore[union-attr]
        asks = len(sick.requests)
        await asyncio.sleep(0.1)
        assert len(sick.requests) == asks
        assert not [task for task in asyncio.all_tasks() if "watch" in repr(task.get_coro())]
    finally:
        logger.removeHandler(lines)
        logger.setLevel(logging.NOTSET)
        await other.stop()
