"""Lead orders: written before the app hears of them, settled before the client has its answer, never lost between."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from scopegate.clock import SystemClock
from scopegate.errors import StoreUnavailable
from scopegate.gateway.intake import Intake
from scopegate.leads.job import (
    Claim,
    Earlier,
    KeptAnswer,
    Lead,
    LeadJob,
    LeadOrder,
    OpenOrder,
    OrderRecord,
    OrderState,
    Settlement,
    Unreadable,
)
from scopegate.metrics import catalogue as metrics
from scopegate.stores.late import LateDatabase
from scopegate.stores.outbox import SqlOutbox
from scopegate.stores.queue import NoMessenger
from scopegate.stores.schema import jobs, orders
from scopegate.stores.spool import Spool
from tests.gateway.app import Answer, End, Received, body_of
from tests.gateway.client import BrokenTransferError
from tests.gateway.rig import HOST, ON_ONE_LOOP, Lines, Rig, Rigs, eventually
from tests.worker.house import offload

pytestmark = ON_ONE_LOOP

BODY = {"max": "4MiB", "types": ["application/json"]}
TYPE = b"Content-Type: application/json"
OFFLOADING: dict[str, Any] = {
    "routes": [
        {"name": "lead", "match": "POST /leads", "tier": "none", "offload": "photos", "body": BODY},
        {"name": "rest", "match": "ANY /**", "tier": "none"},
    ],
    "offloads": {
        "photos": {
            "lead_id": "response.id",
            "contractor": "request.contractor",
            "photos": "request.photos",
            "text": "request.text",
            "photo_hosts": ["photos.example"],
            "deliver": {"url": "http://127.0.0.1:9/hook", "secret": "${HOOK_SECRET}"},
        }
    },
    "ai": {"model": "claude-haiku-5-5"},
}
LEAD = {"text": "The roof leaks.", "contractor": "c-1", "photos": ["https://photos.example/1.jpg"]}


def post(body: bytes | dict[str, Any] = LEAD, *fields: bytes) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = b"".join(field + b"\r\n" for field in (TYPE, b"Content-Length: %d" % len(data), *fields))
    return b"POST /leads HTTP/1.1\r\n" + HOST + lines + b"\r\n" + data


def created(lead_id: str = "lead-1", fields: bytes = b"") -> bytes:
    return body_of(json.dumps({"id": lead_id}).encode(), "201 Created", fields)


async def rows(database: LateDatabase | None) -> list[Any]:
    assert database is not None
    return list(await database.read(lambda conn: conn.execute(select(orders).order_by(orders.c.received_ms)).all()))


async def made(database: LateDatabase | None) -> list[Any]:
    assert database is not None
    return list(await database.read(lambda conn: conn.execute(select(jobs)).all()))


async def state(rig: Rig) -> list[str]:
    return [row.state for row in await rows(rig.database)]


async def has_state(rig: Rig, wanted: list[str], patience_s: float = 8.0) -> None:
    async with asyncio.timeout(patience_s):
        while await state(rig) != wanted:
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(loop_scope="module")
async def rig(gates: Rigs) -> AsyncIterator[Rig]:
    rig = await gates.start(**OFFLOADING, upstream={"response": "5s"})
    rig.app.default = created()
    yield rig


@pytest.fixture
def logged() -> Iterator[Lines]:
    lines = Lines()
    logging.getLogger("scopegate").addHandler(lines)
    yield lines
    logging.getLogger("scopegate").removeHandler(lines)


def events(logged: Lines) -> list[str]:
    return [record.getMessage() for record in logged.records]


# ── the usual way ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_accepted_lead_is_a_job_before_its_client_knows(rig: Rig) -> None:
    answer = asyncio.Event()
    rig.app.answers.append(Answer([answer, created(fields=b"Set-Cookie: a=b\r\n")]))
    client = await rig.connect()
    client.send(post(LEAD, b"Accept-Encoding: gzip, br", b"X-Request-Id: r-1"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    (order,) = await rows(rig.database)
    assert (order.state, order.request_id, order.route, order.request) == ("pending", "r-1", "lead", LEAD)
    answer.set()
    reply = await client.answer()
    assert (reply.status, reply.json(), reply.get(b"set-cookie")) == (201, {"id": "lead-1"}, [b"a=b"])
    (order,) = await rows(rig.database)
    (job,) = await made(rig.database)
    assert (order.state, order.status, order.job_id, order.lead_id) == ("accepted", 201, job.job_id, "lead-1")
    (request,) = rig.app.requests
    assert (request.get(b"accept-encoding"), json.loads(request.body)) == ([b"identity"], LEAD)
    assert (await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")).status == 201


@pytest.mark.parametrize("status", ["400 Bad", "422 No", "500 Oops", "303 See"])
async def test_a_lead_the_app_refused_is_no_job(rig: Rig, status: str) -> None:
    rig.app.answers.append(body_of(b'{"id": "lead-1"}', status))
    reply = await (await rig.connect()).ask(post())
    assert reply.status == int(status[:3])
    await has_state(rig, ["refused"])
    assert await made(rig.database) == []
    assert (await rows(rig.database))[0].request is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (body_of(b"<p>thanks</p>", "201 Created"), "the response cannot be read: it is not JSON in UTF-8"),
        (body_of(b"{}", "201 Created"), "no lead id"),
        (body_of(b"", "201 Created"), "no lead id"),
        (body_of(b'{"id": {}}', "201 Created"), "lead id is neither text nor a whole number"),
        (
            body_of(gzip.compress(b'{"id": 1}', mtime=0), "201 Created", b"Content-Encoding: gzip\r\n"),
            "the response cannot be read: it is compressed",
        ),
    ],
)
async def test_an_answer_that_cannot_be_read_reaches_the_client_all_the_same(
    rig: Rig, logged: Lines, answer: bytes, reason: str
) -> None:
    rig.app.answers.append(answer)
    reply = await (await rig.connect()).ask(post())
    assert (reply.status, reply.body) == (201, answer.partition(b"\r\n\r\n")[2])
    await has_state(rig, ["unreadable"])
    assert await made(rig.database) == []
    assert [vars(record) for record in logged.records if record.getMessage() == "order.unreadable"]
    assert any(reason in str(vars(record)) for record in logged.records)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_answer_too_large_to_be_read_is_passed_on_as_it_comes(rig: Rig, framing: str) -> None:
    payload = b"x" * (3 * 1024 * 1024)
    length = b"Content-Length: %d" % len(payload) if framing == "length" else b"Transfer-Encoding: chunked"
    body = payload if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload)
    rig.app.answers.append(b"HTTP/1.1 201 Created\r\n" + length + b"\r\n\r\n" + body)
    reply = await (await rig.connect()).ask(post())
    assert (reply.status, reply.framing, reply.body == payload) == (201, framing, True)
    await has_state(rig, ["unreadable"])
    assert await made(rig.database) == []


async def test_the_same_lead_twice_is_one_job(rig: Rig) -> None:
    client = await rig.connect()
    for _ in range(2):
        assert (await client.ask(post())).status == 201
    assert await state(rig) == ["accepted", "accepted"]
    assert len(await made(rig.database)) == 1


WORDS = json.dumps(LEAD).encode()
UNREAD: list[tuple[bytes, tuple[bytes, ...]]] = [
    (b"not JSON", ()),
    (b"\xff", ()),
    (WORDS[:-1] + b', "contractor": "c-2"}', ()),
    (WORDS[:-1] + b', "area": 1e999}', ()),
    (WORDS[:-1] + b', "deep": ' + b"[" * 65 + b"]" * 65 + b"}", ()),
    (json.dumps({**LEAD, "contractor": 2**53}).encode(), ()),
    (json.dumps({**LEAD, "contractor": "c-1\0"}).encode(), ()),
    (json.dumps({**LEAD, "photos": {"0": "https://photos.example/1.jpg"}}).encode(), ()),
    (json.dumps({**LEAD, "text": ["The roof leaks."]}).encode(), ()),
    (json.dumps(LEAD).encode("utf-16"), ()),
    (gzip.compress(WORDS, mtime=0), (b"Content-Encoding: gzip",)),
    (WORDS, (b"Content-Encoding: x-app",)),
]


@pytest.mark.parametrize(("body", "fields"), UNREAD)
async def test_a_lead_that_the_app_reads_and_we_cannot_waits_for_a_person(
    rig: Rig, logged: Lines, body: bytes, fields: tuple[bytes, ...]
) -> None:
    """Never a paid job on nothing, and no contractor's budget left by what a visitor sends."""
    assert (await (await rig.connect()).ask(post(body, *fields))).status == 201
    assert rig.app.requests[0].body == body
    assert await state(rig) == ["unreadable"]
    assert await made(rig.database) == []
    assert "order.unreadable" in events(logged)
    (row,) = await rows(rig.database)
    kept = row.request.body if isinstance(row.request, Unreadable) else json.dumps(row.request).encode()
    assert kept == body


