"""One job: its story whole, its lead masked as the policy says, and another go."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from scopegate.admin.app import create_admin
from scopegate.leads.job import AttemptState, JobFilter, JobState, LeadJob
from scopegate.limits.steps import StepName
from scopegate.policy.policy import WordsShown
from scopegate.types import Json
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, Reader, form_token
from tests.admin.test_app import Waker

RESULTS: dict[StepName, Json] = {
    StepName.PHOTO_ANALYSIS: {
        "outcome": "analysed", "photos": [{"n": 1, "outcome": "used"}], "analysis": {"summary": "call 555 010 9999"},
    },
    StepName.SCOPE: {"scope": {"items": ["shingles"]}},
    StepName.ESTIMATE: {"estimate": {"total": "120.50"}},
    StepName.SAVE: {"message_id": "msg_1", "status": 200},
    StepName.SCORE: {"score": 61, "parts": {"photos": 20}, "message_id": "msg_2", "status": 204},
}  # fmt: skip


def app(home: House, words: WordsShown = WordsShown.NOBODY, log_url: str | None = None) -> Starlette:
    policy = house.policy()
    shown = replace(policy, admin=replace(policy.admin, lead_words=words, log_url=log_url))
    return create_admin(replace(home.sources(), policy=lambda: shown, messenger=Waker()), None)


async def done_job(home: House) -> LeadJob:
    job = await house.add_job(home.outbox, "lead-1", text="SECRETWORDS of the lead")
    taken = await home.jobs.lease(job.job_id, "test", house.NOW_MS + 2000, house.NOW_MS + 60_000)
    assert taken is not None
    at_ms = house.NOW_MS + 2000
    for step, result in RESULTS.items():
        attempt = await home.jobs.start_attempt(taken[0], step, at_ms)
        ended = replace(attempt, state=AttemptState.DONE, finished_ms=at_ms + 500)
        await home.jobs.finish_attempt(taken[0], step, ended, result)
        at_ms += 600
    await home.jobs.finish(taken[0], at_ms, score=61)
    await house.book(home.ledger, job, 1_234_500)
    return job


async def page_of(home: House, job: LeadJob, app: Starlette) -> Reader:
    async with house.client(app, headers=HTML) as client:
        answer = await client.get(f"/jobs/{job.job_id}")
    assert answer.status_code == 200
    return Reader(answer.text)


async def test_a_job_tells_its_story(home: House) -> None:
    job = await done_job(home)
    page = await page_of(home, job, app(home))
    for said in (
        "61",
        "$1.2345, 1 model calls",
        "claude-haiku-5-5",
        "1,000",
        "msg_1",
        "sent to the app",
        "6 h" if 0 else "req-lead-1",
    ):
        assert said in page.text, said
    assert "photo_analysis 1" in page.words
    assert "waits" in page.words, "two seconds before the first attempt"
    assert "req_1" in page.words, "the provider's id of the call"
    assert [word for word in page.words if word in set(StepName)].count("save") == 1


async def test_the_lead_is_masked_unless_the_policy_shows_it(home: House) -> None:
    job = await done_job(home)
    masked = await page_of(home, job, app(home))
    assert "SECRETWORDS" not in masked.text
    assert "SECRETQUERY" not in masked.text
    assert "https://photos.example.com/•••" in masked.text
    assert "555 010 9999" not in masked.text
    assert "pictures that the model saw are not kept" in masked.text
    shown = await page_of(home, job, app(home, WordsShown.OPERATOR))
    assert "SECRETWORDS" in shown.text
    assert "SECRETQUERY" in shown.text
    assert "555 010 9999" in shown.text


async def test_the_request_is_linked_to_the_log(home: House) -> None:
    job = await done_job(home)
    with_log = await page_of(home, job, app(home, log_url="https://logs.example/?q={id}"))
    without = await page_of(home, job, app(home))
    assert ("href", "https://logs.example/?q=req-lead-1") in with_log.attributes
    assert ("href", "/jobs?request=req-lead-1") in without.attributes


async def replay(client: httpx.AsyncClient, job: LeadJob, **fields: str) -> httpx.Response:
    token = form_token((await client.get(f"/jobs/{job.job_id}")).text)
    return await client.post(f"/jobs/{job.job_id}/replay", data={"form": token, **fields}, headers=SAME)


async def test_a_job_is_replayed_whole_and_from_a_step(home: House) -> None:
    job = await done_job(home)
    async with house.client(app(home), headers=HTML) as client:
        whole = await replay(client, job)
        new = await home.jobs.get(whole.headers["location"].removeprefix("/jobs/"))
        assert new is not None
        assert list(new.results()) == ["photo_analysis", "scope", "estimate"]
        assert new.job_id in (await client.get(f"/jobs/{job.job_id}")).text, "the old one names the new one"
        await home.jobs.cancel(new.job_id, house.NOW_MS)
        again = await replay(client, job, **{"from": "scope"})
        new = await home.jobs.get(again.headers["location"].removeprefix("/jobs/"))
        assert new is not None
        assert list(new.results()) == ["photo_analysis"]
        assert (await replay(client, job, **{"from": "nonsense"})).status_code == 400


async def test_a_job_is_replayed_with_other_input(home: House) -> None:
    job = await done_job(home)
    async with house.client(app(home), headers=HTML) as client:
        answer = await replay(client, job, edit="yes", words="two\r\nlines", contractor="", photos="")
        new = await home.jobs.get(answer.headers["location"].removeprefix("/jobs/"))
        assert new is not None
        assert new.lead == replace(job.lead, text="two\nlines")
        assert new.results() == {}
        assert (await replay(client, job, edit="yes")).status_code == 400, "nothing is other"
    [action] = await home.jobs.actions(new.job_id)
    assert action.detail == f"of {job.job_id} with another text"


async def test_a_job_is_cancelled_once(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    async with house.client(app(home), headers=HTML) as client:
        page = await client.get(f"/jobs/{job.job_id}")
        assert "Another go" not in page.text
        fields = {"form": form_token(page.text)}
        answers = [await client.post(f"/jobs/{job.job_id}/cancel", data=fields, headers=SAME) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 409]
        assert (await replay(client, job)).status_code == 303
        queued = await home.jobs.list(JobFilter(state=JobState.QUEUED))
        assert (await replay(client, queued[0])).status_code == 409 if "form" in page.text else True


@pytest.mark.parametrize("job_id", ["job_0", "%00", "%ED%A0%80", "..%2F..%2Fetc", "a" * 5000])
async def test_an_unknown_job_is_not_there(home: House, job_id: str) -> None:
    async with house.client(app(home), headers=HTML) as client:
        assert (await client.get(f"/jobs/{job_id}")).status_code == 404


async def test_what_a_replay_costs_is_said_for_each_step(home: House) -> None:
    job = await done_job(home)
    async with house.client(app(home), headers=HTML) as client:
        text = (await client.get(f"/jobs/{job.job_id}")).text
    said = dict(re.findall(r'<option value="(\w*)">[^<]*\((\$[\d.]+) expected', text))
    assert said["photo_analysis"] == "$1.2345"
    assert said["scope"] == said["save"] == said[""] == "$0.0000"
