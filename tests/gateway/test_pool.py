"""Who serves next, who waits, who is left out for a while, and what is sent once more.

No request that may have been done is ever sent twice; no upstream is ejected into nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from typing import Any, cast

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy import select

from scopegate.errors import UpstreamError
from scopegate.gateway.pool import UpstreamPool
from scopegate.gateway.upstream import UpstreamConnection
from scopegate.limits.health import ServerState
from scopegate.policy.policy import Ejection, Origin, Upstream, UpstreamTimeouts
from scopegate.stores.schema import orders
from tests.gateway.app import OK, Answer, App, End, Script, body_of
from tests.gateway.client import Client
from tests.gateway.clocked import Clocked
from tests.gateway.rig import HOST, ON_ONE_LOOP, Lines, Rig, Rigs, eventually

pytestmark = ON_ONE_LOOP

GET = b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
TOUCH = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
CLOSE, RESET = Answer([End.CLOSE]), Answer([End.RESET])


@pytest.fixture
def logged() -> Iterator[Lines]:
    lines, logger = Lines(), logging.getLogger("scopegate.upstream")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(logging.NOTSET)


def events(logged: Lines) -> list[str]:
    return [record.getMessage() for record in logged.records]


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def stopped() -> AsyncIterator[None]:
    """Every app that a test began."""
    yield
    apps = list(RUNNING)
    RUNNING.clear()
    for app in apps:
        await app.stop()
    assert [fault for app in apps for fault in app.faults] == []


RUNNING: list[App] = []


async def started(gates: Rigs, *answers: Script, **policy: Any) -> tuple[Rig, list[App]]:
    """A gateway before one app for each of `answers`."""
    apps = [App() for _ in answers]
    RUNNING.extend(apps)
    for app, answer in zip(apps, answers, strict=True):
        app.default = answer
        await app.start()
    rig = await gates.start(app=apps[0], servers=[app.url for app in apps], **policy)
    return rig, apps


def counts(apps: Sequence[App]) -> list[int]:
    return [len(app.requests) for app in apps]


# ── caps and the queue ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_finds_no_connection_waits_and_who_finds_no_place_is_told_at_once(gates: Rigs) -> None:
    rig = await gates.start(pool={"connections": 1, "waiting": 1}, upstream={"queue": "200ms"})
    go_on = asyncio.Event()
    rig.app.answers.append(Answer([go_on, OK]))
    first, second, third = [await rig.connect() for _ in range(3)]
    first.send(GET)
    await rig.app.until(lambda: rig.app.began == 1)
    second.send(POST)
    await eventually(lambda: rig.servers[0].load == 2)
    for client in (third, second):  # the third at once, the second after its time in the queue
        reply = await (client.ask(GET) if client is third else client.answer("POST"))
        assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "upstream_busy", [b"1"])
        assert rig.servers[0].open == 1
    go_on.set()
    assert (await first.answer()).body == b"ok"
    assert (await first.ask(POST)).body == b"ok"
    assert len(rig.app.requests) == 2


async def test_who_waits_gets_the_connection_that_is_free_first(gates: Rigs) -> None:
    rig = await gates.start(pool={"connections": 2, "waiting": 10})
    go_on = asyncio.Event()
    rig.app.answers.extend([Answer([go_on, OK])] * 2)
    clients = [await rig.connect() for _ in range(8)]
    for client in clients:
        client.send(GET)
    await eventually(lambda: rig.servers[0].load == 8)
    go_on.set()
    assert [(await client.answer()).body for client in clients] == [b"ok"] * 8
    assert (rig.servers[0].open, rig.app.connections) == (2, 2)


async def test_who_leaves_the_queue_leaves_no_place_behind(gates: Rigs) -> None:
    rig = await gates.start(pool={"connections": 1, "waiting": 1})
    go_on = asyncio.Event()
    rig.app.answers.append(Answer([go_on, OK]))
    first, second, third = [await rig.connect() for _ in range(3)]
    first.send(GET)
    await rig.app.until(lambda: rig.app.began == 1)
    second.send(GET)
    await eventually(lambda: rig.servers[0].load == 2)
    await second.close()
    await eventually(lambda: rig.servers[0].load == 1)
    third.send(GET)
    await eventually(lambda: rig.servers[0].load == 2)
    go_on.set()
    assert (await third.answer()).body == b"ok"


SLOW = {"connections": 1}


@pytest.mark.parametrize("raw", [GET, POST], ids=["GET", "POST"])
async def test_nobody_waits_for_the_one_server_that_hangs(gates: Rigs, raw: bytes) -> None:
    """Thirty at once, one place at each server: those that wait get the places that become free, wherever."""
    times = {"queue": "500ms", "response": "3s"}
    rig, apps = await started(
        gates, Answer([End.HANG]), Answer([0.002, OK]), Answer([0.002, OK]), pool=SLOW, upstream=times
    )
    clients = [await rig.connect() for _ in range(30)]
    asked = [asyncio.ensure_future(client.ask(raw)) for client in clients]
    await eventually(lambda: sum(task.done() for task in asked) == 29, patience_s=2.0)
    assert {task.result().status for task in asked if task.done()} == {200}
    assert apps[0].began == 1
    [hung] = [client for client, task in zip(clients, asked, strict=True) if not task.done()]
    await hung.close()
    await asyncio.gather(*asked, return_exceptions=True)


async def test_nobody_waits_for_a_server_that_is_left_out(gates: Rigs) -> None:
    """Two wait while both servers are busy: one server breaks off and is out, and its place is given to nobody."""
    go_on, break_off = asyncio.Event(), asyncio.Event()
    eject = {"eject": {"failures": 1, "for": "60s"}}
    rig, apps = await started(gates, Answer([break_off, End.CLOSE]), OK, pool=SLOW | eject)
    apps[1].answers.append(Answer([go_on, OK]))
    clients = [await rig.connect() for _ in range(4)]
    asked = [asyncio.ensure_future(client.ask(POST)) for client in clients[:2]]
    await eventually(lambda: [app.began for app in apps] == [1, 1])
    asked += [asyncio.ensure_future(client.ask(POST)) for client in clients[2:]]
    await eventually(lambda: rig.servers[0].load == 3)
    break_off.set()
    await eventually(lambda: rig.servers[0].state(rig.gateway.shared.loop.time()) is ServerState.EJECTED)
    assert rig.servers[0].load == 2
    go_on.set()
    assert sorted([(await task).status for task in asked]) == [200, 200, 200, 502]
    assert [app.began for app in apps] == [1, 3]


async def test_who_waits_is_served_by_a_server_that_comes_back(gates: Rigs) -> None:
    """The other one hangs."""
    eject = {"eject": {"failures": 1, "for": "1s"}}
    rig, apps = await started(gates, OK, Answer([End.HANG]), pool=SLOW | eject, upstream={"queue": "5s"})
    client, hung = [await rig.connect() for _ in range(2)]
    rig.servers[0].failed()
    hung.send(POST)
    await eventually(lambda: apps[1].began == 1)
    assert (await client.ask(POST)).status == 200
    assert [app.began for app in apps] == [1, 1]


async def test_a_repeat_that_waits_does_not_wait_for_where_it_failed(gates: Rigs) -> None:
    go_on = asyncio.Event()
    rig, apps = await started(gates, CLOSE, OK, pool=SLOW | {"eject": {"failures": 1000}})
    apps[1].answers.append(Answer([go_on, OK]))
    first, second = [await rig.connect() for _ in range(2)]
    holds = asyncio.ensure_future(first.ask(POST))  # at the second server, whose turn it is
    await eventually(lambda: apps[1].began == 1)
    asked = asyncio.ensure_future(second.ask(GET))
    await eventually(lambda: apps[0].began and rig.servers[0].load == 1 and rig.servers[1].load == 2)
    go_on.set()
    assert ((await asked).status, (await holds).status) == (200, 200)
    assert [app.began for app in apps] == [1, 2]


async def test_the_queue_has_room_for_each_server(gates: Rigs) -> None:
    hang = Answer([End.HANG])
    rig, _ = await started(gates, hang, hang, hang, pool=SLOW | {"waiting": 1}, upstream={"queue": "100ms"})
    clients = [await rig.connect() for _ in range(10)]
    asked = [asyncio.ensure_future(client.ask(POST)) for client in clients]
    await eventually(lambda: sum(task.done() for task in asked) == 4)  # three are served, three wait
    assert rig.servers[0].load == 4
    await eventually(lambda: sum(task.done() for task in asked) == 7)
    assert {task.result().code for task in asked if task.done()} == {"upstream_busy"}
    for client in clients:
        await client.close()
    await asyncio.gather(*asked, return_exceptions=True)


# ── balancing ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_servers_that_are_even_take_turns(gates: Rigs) -> None:
    rig, apps = await started(gates, OK, OK, OK)
    client = await rig.connect()
    for _ in range(12):
        assert (await client.ask(GET)).status == 200
    assert counts(apps) == [4, 4, 4]


async def test_a_busy_server_gets_fewer(gates: Rigs) -> None:
    go_on = asyncio.Event()
    rig, apps = await started(gates, Answer([go_on, OK]), OK)
    held = [await rig.connect() for _ in range(2)]
    for client in held:
        client.send(GET)
    client = await rig.connect()
    for _ in range(10):
        await client.ask(GET)
    await eventually(lambda: apps[0].began == 1 or counts(apps)[1] == 12)
    assert counts(apps)[1] >= 10
    go_on.set()
    for each in held:
        await each.answer()


# ── ejection ────────────────────────────────────────────────────────────────────────────────────────────────────────

EJECT = {"eject": {"failures": 2, "for": "60s"}}


@pytest.mark.parametrize(
    "broken",
    [CLOSE, RESET, Answer([b"hello\r\n\r\n"]), Answer([b"HTTP/1.1 200 OK\r\nX: y\r\n", End.CLOSE])],
    ids=["closed", "reset", "no HTTP", "half a head"],
)
async def test_a_server_that_keeps_failing_is_left_out(gates: Rigs, logged: Lines, broken: Answer) -> None:
    rig, apps = await started(gates, broken, OK, pool=EJECT)
    client = await rig.connect()
    statuses = [(await client.ask(POST)).status for _ in range(12)]
    assert sorted(statuses) == [200] * 10 + [502] * 2
    assert counts(apps) == [2, 10]
    assert rig.servers[0].state(rig.gateway.shared.loop.time()) is ServerState.EJECTED
    assert events(logged) == ["upstream.server_out"]
    rig.gateway.flush()
    states = {state: _servers(state) for state in ("up", "ejected", "unhealthy")}
    assert states == {"up": 1, "ejected": 1, "unhealthy": 0}


def _servers(state: str) -> float | None:
    return REGISTRY.get_sample_value("scopegate_upstream_servers", {"upstream": "web", "state": state})


async def test_a_server_that_hangs_is_left_out(gates: Rigs) -> None:
    rig, _ = await started(gates, Answer([End.HANG]), OK, pool=EJECT, upstream={"response": "100ms"})
    client = await rig.connect()
    statuses = [(await client.ask(POST)).status for _ in range(8)]
    assert sorted(statuses) == [200] * 6 + [504] * 2


async def test_an_app_that_answers_with_errors_is_not_left_out(gates: Rigs) -> None:
    rig, _ = await started(gates, body_of(b"no", "500 No"), OK, pool=EJECT)
    client = await rig.connect()
    statuses = [(await client.ask(GET)).status for _ in range(12)]
    assert sorted(statuses) == [200] * 6 + [500] * 6


async def test_connections_that_idled_and_were_closed_speak_against_nobody(gates: Rigs) -> None:
    rig, apps = await started(gates, OK, OK, pool=EJECT)
    client = await rig.connect()
    for _ in range(4):
        await client.ask(GET)
        await client.ask(GET)
        apps[0].answers.append(CLOSE)
        apps[1].answers.append(CLOSE)
        assert (await client.ask(POST)).status == 502
        assert (await client.ask(POST)).status == 502
    assert [server.failures for server in rig.servers] == [0, 0]


async def test_the_only_server_is_asked_whatever_it_did(gates: Rigs) -> None:
    rig = await gates.start(pool=EJECT)
    rig.app.answers.extend([CLOSE] * 10)
    client = await rig.connect()
    assert [(await client.ask(POST)).status for _ in range(12)] == [502] * 10 + [200] * 2


async def test_when_all_servers_are_out_the_least_bad_one_is_asked(gates: Rigs) -> None:
    rig, apps = await started(gates, CLOSE, CLOSE, pool=EJECT)
    client = await rig.connect()
    assert {(await client.ask(POST)).status for _ in range(10)} == {502}
    assert counts(apps) == [5, 5]
    apps[1].default = OK
    statuses = [(await client.ask(POST)).status for _ in range(10)]
    assert statuses.count(200) >= 9


async def test_the_share_of_a_server_that_comes_back_grows(logged: Lines) -> None:
    async with App() as one, App() as other:
        origins = tuple(Origin("http", "127.0.0.1", app.port) for app in (one, other))
        timeouts = UpstreamTimeouts(2.0, 5.0, 500.0)
        upstream = Upstream("web", origins, timeouts, None, ejection=Ejection(1, 100.0, 100.0))
        loop = Clocked()
        pool = UpstreamPool(upstream, cast(asyncio.AbstractEventLoop, loop))
        pool.servers[0].failed()
        assert await served(pool, 20) == 0
        parts = []
        for _ in range(10):
            loop.ahead_s += 10.0
            pool.expire(loop.time())
            parts.append(await served(pool, 20))
        assert parts == [0] * 9 + [1]  # out for 100 s, then a tenth of half of them
        for _ in range(10):
            loop.ahead_s += 10.0
            parts.append(await served(pool, 20))
        assert parts[10:] == sorted(parts[10:])
        assert (parts[10], parts[14], parts[19]) == (1, 5, 10)
        assert events(logged) == ["upstream.server_out", "upstream.server_back"]
        await pool.close()
        await eventually(lambda: not any(server.open for server in pool.servers))


async def served(pool: UpstreamPool, requests: int) -> int:
    """How many of them the first server got."""
    got = 0
    for _ in range(requests):
        found = pool.acquire()
        connection = found if isinstance(found, UpstreamConnection) else await found.future
        got += connection.home is pool.servers[0]
        connection.give_back()
    return got


# ── what is sent once more ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_safe_request_that_got_no_answer_tries_another_server(gates: Rigs) -> None:
    rig, apps = await started(gates, CLOSE, OK, pool={"eject": {"failures": 1000}})
    client = await rig.connect()
    for method in (b"GET", b"HEAD", b"OPTIONS") * 2:
        client.send(GET.replace(b"GET", method))
        assert (await client.answer(method.decode())).status == 200
    assert counts(apps)[1] == 6


async def test_a_repeat_goes_elsewhere_also_when_there_is_more_to_do(gates: Rigs) -> None:
    go_on = asyncio.Event()
    rig, apps = await started(gates, CLOSE, OK, pool={"eject": {"failures": 1000}})
    apps[1].answers.extend([Answer([go_on, OK])] * 3)
    held = [await rig.connect() for _ in range(3)]
    for busy, client in enumerate(held, 1):
        client.send(GET)
        await eventually(lambda busy=busy: apps[1].began == busy)
    assert (await (await rig.connect()).ask(GET)).status == 200
    go_on.set()
    assert [(await client.answer()).status for client in held] == [200] * 3


async def test_a_safe_request_is_sent_twice_at_most(gates: Rigs) -> None:
    rig, apps = await started(gates, CLOSE, CLOSE, CLOSE)
    assert (await (await rig.connect()).ask(GET)).code == "upstream_reset"
    assert sorted(counts(apps)) == [0, 1, 1]


NEVER_AGAIN = {
    "POST": (POST, CLOSE, 502),
    "POST without a body": (b"POST /x HTTP/1.1\r\n" + HOST + b"\r\n", CLOSE, 502),
    "PUT": (POST.replace(b"POST", b"PUT"), RESET, 502),
    "DELETE": (GET.replace(b"GET", b"DELETE"), CLOSE, 502),
    "GET with a body": (POST.replace(b"POST", b"GET"), CLOSE, 502),
    "GET, half a head": (GET, Answer([b"HTTP/1.1 200 OK\r\n", End.CLOSE]), 502),
    "GET, one byte": (GET, Answer([b"H", End.RESET]), 502),
    "GET, an interim answer": (GET, Answer([b"HTTP/1.1 100 Continue\r\n\r\n", End.CLOSE]), 502),
    "GET, no HTTP": (GET, Answer([b"hello\r\n\r\n"]), 502),
    "GET, no time left": (GET, Answer([End.HANG]), 504),
}


@pytest.mark.parametrize("name", NEVER_AGAIN)
async def test_what_may_have_been_done_or_answered_is_not_sent_again(gates: Rigs, name: str) -> None:
    raw, answer, status = NEVER_AGAIN[name]
    rig, apps = await started(gates, answer, answer, upstream={"response": "150ms"})
    assert (await (await rig.connect()).ask(raw)).status == status
    assert sum(counts(apps)) == 1


@pytest.mark.parametrize("raw", [GET, POST], ids=["GET", "POST"])
async def test_who_cannot_connect_tries_each_server_once(gates: Rigs, raw: bytes) -> None:
    dead = [socket.socket() for _ in range(3)]
    for sock in dead:
        sock.bind(("127.0.0.1", 0))  # bound, but nobody listens
    urls = [f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in dead]
    app = App()
    await app.start()
    rig = await gates.start(app=app, servers=[*urls, app.url])
    client = await rig.connect()
    for _ in range(8):
        assert (await client.ask(raw)).status == 200
    rig = await gates.start(app=app, servers=urls)
    assert (await (await rig.connect()).ask(raw)).code == "upstream_connect"
    assert [server.failures for server in rig.servers] == [1, 1, 1]
    for sock in dead:
        sock.close()


async def test_a_repeat_trusts_no_connection_that_idled(gates: Rigs) -> None:
    """The app was replaced: all that idled are dead, though one only is known to be. Also where no more are allowed."""
    for caps in ({}, {"connections": 2}):
        rig = await gates.start(pool=caps)
        go_on = asyncio.Event()
        rig.app.answers.extend([Answer([go_on, OK])] * 2)
        clients = [await rig.connect() for _ in range(2)]
        for client in clients:
            client.send(GET)
        await eventually(lambda app=rig.app: app.began == 2)
        go_on.set()
        for client in clients:
            await client.answer()
        assert rig.servers[0].idle == 2
        rig.app.default = lambda received: OK if received.connection > 2 else CLOSE
        assert (await clients[0].ask(GET)).body == b"ok"


async def test_a_server_that_speaks_first_is_no_server(gates: Rigs) -> None:
    greeted = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    with closing(await asyncio.start_server(greet, "127.0.0.1", 0)) as server:
        rig = await gates.start(servers=[f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        assert (await (await rig.connect()).ask(GET)).status == 502
        assert greeted in (1, 2)  # it may be heard before the request is sent, which may then go to another connection


# ── the breaker ─────────────────────────────────────────────────────────────────────────────────────────────────────

BREAKER = {"breaker": {"failures": 3, "cooldown": "300ms"}}


async def opened(rig: Rig, client: Client) -> None:
    rig.app.answers.extend([CLOSE] * 3)
    assert [(await client.ask(TOUCH)).code for _ in range(3)] == ["upstream_reset"] * 3


async def test_an_open_breaker_lets_nothing_through_until_a_probe_succeeds(gates: Rigs, logged: Lines) -> None:
    rig = await gates.start(pool=BREAKER)
    client = await rig.connect()
    await opened(rig, client)
    reply = await client.ask(GET)
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "upstream_open", [b"1"])
    assert (len(rig.app.requests), rig.app.connections) == (3, 3)
    rig.app.answers.append(CLOSE)
    await half_open(rig, client)
    assert (await client.ask(GET)).code == "upstream_open"  # the probe failed
    rig.app.answers.append(body_of(b"no", "500 No"))
    await half_open(rig, client)  # an answer is an answer
    assert (await client.ask(TOUCH)).status == 200
    assert events(logged).count("upstream.breaker_open") == 1
    assert events(logged).count("upstream.breaker_closed") == 1


async def half_open(rig: Rig, client: Client) -> None:
    """Ask until one request reaches the app."""
    before = len(rig.app.requests)
    async with asyncio.timeout(5):
        while len(rig.app.requests) == before:
            await client.ask(TOUCH)


async def test_one_request_at_a_time_probes_and_one_whose_client_left_says_nothing(gates: Rigs) -> None:
    rig = await gates.start(pool=BREAKER)
    client, prober = await rig.connect(), await rig.connect()
    await opened(rig, client)
    go_on = asyncio.Event()
    rig.app.answers.append(Answer([go_on, OK]))
    began = rig.app.began
    probing = asyncio.ensure_future(half_open(rig, prober))
    await rig.app.until(lambda: rig.app.began > began)
    assert [(await client.ask(GET)).code for _ in range(5)] == ["upstream_open"] * 5
    await prober.close()
    await asyncio.gather(probing, return_exceptions=True)
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    rig.app.answers.append(CLOSE)
    assert (await client.ask(TOUCH)).code == "upstream_reset"  # its place was free at once, and nothing was closed
    assert (await client.ask(TOUCH)).code == "upstream_open"
    go_on.set()


async def test_a_breaker_counts_requests_and_not_tries(gates: Rigs) -> None:
    rig, _ = await started(gates, CLOSE, OK, pool={**BREAKER, "eject": {"failures": 1000}})
    client = await rig.connect()
    assert [(await client.ask(GET)).status for _ in range(12)] == [200] * 12


async def test_a_full_queue_and_a_lost_client_do_not_open_it(gates: Rigs) -> None:
    rig = await gates.start(pool={"breaker": {"failures": 1}, "connections": 1, "waiting": 0})
    rig.app.answers.append(Answer([End.HANG]))
    first, second = await rig.connect(), await rig.connect()
    first.send(GET)
    await rig.app.until(lambda: rig.app.began == 1)
    assert (await second.ask(GET)).code == "upstream_busy"
    await first.close()
    await eventually(lambda: rig.servers[0].open == 0)
    assert (await second.ask(GET)).status == 200


async def test_an_app_that_hangs_up_on_a_body_under_way_is_not_to_blame(gates: Rigs) -> None:
    """It may have waited long enough for a visitor who sends nothing: that must not shut others out."""
    rig = await gates.start(pool={"breaker": {"failures": 1}, "eject": {"failures": 1, "for": "60s"}})
    client = await rig.connect()
    for end in (End.CLOSE, End.RESET):
        rig.app.answers.append(Answer([end], early=True))
        assert (await client.ask(POST.replace(b"Length: 3", b"Length: 1000"))).code == "upstream_reset"
        assert rig.servers[0].failures == 0
        client = await rig.connect()
        assert (await client.ask(GET)).status == 200


async def test_who_left_unnoticed_blames_nobody(gates: Rigs) -> None:
    """Its end stands behind what is not read of it, and the app's time is over before anybody looked."""
    rig = await gates.start(pool={"breaker": {"failures": 1}})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    client.send(GET * 2500)
    await eventually(lambda: rig.app.began)
    client.send(GET * 500)  # no more than the kernel takes in: an end behind what is unsent arrives late
    await eventually(lambda: rig.gateway.connections.unread)
    await client.close()
    await asyncio.sleep(0.02)
    rig.gateway.tick(rig.gateway.shared.loop.time() + 1000)
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    assert rig.servers[0].failures == 0
    assert (await (await rig.connect()).ask(GET)).status == 200