async def test_a_charset_that_makes_other_words_of_the_same_bytes_is_not_believed(rig: Rig) -> None:
    request = post().replace(TYPE, TYPE + b"; charset=utf-7")
    assert (await (await rig.connect()).ask(request)).status == 201
    assert await state(rig) == ["unreadable"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"photos": [], "text": " "}'])
async def test_a_lead_of_nothing_is_no_paid_job(rig: Rig, body: bytes) -> None:
    assert (await (await rig.connect()).ask(post(body))).status == 201
    assert await state(rig) == ["unreadable"]
    assert await made(rig.database) == []


@pytest.mark.parametrize(("body", "fields"), UNREAD)
async def test_what_cannot_be_read_is_refused_where_the_policy_asks_for_it(
    gates: Rigs, logged: Lines, body: bytes, fields: tuple[bytes, ...]
) -> None:
    photos = {**OFFLOADING["offloads"]["photos"], "on_unreadable": "refuse"}
    rig = await gates.start(**{**OFFLOADING, "offloads": {"photos": photos}})
    rig.app.default = created()
    client = await rig.connect()
    reply = await client.ask(post(body, *fields))
    assert (reply.status, reply.code) == (400, "lead_unreadable")
    assert (rig.app.requests, await state(rig)) == ([], [])
    assert "order.unreadable" in events(logged)
    assert (await client.ask(post())).status == 201
    assert await state(rig) == ["accepted"]


