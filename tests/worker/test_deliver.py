"""Delivery: what the app receives, and which of its answers mean what."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
import respx
from pydantic import SecretStr

from scopegate.clock import ManualClock, SystemClock
from scopegate.errors import DeliveryError
from scopegate.leads.webhook import verify
from scopegate.policy.policy import Deliver
from scopegate.worker.deliver import Courier
from tests.worker.app import Asked, answer, serving

SECRET = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
URL = "http://app.test/hook"
TO = Deliver(URL, (SecretStr(SECRET),))
BODY = b'{"type":"lead.analysis.completed"}'


async def test_the_app_receives_a_message_it_can_verify() -> None:
    async def accept(asked: Asked) -> bytes:
        return answer(204, set_cookie="a=b")

    async with serving(accept) as app:
        to = Deliver(f"http://{app.authority}/hook?x=1", (SecretStr(SECRET),))
        courier = Courier(SystemClock())
        assert await courier.deliver(to, "msg_1", BODY) == 204
        assert await courier.deliver(to, "msg_1", BODY) == 204
    first, second = app.asked
    assert (first.method, first.target, first.body) == ("POST", "/hook?x=1", BODY)
    assert first.get("content-type") == "application/json"
    assert verify(SECRET, dict(first.fields), first.body, time.time()) is None
    assert first.get("webhook-id") == second.get("webhook-id") == "msg_1"
    assert second.get("cookie") == ""


async def test_the_timestamp_is_the_clocks() -> None:
    clock = ManualClock(now_ms=1_800_000_000_999)
    with respx.mock:
        route = respx.post(URL).respond(200)
        await Courier(clock).deliver(TO, "msg_1", BODY)
    assert route.calls.last.request.headers["webhook-timestamp"] == "1800000000"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        *((status, "unavailable", True) for status in (408, 425, 429, 500, 502, 503, 504, 529)),
        *((status, "rejected", False) for status in (400, 401, 403, 404, 409, 410, 413, 422)),
        *((status, "redirected", False) for status in (301, 302, 304, 307, 308)),
    ],
)
async def test_an_answer_other_than_2xx_is_not_a_delivery(status: int, code: str, retryable: bool) -> None:
    with respx.mock:
        respx.post(URL).respond(status, headers={"location": "http://app.test/other"})
        with pytest.raises(DeliveryError) as failed:
            await Courier(ManualClock()).deliver(TO, "msg_1", BODY)
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert str(status) in str(failed.value)


async def test_the_secret_before_signs_as_well() -> None:
    clock = ManualClock(now_ms=1_800_000_000_000)
    before = "the secret that was before"
    with respx.mock:
        route = respx.post(URL).respond(200)
        await Courier(clock).deliver(Deliver(URL, (SecretStr(SECRET), SecretStr(before))), "msg_1", BODY)
    sent = dict(route.calls.last.request.headers)
    assert [verify(known, sent, BODY, 1_800_000_000) for known in (SECRET, before)] == [None, None]


@pytest.mark.parametrize(
    ("field", "wait_s"), [({"retry-after": "90"}, 90), ({"retry-after": "soon"}, None), ({}, None)]
)
async def test_an_app_may_say_how_long_to_wait(field: dict[str, str], wait_s: float | None) -> None:
    with respx.mock:
        respx.post(URL).respond(503, headers=field)
        with pytest.raises(DeliveryError) as failed:
            await Courier(ManualClock()).deliver(TO, "msg_1", BODY)
    assert failed.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("refused"), "unreachable"),
        (httpx.ReadError("reset"), "unreachable"),
        (httpx.RemoteProtocolError("no HTTP"), "unreachable"),
        (httpx.ConnectTimeout("slow"), "timeout"),
        (httpx.ReadTimeout("slow"), "timeout"),
    ],
)
async def test_no_answer_is_worth_another_try(error: Exception, code: str) -> None:
    with respx.mock:
        respx.post(URL).mock(side_effect=error)
        with pytest.raises(DeliveryError) as failed:
            await Courier(ManualClock()).deliver(TO, "msg_1", BODY)
    assert (failed.value.code, failed.value.retryable) == (code, True)


async def test_an_app_that_hangs_is_given_up_on() -> None:
    async def hang(asked: Asked) -> None:
        await asyncio.sleep(30)

    async with serving(hang) as app:
        to = Deliver(f"http://{app.authority}/", (SecretStr(SECRET),))
        with pytest.raises(DeliveryError) as failed:
            await Courier(SystemClock(), timeout_s=0.1).deliver(to, "msg_1", BODY)
    assert failed.value.code == "timeout"


async def test_an_endless_answer_is_not_read() -> None:
    async def flood(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 100000000000\r\n\r\n" + bytes(1 << 20)

    async with serving(flood) as app:
        to = Deliver(f"http://{app.authority}/", (SecretStr(SECRET),))
        assert await Courier(SystemClock()).deliver(to, "msg_1", BODY) == 200


async def test_proxy_variables_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def accept(asked: Asked) -> bytes:
        return answer(200)

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serving(accept) as app:
        to = Deliver(f"http://{app.authority}/", (SecretStr(SECRET),))
        assert await Courier(SystemClock()).deliver(to, "msg_1", BODY) == 200
