"""The demo app over a real socket, served as the demo serves it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from scopegate.clock import ManualClock
from scopegate.demo.app import MAX_JSON_BYTES, MAX_PHOTO_BYTES, Site, build
from scopegate.leads import webhook

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 100
LEAD: dict[str, Any] = {
    "name": "Ada",
    "email": "ada@example.com",
    "contractorSlug": "demo",
    "projectDescription": "The ceiling is wet & <b>dripping</b>.",
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def client(tmp_path: Path, clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    sock = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{sock.getsockname()[1]}"
    serving = asyncio.Event()
    app = build(Site(tmp_path, origin, SECRET, b"p" * 32, clock), serving.set)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    task = asyncio.create_task(server._serve([sock]))
    await asyncio.wait_for(serving.wait(), 10)
    async with httpx.AsyncClient(base_url=origin) as http:
        yield http
    server.should_exit = True
    await task


async def test_the_page_carries_its_own_policy_and_no_inline_code(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "<script src=" in answer.text
    assert " onclick" not in answer.text
    for path in ("/static/lead.js", "/static/style.css"):
        assert (await client.get(path)).status_code == 200


async def test_a_lead_is_accepted_and_shown_without_the_sender(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/leads", json=LEAD)
    assert answer.status_code == 201
    shown = await client.get(answer.headers["location"])
    assert shown.json() == {
        "id": answer.json()["id"],
        "status": "received",
        "photos": 0,
        "analysis": None,
        "score": None,
    }
    assert (await client.get("/api/leads/unknown")).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "  "}, "name"),
        ({"email": "nobody"}, "email"),
        ({"contractorSlug": "../x"}, "contractorSlug"),
        ({"projectDescription": "short"}, "projectDescription"),
        ({"photos": [{"url": 1}]}, "photos.0.url"),
        ({"admin": True}, "admin"),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_is_not(
    client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    answer = await client.post("/api/leads", json={**LEAD, **change})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "nobody" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_what_is_no_lead_at_all_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await client.post("/api/leads", content=body)).status_code == 422


async def test_bodies_are_bounded(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/leads", content=b" " * (MAX_JSON_BYTES + 1))).status_code == 413


async def test_only_photos_uploaded_here_can_be_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/leads", json={**LEAD, "photos": [{"url": "http://169.254.169.254/latest"}]})
    assert answer.status_code == 422


async def presign(client: httpx.AsyncClient, media_type: str = "image/jpeg") -> dict[str, Any]:
    answer = await client.post("/api/uploads/presign", json={"contentType": media_type, "bytes": 100})
    assert answer.status_code == 201
    place: dict[str, Any] = answer.json()
    return place


async def test_a_photo_goes_up_and_comes_back_by_signed_addresses(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    place = await presign(client)
    assert (await client.get(place["url"])).status_code == 404
    assert (await client.put(place["uploadUrl"], content=JPEG)).status_code == 204
    back = await client.get(place["url"])
    assert (back.content, back.headers["content-type"]) == (JPEG, "image/jpeg")
    lead = await client.post("/api/leads", json={**LEAD, "photos": [{"url": place["url"]}]})
    assert (await client.get(lead.headers["location"])).json()["photos"] == 1
    clock.advance(10 * 60 + 1)
    assert (await client.put(place["uploadUrl"], content=JPEG)).status_code == 403
    assert (await client.get(place["url"])).status_code == 200


async def test_a_photo_needs_its_own_signature(client: httpx.AsyncClient) -> None:
    place, other = await presign(client), await presign(client)
    stolen = urlsplit(place["uploadUrl"]).path + "?" + urlsplit(other["uploadUrl"]).query
    assert (await client.put(stolen, content=JPEG)).status_code == 403
    assert (await client.put("/photos/..%2Fapp.db?expires=1&signature=0", content=JPEG)).status_code == 404
    assert (await client.put(urlsplit(place["url"]).path + "?" + urlsplit(place["url"]).query)).status_code == 403


async def test_a_file_that_is_not_what_was_announced_is_refused(client: httpx.AsyncClient) -> None:
    place = await presign(client, "image/png")
    assert (await client.put(place["uploadUrl"], content=JPEG)).status_code == 415
    assert (await client.put(place["uploadUrl"], content=b"<script>")).status_code == 415
    assert (await client.get(place["url"])).status_code == 404


async def test_a_photo_over_the_cap_is_refused(client: httpx.AsyncClient) -> None:
    place = await presign(client)
    assert (await client.put(place["uploadUrl"], content=JPEG + bytes(MAX_PHOTO_BYTES))).status_code == 413
    big = {"contentType": "image/jpeg", "bytes": MAX_PHOTO_BYTES + 1}
    assert (await client.post("/api/uploads/presign", json=big)).status_code == 422


async def deliver(client: httpx.AsyncClient, clock: ManualClock, kind: str, message_id: str, **data: Any) -> int:
    body = json.dumps(webhook.message(kind, "2027-01-15T08:00:00Z", data)).encode()
    fields = webhook.signed_fields([SECRET], message_id, clock.now_ms() // 1000, body)
    return (await client.post("/api/internal/lead-analysis", content=body, headers=fields)).status_code


async def test_a_signed_result_arrives_once(client: httpx.AsyncClient, clock: ManualClock) -> None:
    lead_id = (await client.post("/api/leads", json=LEAD)).json()["id"]
    result = {"lead_id": lead_id, "estimate": {"total": "120.50"}}
    assert await deliver(client, clock, "lead.analysis.completed", "m1", **result) == 200
    assert await deliver(client, clock, "lead.analysis.completed", "m1", lead_id=lead_id, estimate={}) == 200
    assert await deliver(client, clock, "lead.score.updated", "m2", lead_id=lead_id, score=77) == 200
    shown = (await client.get(f"/api/leads/{lead_id}")).json()
    assert (shown["status"], shown["score"]) == ("analysed", 77)
    assert shown["analysis"]["estimate"] == {"total": "120.50"}


async def test_a_result_that_is_not_signed_or_not_known_is_refused(
    client: httpx.AsyncClient, clock: ManualClock
) -> None:
    unsigned = await client.post("/api/internal/lead-analysis", json={"type": "lead.score.updated", "data": {}})
    assert unsigned.status_code == 401
    assert await deliver(client, clock, "lead.score.updated", "m1", lead_id="nobody", score=1) == 404
    assert await deliver(client, clock, "lead.deleted", "m2", lead_id="nobody") == 422


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/health")).json() == {"status": "ok"}