async def test_no_time_and_no_connection_open_it(gates: Rigs) -> None:
    rig = await gates.start(pool={"breaker": {"failures": 2}}, upstream={"response": "100ms"})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    assert (await client.ask(GET)).code == "upstream_timeout"
    await rig.app.stop()
    assert (await client.ask(GET)).code == "upstream_connect"
    assert (await client.ask(GET)).code == "upstream_open"


async def test_an_order_that_an_open_breaker_turns_away_is_dropped(gates: Rigs) -> None:
    rig = await gates.start(
        pool={"breaker": {"failures": 1}},
        routes=[
            {
                "name": "lead",
                "match": "POST /leads",
                "tier": "none",
                "offload": "photos",
                "body": {"types": ["application/json"]},
            },
            {"name": "rest", "match": "ANY /**", "tier": "none"},
        ],
        offloads={
            "photos": {
                "lead_id": "response.id",
                "photos": "request.photos",
                "text": "request.text",
                "photo_hosts": ["photos.example"],
                "deliver": {"url": "http://127.0.0.1:9/hook", "secret": "${HOOK_SECRET}"},
            }
        },
        ai={"model": "claude-haiku-5-5"},
    )
    rig.app.answers.append(CLOSE)
    client = await rig.connect()
    assert (await client.ask(TOUCH)).code == "upstream_reset"
    lead = b"POST /leads HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    assert (await client.ask(lead)).code == "upstream_open"
    database = rig.database
    assert database is not None
    async with asyncio.timeout(5):
        while await database.read(lambda conn: conn.execute(select(orders.c.state)).scalars().all()) != ["refused"]:
            await asyncio.sleep(0.02)
    assert len(rig.app.requests) == 1