async def test_a_chunked_lead_is_gathered_whole(rig: Rig) -> None:
    """Larger than what is held for other routes: here all of it is needed before the app hears of it."""
    text = "x" * (2 * 1024 * 1024)
    data = json.dumps({**LEAD, "text": text}).encode()
    client = await rig.connect()
    client.send(b"POST /leads HTTP/1.1\r\n" + HOST + TYPE + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        client.send(b"%x\r\n%b\r\n" % (len(part), part))
    client.send(b"0\r\n\r\n")
    assert (await client.answer()).status == 201
    assert json.loads(rig.app.requests[0].body)["text"] == text
    assert len(await made(rig.database)) == 1


async def test_an_answer_in_pieces_is_read_whole(rig: Rig) -> None:
    head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    rig.app.answers.append(Answer([head, b'6\r\n{"id":\r\n', 0.01, b"2\r\n1}\r\n0\r\n\r\n"]))
    assert (await (await rig.connect()).ask(post())).json() == {"id": 1}
    assert [job.lead_id for job in await made(rig.database)] == ["1"]


# ── clients and apps that go ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lead_whose_client_left_is_delivered_all_the_same(rig: Rig) -> None:
    answer = asyncio.Event()
    rig.app.answers.append(Answer([answer, created()]))
    client = await rig.connect()
    client.send(post())
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await client.close()
    await asyncio.sleep(0.05)
    answer.set()
    await has_state(rig, ["accepted"])
    assert len(await made(rig.database)) == 1


async def test_a_lead_whose_client_left_does_not_wait_for_ever_for_the_app(gates: Rigs) -> None:
    rig = await gates.start(**OFFLOADING, upstream={"response": "400ms"})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    client.send(post())
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await client.close()
    await has_state(rig, ["unknown"])
    await eventually(lambda: rig.gateway.shared.in_flight == 0)


async def test_half_a_lead_is_none(rig: Rig) -> None:
    client = await rig.connect()
    client.send(post()[:-5])
    await asyncio.sleep(0.02)
    await client.close()
    await eventually(lambda: rig.gateway.shared.in_flight == 0)
    assert (rig.app.began, await state(rig)) == (0, [])


async def test_an_app_that_is_down_has_not_seen_the_lead(gates: Rigs) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        rig = await gates.start(**OFFLOADING, servers=[url])
        assert (await (await rig.connect()).ask(post())).code == "upstream_connect"
    await has_state(rig, ["refused"])


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([End.HANG], 504),
        ([End.CLOSE], 502),
        ([b"HTTP/1.1 201 Created\r\nContent-Length: 20\r\n\r\n{", End.CLOSE], 502),
        ([b"HTTP/1.1 201 Created\r\nContent-Length: 20\r\n\r\n{", End.HANG], 504),
        ([b"nonsense\r\n\r\n"], 502),
    ],
)
async def test_an_app_that_may_have_seen_the_lead_leaves_it_unknown(gates: Rigs, steps: list[Any], status: int) -> None:
    rig = await gates.start(**OFFLOADING, upstream={"response": "300ms", "idle": "300ms"})
    rig.app.answers.append(Answer(steps))
    assert (await (await rig.connect()).ask(post())).status == status
    await has_state(rig, ["unknown"])
    assert (await rows(rig.database))[0].request == LEAD


