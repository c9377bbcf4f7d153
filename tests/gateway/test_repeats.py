"""The same lead sent again: one lead at the app, one job, and the first answer for whoever sent it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio

from scopegate.leads.job import OrderState
from scopegate.leads.repeats import MAX_KEPT_BYTES
from scopegate.stores.outbox import SqlOutbox
from tests.gateway.app import Answer, End, Received, body_of
from tests.gateway.client import Reply
from tests.gateway.rig import JWT_SECRET, ON_ONE_LOOP, Rig, Rigs
from tests.gateway.test_intake import LEAD, OFFLOADING, HastyClock, created, has_state, made, post, state

pytestmark = ON_ONE_LOOP

OFFLOAD = OFFLOADING["offloads"]["photos"]
KEY = b"Idempotency-Key: "


def with_offload(**changes: Any) -> dict[str, Any]:
    return {**OFFLOADING, "offloads": {"photos": {**OFFLOAD, **changes}}}


def numbered(rig: Rig) -> None:
    """Each lead that reaches the app gets an id of its own."""

    def answer(_received: Received) -> bytes:
        return created(f"lead-{len(rig.app.requests)}", b"Set-Cookie: a=b\r\nLocation: /leads/1\r\nX-App: 1\r\n")

    rig.app.default = answer


@pytest_asyncio.fixture(loop_scope="module")
async def rig(gates: Rigs) -> AsyncIterator[Rig]:
    rig = await gates.start(**with_offload(same_body="30s"), upstream={"response": "5s"}, clock=HastyClock())
    numbered(rig)
    yield rig


async def ask(rig: Rig, *fields: bytes, body: Any = LEAD) -> Reply:
    return await (await rig.connect()).ask(post(body, *fields))


# ── the first answer, again ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [b'"k-1"', b"k-1"])
async def test_a_repeat_with_its_key_gets_the_first_answer_and_makes_no_lead(rig: Rig, key: bytes) -> None:
    first = await ask(rig, KEY + key)
    again = await ask(rig, KEY + key)
    assert (again.status, again.body) == (first.status, first.body) == (201, b'{"id": "lead-1"}')
    assert (again.get(b"location"), again.get(b"idempotent-replayed")) == ([b"/leads/1"], [b"true"])
    assert again.get(b"content-type") == first.get(b"content-type")
    assert again.get(b"x-content-type-options") == first.get(b"x-content-type-options")
    assert again.get(b"set-cookie") == again.get(b"x-app") == []
    assert first.get(b"idempotent-replayed") == []
    assert len(rig.app.requests) == 1
    assert len(await made(rig.database)) == 1
    assert await state(rig) == ["accepted"]


async def test_the_connection_serves_on_after_a_repeat(rig: Rig) -> None:
    client = await rig.connect()
    for _ in range(3):
        assert (await client.ask(post(LEAD, KEY + b"k"))).json() == {"id": "lead-1"}


async def test_the_same_body_within_its_time_is_the_same_lead(rig: Rig) -> None:
    assert (await ask(rig)).json() == (await ask(rig)).json() == {"id": "lead-1"}
    assert (await ask(rig, body={**LEAD, "text": "Another."})).json() == {"id": "lead-2"}
    assert (await ask(rig, KEY + b"mine")).json() == {"id": "lead-3"}, "a key says that it is another lead"


async def test_without_the_setting_the_same_body_is_another_lead(gates: Rigs) -> None:
    rig = await gates.start(**OFFLOADING)
    numbered(rig)
    assert (await ask(rig)).json() != (await ask(rig)).json()
    assert (await ask(rig, KEY + b"k")).json() == (await ask(rig, KEY + b"k")).json()


async def test_keys_are_the_apps_business_where_the_policy_says_so(gates: Rigs) -> None:
    rig = await gates.start(**with_offload(same_key="off"))
    numbered(rig)
    assert (await ask(rig, KEY + b"k")).json() != (await ask(rig, KEY + b"k")).json()
    assert (await ask(rig, KEY + b"a b")).status == 201
    assert rig.app.requests[0].get(b"idempotency-key") == [b"k"]


async def test_twins_at_once_are_one_lead(rig: Rig) -> None:
    """Nine gateways' worth of them: each waits for what becomes of the first."""
    go = asyncio.Event()
    rig.app.answers.append(Answer([go, created("lead-1")]))
    asking = [asyncio.create_task(ask(rig, KEY + b"twin")) for _ in range(9)]
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    await asyncio.sleep(0.1)
    go.set()
    replies = await asyncio.gather(*asking)
    assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"id": "lead-1"}')}
    assert len(rig.app.requests) == 1


async def test_two_gateways_on_one_database_know_each_others_leads(gates: Rigs, rig: Rig) -> None:
    assert rig.database is not None
    other = await gates.start(**with_offload(), outbox=SqlOutbox(rig.database))
    numbered(other)
    first = await ask(rig, KEY + b"k")
    assert (await ask(other, KEY + b"k")).body == first.body
    assert other.app.requests == []


# ── what is no repeat ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_that_was_given_to_another_request_is_refused(rig: Rig) -> None:
    await ask(rig, KEY + b"k")
    reply = await ask(rig, KEY + b"k", body={**LEAD, "text": "Another."})
    assert (reply.status, reply.code) == (422, "idempotency_key_reused")
    assert len(rig.app.requests) == 1


