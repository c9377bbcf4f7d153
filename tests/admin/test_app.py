"""The JSON API, the probes and the replay, over a real SQLite file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from pydantic import SecretStr

from scopegate.admin.app import create_admin
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import AttemptState, JobState, LeadOrder
from scopegate.limits.steps import StepName
from scopegate.types import Json
from tests.admin import house
from tests.admin.conftest import House

SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


class Waker:
    """Records who was woken; fails when told."""

    def __init__(self, outage: StoreUnavailable | None = None) -> None:
        self.woken: list[str] = []
        self.outage = outage

    async def wake(self, job_id: str) -> None:
        if self.outage:
            raise self.outage
        self.woken.append(job_id)

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


async def test_jobs_are_listed_newest_first_and_filtered(home: House) -> None:
    for lead in ("a", "b", "c"):
        job = await house.add_job(home.outbox, lead)
    await house.fail_job(home.jobs, job)
    async with house.client(create_admin(home.sources(), None)) as client:
        everything = (await client.get("/api/jobs")).json()["jobs"]
        failed = (await client.get("/api/jobs", params={"state": "failed"})).json()["jobs"]
        of_a = (await client.get("/api/jobs", params={"lead": "a"})).json()["jobs"]
        two = (await client.get("/api/jobs", params={"limit": "2"})).json()["jobs"]
        other = (await client.get("/api/jobs", params={"offload": "other"})).json()["jobs"]
    assert {job["lead_id"] for job in everything} == {"a", "b", "c"}
    assert [(job["lead_id"], job["error_code"]) for job in failed] == [("c", "auth")]
    assert [job["lead_id"] for job in of_a] == ["a"]
    assert len(two) == 2
    assert other == []
    assert everything[0]["created"] == "2027-01-15T08:00:00.000Z"


async def test_a_job_tells_its_story_and_sums_to_the_ledger(home: House) -> None:
    job = await house.add_job(home.outbox, "a", text="my SECRETWORDS")
    await house.fail_job(home.jobs, job)
    await house.book(home.ledger, job, 1234, "call-1")
    await house.book(home.ledger, job, 766, "call-2")
    async with house.client(create_admin(home.sources(), None)) as client:
        answer = await client.get(f"/api/jobs/{job.job_id}")
    story = answer.json()
    assert story["state"] == "failed"
    [step] = [step for step in story["steps"] if step["attempts"]]
    assert (step["name"], step["attempts"][0]["error_code"]) == ("photo_analysis", "auth")
    assert step["attempts"][0]["duration_ms"] == 500
    assert [call["cost_usd_micros"] for call in story["calls"]] == [1234, 766]
    assert story["cost_usd"] == 0.002
    assert "SECRETWORDS" not in answer.text
    assert "SECRETQUERY" not in answer.text


async def test_open_orders_are_listed_without_the_visitors_words(home: House) -> None:
    await house.add_job(home.outbox, "a")
    for n in range(3):
        words = {"text": "SECRETWORDS"}
        await home.outbox.put(LeadOrder(f"ord-{n}", "lead-photos", "submit-lead", f"r-{n}", house.NOW_MS + n, words))
    await home.outbox.overdue(house.NOW_MS + 1)
    async with house.client(create_admin(home.sources(), SecretStr(house.TOKEN))) as client:
        assert (await client.get("/api/orders")).status_code == 401
    async with house.client(create_admin(home.sources(), SecretStr(house.TOKEN)), token=house.TOKEN) as client:
        answer = await client.get("/api/orders")
        assert len((await client.get("/api/orders?limit=1")).json()["orders"]) == 1
        assert (await client.get("/api/orders?limit=0")).status_code == 400
    assert [(o["order_id"], o["state"]) for o in answer.json()["orders"]] == [
        ("ord-2", "pending"),
        ("ord-1", "pending"),
        ("ord-0", "unknown"),
    ]
    assert answer.json()["orders"][2]["received"] == "2027-01-15T08:00:00.000Z"
    assert "SECRETWORDS" not in answer.text


async def test_an_id_that_utf8_cannot_carry_is_shown(home: House) -> None:
    job = await house.add_job(home.outbox, "\ud800\x00<b>")
    async with house.client(create_admin(home.sources(), None)) as client:
        assert (await client.get(f"/api/jobs/{job.job_id}")).json()["lead_id"] == "\ud800\x00<b>"
        assert (await client.get("/jobs")).status_code == 200


async def test_the_app_reads_what_became_of_a_lead(home: House) -> None:
    done = await house.add_job(home.outbox, "a/b c")
    taken = await home.jobs.lease(done.job_id, "test", house.NOW_MS, house.NOW_MS + 15_000)
    assert taken is not None
    results: dict[StepName, Json] = {
        StepName.PHOTO_ANALYSIS: {"outcome": "no_photos", "photos": [], "analysis": {"summary": "dry"}},
        StepName.SCOPE: {"scope": {"items": []}},
        StepName.ESTIMATE: {"estimate": {"total": "120.50"}},
        StepName.SAVE: {"message_id": "m", "status": 200},
        StepName.SCORE: {"score": 61, "parts": {"photos": 0}},
    }
    for step, result in results.items():
        attempt = await home.jobs.start_attempt(taken[0], step, house.NOW_MS)
        ended = replace(attempt, state=AttemptState.DONE, finished_ms=house.NOW_MS + 5)
        await home.jobs.finish_attempt(taken[0], step, ended, result)
    await home.jobs.finish(taken[0], house.NOW_MS + 5, score=61)
    again = await home.jobs.replay(done.job_id, "job_again", house.NOW_MS + 10)
    assert again is not None
    async with house.client(create_admin(home.sources(), None)) as client:
        answer = await client.get("/api/results/a%2Fb%20c")
        assert (await client.get("/api/results/a%2Fb%20c?offload=other")).status_code == 404
        assert (await client.get("/api/results/unknown")).status_code == 404
    assert answer.json() | {"contractor": None} == {
        "lead_id": "a/b c",
        "offload": "lead-photos",
        "contractor": None,
        "job_id": done.job_id,
        "state": "done",
        "error_code": None,
        "finished": "2027-01-15T08:00:00.005Z",
        "outcome": "no_photos",
        "photos": [],
        "photo_analysis": {"summary": "dry"},
        "scope": {"items": []},
        "estimate": {"total": "120.50"},
        "score": 61,
        "parts": {"photos": 0},
    }


async def test_a_lead_that_is_not_done_says_so(home: House) -> None:
    await house.add_job(home.outbox, "a")
    async with house.client(create_admin(home.sources(), None)) as client:
        found = (await client.get("/api/results/a")).json()
    assert (found["state"], found["estimate"], found["score"]) == ("queued", None, None)


@pytest.mark.parametrize(
    "query",
    [
        "/api/jobs?state=nonsense",
        "/api/jobs?limit=0",
        "/api/jobs?limit=501",
        "/api/jobs?limit=-1",
        "/api/jobs?limit=1e3",
        "/api/jobs?limit=",
        "/api/usage?by=secret",
        "/api/usage?by=",
        "/api/usage?since=yesterday",
        "/api/usage?since=2027-13-01",
    ],
)
async def test_a_wrong_parameter_is_a_400_that_says_what_is_allowed(home: House, query: str) -> None:
    async with house.client(create_admin(home.sources(), None)) as client:
        answer = await client.get(query)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"
    assert "must be" in answer.json()["detail"]
    assert "nonsense" not in answer.text


@pytest.mark.parametrize("job_id", ["job_unknown", "%00", "..%2f..", "x" * 200, "%F0%9F%92%A9"])
async def test_an_unknown_job_is_a_404(home: House, job_id: str) -> None:
    async with house.client(create_admin(home.sources(), None)) as client:
        assert (await client.get(f"/api/jobs/{job_id}")).status_code == 404
        assert (await client.post(f"/api/jobs/{job_id}/replay", headers=SAME_ORIGIN)).status_code == 404


async def test_a_failed_job_is_replayed_and_the_worker_woken(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    waker = Waker()
    async with house.client(create_admin(replace(home.sources(), messenger=waker), None)) as client:
        answer = await client.post(f"/api/jobs/{job.job_id}/replay", headers=SAME_ORIGIN)
    assert answer.status_code == 202
    new = answer.json()
    assert (new["state"], new["replay_of"], new["lead_id"]) == ("queued", job.job_id, "a")
    assert waker.woken == [new["job_id"]]
    assert answer.headers["location"] == f"/api/jobs/{new['job_id']}"
    stored = await home.jobs.get(new["job_id"])
    assert stored is not None
    assert stored.state is JobState.QUEUED


async def test_a_job_is_cancelled_and_replayed_from_a_step(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    address = f"/api/jobs/{job.job_id}"
    async with house.client(create_admin(home.sources(), None)) as client:
        assert (await client.post(f"{address}/cancel", headers=SAME_ORIGIN)).status_code == 409
        assert (await client.post("/api/jobs/x/cancel", headers=SAME_ORIGIN)).status_code == 404
        assert (await client.post(f"{address}/replay?from=nowhere", headers=SAME_ORIGIN)).status_code == 400
        new = (await client.post(f"{address}/replay?from=photo_analysis", headers=SAME_ORIGIN)).json()
        ended = await client.post(f"/api/jobs/{new['job_id']}/cancel", headers=SAME_ORIGIN)
    assert (ended.status_code, ended.json()["state"], ended.json()["error_code"]) == (200, "failed", "cancelled")


async def test_replaying_twice_gives_one_job(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    async with house.client(create_admin(home.sources(), None)) as client:
        answers = await asyncio.gather(
            *(client.post(f"/api/jobs/{job.job_id}/replay", headers=SAME_ORIGIN) for _ in range(5))
        )
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert sum((await home.jobs.counts()).values()) == 2


async def test_a_job_that_has_not_ended_is_not_replayed(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    async with house.client(create_admin(home.sources(), None)) as client:
        answer = await client.post(f"/api/jobs/{job.job_id}/replay", headers=SAME_ORIGIN)
    assert answer.status_code == 409


async def test_a_replay_survives_a_messenger_that_is_down(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    sources = replace(home.sources(), messenger=Waker(StoreUnavailable("connect")))
    async with house.client(create_admin(sources, None)) as client:
        assert (await client.post(f"/api/jobs/{job.job_id}/replay", headers=SAME_ORIGIN)).status_code == 202


async def test_reading_changes_nothing(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.fail_job(home.jobs, job)
    before = await home.jobs.get(job.job_id)
    async with house.client(create_admin(home.sources(), None)) as client:
        for path in ("/jobs", "/metrics", "/readyz", "/api/jobs", f"/api/jobs/{job.job_id}", "/api/usage"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get(f"/api/jobs/{job.job_id}/replay")).status_code == 405
    assert await home.jobs.get(job.job_id) == before
    assert sum((await home.jobs.counts()).values()) == 1


@pytest.mark.parametrize("by", ["day", "model", "step", "lead", "contractor", "offload"])
async def test_usage_sums_by_each_key(home: House, by: str) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.book(home.ledger, job, 1234, "call-1")
    await house.book(home.ledger, job, 766, "call-2")
    keys = {
        "day": "2027-01-15",
        "model": "claude-haiku-5-5",
        "step": "photo_analysis",
        "lead": "a",
        "contractor": "roofers",
        "offload": "lead-photos",
    }
    async with house.client(create_admin(home.sources(), None)) as client:
        usage = (await client.get("/api/usage", params={"by": by})).json()
        later = (await client.get("/api/usage", params={"by": by, "since": "2027-01-16"})).json()
    [row] = usage["rows"]
    assert (row["key"], row["calls"], row["cost_usd_micros"], row["cost_usd"]) == (keys[by], 2, 2000, 0.002)
    assert usage["since"] == "2026-12-16"
    assert usage["forecast"]["time_zone"] == "UTC"
    day, month = usage["forecast"]["day"], usage["forecast"]["month"]
    assert (day["period"], day["spent_usd_micros"], day["ends"]) == ("2027-01-15", 2000, "2027-01-16T00:00:00.000Z")
    assert (month["period"], month["spent_usd"]) == ("2027-01", 0.002)
    assert day["expected_usd_micros"] == 2000 + 16 * 2000, "as if the 2,000 were an hour's"
    assert later["rows"] == []


# ── health ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def failing() -> None:
    raise StoreUnavailable("connect", "redis://:hunter2@10.0.0.9")


async def hanging() -> None:
    await asyncio.Event().wait()


async def fine() -> None: ...


@pytest.mark.parametrize(
    ("checks", "status", "states"),
    [
        ({}, 200, {"database": "ok"}),
        ({"redis": fine}, 200, {"database": "ok", "redis": "ok"}),
        ({"redis": failing}, 503, {"database": "ok", "redis": "failed"}),
    ],
)
async def test_readiness_names_each_check(
    home: House, checks: Mapping[str, object], status: int, states: Mapping[str, str]
) -> None:
    app = create_admin(replace(home.sources(), checks=checks), SecretStr(house.TOKEN))  # type: ignore[arg-type]
    async with house.client(app, peer="10.0.0.1") as client:
        answer = await client.get("/readyz")
        alive = await client.get("/livez")
    assert answer.status_code == status
    assert answer.json() == {"ready": status == 200, "checks": states}
    assert alive.status_code == 200
    assert "hunter2" not in answer.text


async def test_an_outage_is_a_503_without_details(home: House) -> None:
    class Down:
        async def list(self, wanted: object) -> None:
            raise StoreUnavailable("full", "/secret/path")

        async def counts(self) -> None:
            raise StoreUnavailable("full", "/secret/path")

    app = create_admin(replace(home.sources(), jobs=Down()), None)  # type: ignore[arg-type]
    async with house.client(app) as client:
        answer = await client.get("/api/jobs")
        ready = await client.get("/readyz")
        page = await client.get("/jobs")
    assert (answer.status_code, ready.status_code, page.status_code) == (503, 503, 503)
    assert answer.json()["code"] == "store_unavailable"
    assert "secret" not in answer.text


async def test_a_bug_is_a_500_without_a_traceback(home: House) -> None:
    class Broken:
        async def list(self, wanted: object) -> None:
            raise KeyError("inner words")

        async def counts(self) -> dict[str, int]:
            return {}

    app = create_admin(replace(home.sources(), jobs=Broken()), None)  # type: ignore[arg-type]
    async with house.client(app) as client:
        answer = await client.get("/api/jobs")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "inner words" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