async def test_an_order_is_counted_once_however_the_exchange_ends(gates: Rigs) -> None:
    offloads = {"once": OFFLOADING["offloads"]["photos"]}
    routes = [{**OFFLOADING["routes"][0], "offload": "once"}]
    rig = await gates.start(**{**OFFLOADING, "offloads": offloads, "routes": routes})
    rig.app.answers.append(Answer([b"HTTP/1.1 422 No\r\nContent-Length: 20\r\n\r\n{", 0.02, End.CLOSE]))
    with pytest.raises(BrokenTransferError):
        await (await rig.connect()).ask(post())
    await has_state(rig, ["refused"])
    counted = {outcome: metrics.ORDERS.labels("once", outcome)._value.get() for outcome in ("refused", "unknown")}
    assert counted == {"refused": 1, "unknown": 0}


# ── the database is away ────────────────────────────────────────────────────────────────────────────────────────────


class Outage:
    """An outbox on a database that can be away, or slow."""

    def __init__(self, database: LateDatabase) -> None:
        self._outbox = SqlOutbox(database)
        self.takes_no_orders = False
        self.settles_nothing = False
        self.delay_s = 0.0
        self.settling = 0
        self.asked = 0

    async def put(self, order: LeadOrder) -> Earlier | None:
        await self._reach(self.takes_no_orders)
        return await self._outbox.put(order)

    async def settle(
        self,
        order: LeadOrder,
        state: OrderState,
        status: int | None,
        lead: Lead | None,
        answer: KeptAnswer | None = None,
    ) -> LeadJob | None:
        self.settling += 1
        await self._reach(self.settles_nothing)
        return await self._outbox.settle(order, state, status, lead, answer)

    async def ask(self, offloads: Sequence[str], now_ms: int, limit: int) -> Sequence[OrderRecord]:
        return await self._outbox.ask(offloads, now_ms, limit)

    async def forget(self, now_ms: int, most: int) -> int:
        return await self._outbox.forget(now_ms, most)

    async def overdue(self, before_ms: int) -> int:
        return await self._outbox.overdue(before_ms)

    async def get(self, order_id: str) -> OrderRecord | None:
        return await self._outbox.get(order_id)

    async def open(self, limit: int) -> Sequence[OpenOrder]:
        return await self._outbox.open(limit)

    async def count(self, state: OrderState) -> int:
        return await self._outbox.count(state)

    async def _reach(self, is_down: bool) -> None:
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        if is_down:
            raise StoreUnavailable("connect", "for the test")