@pytest.mark.parametrize("fields", [(KEY,), (KEY + b"a b",), (KEY + b"a", KEY + b"a"), (KEY + b"x" * 256,)])
async def test_a_key_that_is_none_is_refused(rig: Rig, fields: tuple[bytes, ...]) -> None:
    reply = await ask(rig, *fields)
    assert (reply.status, reply.code) == (400, "bad_idempotency_key")
    assert rig.app.requests == []
    assert (await ask(rig)).status == 201


async def test_watched_routes_refuse_no_key_and_keep_no_answer(gates: Rigs) -> None:
    routes = [{**OFFLOADING["routes"][0], "mode": "watch"}, OFFLOADING["routes"][1]]
    rig = await gates.start(**{**OFFLOADING, "routes": routes})
    numbered(rig)
    assert [(await ask(rig, KEY + b"a b")).status for _ in range(2)] == [201, 201]


@pytest.mark.parametrize("status", ["422 No", "500 Oops"])
async def test_what_the_app_refused_it_hears_again(rig: Rig, status: str) -> None:
    rig.app.answers.append(body_of(b"{}", status))
    assert (await ask(rig, KEY + b"k")).status == int(status[:3])
    await has_state(rig, ["refused"])
    assert (await ask(rig, KEY + b"k", body={**LEAD, "text": "Mended."})).status == 201
    assert len(rig.app.requests) == 2


async def test_who_waits_for_a_lead_that_the_app_refuses_takes_its_place(rig: Rig) -> None:
    go = asyncio.Event()
    rig.app.answers.append(Answer([go, body_of(b"{}", "503 Later")]))
    first = asyncio.create_task(ask(rig, KEY + b"k"))
    await rig.app.until(lambda: len(rig.app.requests) == 1)
    second = asyncio.create_task(ask(rig, KEY + b"k"))
    await asyncio.sleep(0.05)
    go.set()
    assert ((await first).status, (await second).status) == (503, 201)
    assert await state(rig) == ["refused", "accepted"]


# ── no answer to give ───────────────────────────────────────────────────────────────────────────────────────────────


class LateClock(HastyClock):
    """Time flies for who looks at it."""

    def __init__(self) -> None:
        self._s = 0.0

    def monotonic_s(self) -> float:
        self._s += 3.0
        return self._s


async def test_while_nobody_knows_what_became_of_the_first_the_second_is_told_to_wait(gates: Rigs) -> None:
    rig = await gates.start(**with_offload(), clock=LateClock(), upstream={"response": "300ms"})
    rig.app.answers.append(Answer([End.HANG]))
    assert (await ask(rig, KEY + b"k")).status == 504
    await has_state(rig, ["unknown"])
    reply = await ask(rig, KEY + b"k")
    assert (reply.status, reply.code, reply.get(b"retry-after")) == (409, "lead_under_way", [b"5"])
    assert len(rig.app.requests) == 1
    assert rig.database is not None
    outbox = SqlOutbox(rig.database)
    (row,) = await outbox.open(10)
    record = await outbox.get(row.order_id)
    assert record is not None
    await outbox.settle(record.order, OrderState.REFUSED, 404, None)
    numbered(rig)
    assert (await ask(rig, KEY + b"k")).status == 201


async def test_a_lead_whose_answer_is_not_kept_was_taken_all_the_same(rig: Rig) -> None:
    rig.app.answers.append(created("lead-1" + " " * MAX_KEPT_BYTES))
    rig.app.answers.append(body_of(json.dumps({"id": 7, "x": "y" * MAX_KEPT_BYTES}).encode(), "201 Created"))
    await ask(rig, KEY + b"j")
    assert (await ask(rig, KEY + b"k")).status == 201
    reply = await ask(rig, KEY + b"k")
    assert (reply.status, reply.code) == (409, "lead_taken")
    assert len(rig.app.requests) == 2


# ── whose it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


def token(user: str) -> bytes:
    return b"Authorization: Bearer " + jwt.encode({"sub": user, "exp": 4_000_000_000}, JWT_SECRET).encode()


async def test_another_users_key_is_another_key(gates: Rigs) -> None:
    auth = {"site": {"jwt": {"secret": "${JWT_SECRET}"}}}
    routes = [{**OFFLOADING["routes"][0], "auth": "site"}, OFFLOADING["routes"][1]]
    rig = await gates.start(**{**OFFLOADING, "routes": routes, "auth": auth})
    numbered(rig)
    assert (await ask(rig, KEY + b"k", token("ann"))).json() == {"id": "lead-1"}
    assert (await ask(rig, KEY + b"k", token("bob"))).json() == {"id": "lead-2"}
    other = await ask(rig, KEY + b"k", token("bob"), body={**LEAD, "text": "Another."})
    assert other.code == "idempotency_key_reused"
    assert (await ask(rig, KEY + b"k", token("ann"))).json() == {"id": "lead-1"}


async def test_the_app_is_told_the_order_and_a_visitor_cannot_tell_it_another(rig: Rig) -> None:
    await ask(rig, b"X-Scopegate-Order: ord_forged")
    (named,) = rig.app.requests[0].get(b"x-scopegate-order")
    assert named.startswith(b"ord_")
    assert named != b"ord_forged"