# ── the pool by itself ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_however_a_connect_ends_its_place_is_counted_once() -> None:
    """Given up at every tick of it, before, in and after the moment in which it succeeds."""
    async with App() as app:
        origin = Origin("http", "127.0.0.1", app.port)
        upstream = Upstream("web", (origin,), UpstreamTimeouts(2.0, 5.0, 5.0), None, connections=1, waiting=1)
        for ticks in range(12):
            [server] = UpstreamPool(upstream, asyncio.get_running_loop()).servers
            first = server.connect().future
            second = server.connect().future
            for _ in range(ticks):
                await asyncio.sleep(0)
            for task in list(server._tasks):
                task.cancel()
            for future in (first, second):
                try:
                    (await future).abort()
                except UpstreamError:
                    assert not server.open or future is first
            await eventually(lambda server=server: server.open == 0)
            assert (server.in_use, server.idle, server.load) == (0, 0, 0)
            await server.close()


async def test_a_connect_that_takes_too_long_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        origin = Origin("http", *address)
        upstream = Upstream("web", (origin,), UpstreamTimeouts(0.1, 5.0, 5.0), None)
        [server] = UpstreamPool(upstream, asyncio.get_running_loop()).servers
        with pytest.raises(UpstreamError, match="timed out") as failed:
            await server.connect().future
        assert (failed.value.kind, failed.value.sent, server.open, server.failures) == ("connect", False, 0, 1)
        for sock in waiting:
            sock.close()


async def test_a_closed_pool_keeps_nothing_and_lets_nobody_wait() -> None:
    async with App() as app:
        origin = Origin("http", "127.0.0.1", app.port)
        upstream = Upstream("web", (origin,), UpstreamTimeouts(2.0, 5.0, 5.0), None, connections=2, waiting=5)
        pool = UpstreamPool(upstream, asyncio.get_running_loop())
        [server] = pool.servers
        in_use, idle = await server.connect().future, await server.connect().future
        idle.give_back()
        idle = await server.connect().future  # the idle one makes room: a new one was asked for
        waits = server.connect().future
        idle.give_back()
        assert (await waits) is idle
        waits = server.connect().future
        await pool.close()
        with pytest.raises(UpstreamError, match="the upstream is closed"):
            await waits
        in_use.give_back()
        idle.give_back()
        await eventually(lambda: server.open == 0)