class HastyClock(SystemClock):
    """Waits between two tries are short."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.02))


class StoppedClock(SystemClock):
    """No time passes for who looks at it, and who sleeps does so for long."""

    def monotonic_s(self) -> float:
        return 1_000.0

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(3_600)


async def test_while_the_database_is_away_no_lead_is_taken_and_the_app_hears_nothing(
    gates: Rigs, tmp_path: Path, logged: Lines
) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'gone.db'}")
    outbox = Outage(database)
    outbox.takes_no_orders = True
    rig = await gates.start(**OFFLOADING, outbox=outbox, clock=HastyClock())
    rig.app.default = created()
    client = await rig.connect()
    reply = await client.ask(post())
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "intake_down", [b"5"])
    assert rig.app.requests == []
    assert "order.not_recorded" in events(logged)
    outbox.takes_no_orders = False
    assert (await client.ask(post())).status == 201
    assert [row.state for row in await rows(database)] == ["accepted"]
    await database.close()


async def test_when_the_database_goes_after_the_order_is_written_the_job_is_made_later(
    gates: Rigs, tmp_path: Path, logged: Lines
) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'away.db'}")
    outbox = Outage(database)
    outbox.settles_nothing = True
    rig = await gates.start(**OFFLOADING, outbox=outbox, clock=HastyClock())
    rig.app.default = _numbered
    client = await rig.connect()
    for n in range(3):
        assert (await client.ask(post({**LEAD, "n": n}))).json() == {"id": f"lead-{n}"}
    assert len(rig.app.requests) == 3
    assert "order.not_settled" in events(logged)
    assert {row.state for row in await rows(database)} == {"pending"}
    tries = outbox.settling
    await eventually(lambda: outbox.settling > tries + 1)
    outbox.settles_nothing = False
    async with asyncio.timeout(5):
        while len(await made(database)) < 3:
            await asyncio.sleep(0.02)
    assert {row.state for row in await rows(database)} == {"accepted"}
    assert {row.lead_id for row in await rows(database)} == {"lead-0", "lead-1", "lead-2"}
    await database.close()


def _numbered(received: Received) -> bytes:
    return created(f"lead-{json.loads(received.body)['n']}")


async def test_a_database_that_cannot_be_opened_yet_is_opened_later(gates: Rigs, tmp_path: Path) -> None:
    """Where its folder should be, there is a file."""
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    database = LateDatabase(f"sqlite:///{folder / 'leads.db'}")
    rig = await gates.start(**OFFLOADING, outbox=SqlOutbox(database), clock=HastyClock())
    rig.app.default = created()
    client = await rig.connect()
    assert (await client.ask(post())).code == "intake_down"
    folder.unlink()
    assert (await client.ask(post())).status == 201
    assert [row.state for row in await rows(database)] == ["accepted"]
    await database.close()


async def test_a_locked_database_takes_no_lead_and_holds_no_ghost_of_it(gates: Rigs, tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    database = LateDatabase(f"sqlite:///{path}")
    await database.open()
    rig = await gates.start(**OFFLOADING, outbox=SqlOutbox(database), clock=HastyClock())
    rig.app.default = created()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert (await (await rig.connect()).ask(post())).code == "intake_down"
    finally:
        other.execute("ROLLBACK")
        other.close()
    async with asyncio.timeout(8):
        while [row.state for row in await rows(database)] != ["refused"]:
            await asyncio.sleep(0.05)
    assert await made(database) == []
    assert rig.app.requests == []
    assert rig.intake is not None
    await rig.intake.close()
    await database.close()


async def test_a_slow_database_is_no_slow_app(gates: Rigs, tmp_path: Path) -> None:
    """Neither the client's nor the app's deadlines run while the database is waited for."""
    database = LateDatabase(f"sqlite:///{tmp_path / 'slow.db'}")
    outbox = Outage(database)
    outbox.delay_s = 0.7
    rig = await gates.start(
        **OFFLOADING, outbox=outbox, timeouts={"body_idle": "200ms"}, upstream={"response": "200ms", "idle": "200ms"}
    )
    rig.app.default = created()
    assert (await (await rig.connect()).ask(post())).status == 201
    assert [row.state for row in await rows(database)] == ["accepted"]
    await database.close()


async def test_when_too_many_orders_wait_no_more_are_taken(gates: Rigs, tmp_path: Path) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'full.db'}")
    outbox = Outage(database)
    outbox.settles_nothing = True
    rig = await gates.start(**OFFLOADING, outbox=outbox, max_unrecorded=1, clock=HastyClock())
    rig.app.default = created()
    client = await rig.connect()
    assert (await client.ask(post())).status == 201
    reply = await client.ask(post())
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (503, "intake_full", [b"30"])
    assert len(rig.app.requests) == 1
    outbox.settles_nothing = False
    async with asyncio.timeout(5):
        while not await made(database):
            await asyncio.sleep(0.02)
    assert (await (await rig.connect()).ask(post())).status == 201
    await database.close()


async def test_while_too_much_is_held_no_leads_are_taken(rig: Rig) -> None:
    rig.gateway.shared.held.most_bytes = 0
    assert (await (await rig.connect()).ask(post())).code == "intake_full"


# ── the spool ───────────────────────────────────────────────────────────────────────────────────────────────────────

SPOOLING: dict[str, Any] = {
    **OFFLOADING,
    "offloads": {"photos": {**OFFLOADING["offloads"]["photos"], "on_store_error": "spool"}},
}


async def until_made(database: LateDatabase, count: int) -> list[Any]:
    async with asyncio.timeout(8):
        while len(found := await made(database)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_while_the_database_is_away_leads_reach_the_app_and_their_orders_the_disk(
    gates: Rigs, tmp_path: Path, logged: Lines
) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'gone.db'}")
    outbox = Outage(database)
    outbox.takes_no_orders = outbox.settles_nothing = True
    rig = await gates.start(**SPOOLING, outbox=outbox, spool=Spool(tmp_path / "spool"), clock=HastyClock())
    rig.app.default = _numbered
    client = await rig.connect()
    for n in range(3):
        assert (await client.ask(post({**LEAD, "n": n}))).json() == {"id": f"lead-{n}"}
    assert len(list((tmp_path / "spool").iterdir())) == 6
    assert events(logged).count("order.spooled") == 6
    outbox.takes_no_orders = outbox.settles_nothing = False
    jobs = await until_made(database, 3)
    assert sorted(job.lead_id for job in jobs) == ["lead-0", "lead-1", "lead-2"]
    assert {row.state for row in await rows(database)} == {"accepted"}
    await eventually(lambda: list((tmp_path / "spool").iterdir()) == [])
    assert (await client.ask(post({**LEAD, "n": 3}))).status == 201
    await until_made(database, 4)
    assert list((tmp_path / "spool").iterdir()) == []
    await database.close()


async def test_a_database_that_hangs_is_waited_for_once_a_second_and_not_by_everybody(
    gates: Rigs, tmp_path: Path
) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'slow.db'}")
    outbox = Outage(database)
    rig = await gates.start(**SPOOLING, outbox=outbox, spool=Spool(tmp_path / "spool"), clock=StoppedClock())
    rig.app.default = _numbered
    outbox.settles_nothing = outbox.takes_no_orders = True
    client = await rig.connect()
    for n in range(5):
        assert (await client.ask(post({**LEAD, "n": n}))).status == 201
    assert outbox.asked == 1
    await database.close()


async def test_what_a_killed_gateway_left_in_the_spool_the_next_one_takes_in(gates: Rigs, tmp_path: Path) -> None:
    """One was killed before the app answered, one after it."""
    spool = Spool(tmp_path / "spool")
    now_ms = SystemClock().now_ms()
    waiting = LeadOrder("ord_1", "photos", "lead", "r-1", now_ms, LEAD)
    settled = LeadOrder("ord_2", "photos", "lead", "r-2", now_ms, LEAD)
    await spool.keep(Settlement(waiting, OrderState.PENDING))
    await spool.keep(Settlement(settled, OrderState.ACCEPTED, 201, Lead("lead-2", None, "It leaks.", ())))
    rig = await gates.start(**SPOOLING, spool=spool, clock=HastyClock())
    assert rig.database is not None
    assert [job.lead_id for job in await until_made(rig.database, 1)] == ["lead-2"]
    await has_state(rig, ["pending", "accepted"])


async def test_a_spooled_order_whose_claim_another_holds_is_an_order_all_the_same(gates: Rigs, tmp_path: Path) -> None:
    """The app has both leads: nobody could know while the database was away."""
    spool, claim = Spool(tmp_path / "spool"), Claim("c", "b", 2**50)
    rig = await gates.start(**SPOOLING, spool=spool, clock=HastyClock())
    assert rig.database is not None
    await SqlOutbox(rig.database).put(LeadOrder("ord_1", "photos", "lead", "r-1", 1_000, LEAD, claim))
    await spool.keep(Settlement(LeadOrder("ord_2", "photos", "lead", "r-2", 2_000, LEAD, claim), OrderState.PENDING))
    await has_state(rig, ["pending", "pending"])


async def test_a_spool_that_is_full_takes_no_lead_and_the_app_hears_nothing(
    gates: Rigs, tmp_path: Path, logged: Lines
) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'gone.db'}")
    outbox = Outage(database)
    outbox.takes_no_orders = outbox.settles_nothing = True
    spool = Spool(tmp_path / "spool", most_entries=2)
    rig = await gates.start(**SPOOLING, outbox=outbox, spool=spool, clock=HastyClock())
    rig.app.default = created()
    client = await rig.connect()
    assert (await client.ask(post())).status == 201
    assert (await client.ask(post())).code == "intake_down"
    assert len(rig.app.requests) == 1
    assert "order.not_spooled" in events(logged)
    await database.close()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stop_waits_for_the_lead_under_way_even_without_its_client(gates: Rigs) -> None:
    rig = await gates.start(**OFFLOADING, timeouts={"drain": "5s"})
    answer = asyncio.Event()
    rig.app.answers.append(Answer([answer, created()]))
    client = await rig.connect()
    client.send(post())
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await client.close()
    await asyncio.sleep(0.02)
    rig.stop.set()
    await asyncio.sleep(0.3)
    answer.set()
    await has_state(rig, ["accepted"])


async def test_a_lead_that_outlives_the_drain_time_is_unknown(gates: Rigs) -> None:
    rig = await gates.start(**OFFLOADING, timeouts={"drain": "1s"})
    rig.app.answers.append(Answer([End.HANG]))
    client = await rig.connect()
    client.send(post())
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    rig.stop.set()
    await has_state(rig, ["unknown"])


class SilentMessenger(NoMessenger):
    """Cannot reach the queue."""

    async def wake(self, job_id: str) -> None:
        raise StoreUnavailable("connect")


async def test_a_job_that_cannot_be_announced_is_made_all_the_same(gates: Rigs, logged: Lines) -> None:
    rig = await gates.start(**OFFLOADING, messenger=SilentMessenger())
    rig.app.default = created()
    assert (await (await rig.connect()).ask(post())).status == 201
    assert len(await made(rig.database)) == 1
    await eventually(lambda: "job.not_announced" in events(logged))


async def test_orders_that_could_not_be_settled_are_named_at_the_end(tmp_path: Path, logged: Lines) -> None:
    database = LateDatabase(f"sqlite:///{tmp_path / 'never.db'}")
    outbox = Outage(database)
    outbox.settles_nothing = True
    intake = Intake(outbox, NoMessenger(), Spool(tmp_path / "spool"), SystemClock())
    order = LeadOrder("ord_1", "photos", "lead", "r-1", 1_000, None)
    lead = Lead("lead-1", None, "", ())
    await intake.settle(Settlement(order, OrderState.ACCEPTED, 201, lead), offload("127.0.0.1:9"))
    await intake.settle(Settlement(order, OrderState.UNKNOWN), offload("127.0.0.1:9"))
    await intake.close()
    assert events(logged).count("order.unsettled") == 2
    outbox.settles_nothing = False
    await intake.close()
    assert [job.lead_id for job in await made(database)] == ["lead-1"]
    await database.close()
