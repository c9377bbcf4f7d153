"""The gateway process: the lifespan, the ticker's work, the metrics it moves, the access log."""

from __future__ import annotations

import asyncio
import io
import json

from prometheus_client import REGISTRY
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn

from scopegate.clock import ManualClock
from scopegate.gateway.access import AccessLog
from scopegate.gateway.app import Gateway, create_app, state_of
from scopegate.gateway.limiter import Limiter
from scopegate.stores.mirror import Mirror
from tests.gateway.app import OK, Answer
from tests.gateway.rig import HOST, ON_ONE_LOOP, Rigs, eventually, policy_of

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"


def gateway(clock: ManualClock) -> Gateway:
    limits = Mirror(clock)
    return Gateway(policy_of(["http://127.0.0.1:1"]), Limiter(limits, limits), None, None, clock)


async def test_the_lifespan_tells_connections_what_they_belong_to() -> None:
    gate = gateway(ManualClock())
    lifespan = LifespanOn(Config(create_app(gate), lifespan="on"))
    await lifespan.startup()
    assert lifespan.state == state_of(gate)
    await lifespan.shutdown()
    assert not lifespan.should_exit


async def test_what_is_open_and_what_was_served_is_in_the_metrics_within_a_second(gates: Rigs) -> None:
    rig = await gates.start(routes=[{"name": "metered", "match": "ANY /**", "tier": "none"}])
    wait = asyncio.Event()
    rig.app.answers.extend([OK, Answer([wait, OK])])
    client = await rig.connect()
    assert (await client.ask(GET)).status == 200

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    await eventually(lambda: value("scopegate_requests_total", route="metered", status="200") == 1)
    await eventually(lambda: value("scopegate_upstream_connections", upstream="web", state="idle") == 1)
    client.send(GET)
    await rig.app.until(lambda: len(rig.app.requests) == 2)
    await eventually(lambda: value("scopegate_requests_in_flight") == 1)
    assert value("scopegate_client_connections") == 1
    assert value("scopegate_upstream_connections", upstream="web", state="in_use") == 1
    wait.set()
    assert (await client.answer()).status == 200


async def test_every_request_is_one_line_of_the_access_log(gates: Rigs) -> None:
    rig = await gates.start()
    rig.gateway.shared.access = AccessLog(rig.gateway.shared.now_ms, stream := io.StringIO())
    client = await rig.connect()
    await client.ask(b'POST /caf%C3%A9/"x"?token=secret HTTP/1.1\r\n' + HOST + b"Content-Length: 3\r\n\r\nabc")
    await client.ask(b"GET /../\x01 HTTP/1.1\r\n" + HOST + b"\r\n")
    await eventually(lambda: stream.getvalue().count("\n") == 2)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["status"], line["path"], line["note"], line["bytes_in"]) for line in lines] == [
        (200, '/caf%C3%A9/"x"', "", 3),
        (400, "", "bad_syntax", 0),
    ]
    assert "secret" not in stream.getvalue()
