"""The list of jobs: found by what is known of them, a page at a time, and acted on by a form that asks first."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from scopegate.admin.app import create_admin
from scopegate.admin.console import jobs as jobs_page
from scopegate.leads.job import JobFilter, JobState, LeadJob
from scopegate.policy.policy import WordsShown
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.console.browser import HTML, SAME, Reader, form_token
from tests.admin.test_app import Waker


def app(home: House, words: WordsShown = WordsShown.NOBODY) -> Starlette:
    policy = house.policy()
    shown = replace(policy, admin=replace(policy.admin, lead_words=words))
    return create_admin(replace(home.sources(), policy=lambda: shown, messenger=Waker()), None)


def listed(page: httpx.Response) -> list[str]:
    return re.findall(r'<tr id="row-(job_[0-9a-f]+)"', page.text)


async def made(home: House, count: int = 3) -> list[LeadJob]:
    """Some jobs, of which the last has failed."""
    found = [await house.add_job(home.outbox, f"lead-{n}", f"roofer-{n % 2}") for n in range(count)]
    await house.fail_job(home.jobs, found[-1], "auth", "the key was refused: k42")
    return found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2]),
        ("state=failed", [2]),
        ("state=queued", [0, 1]),
        ("lead=lead-1", [1]),
        ("contractor=roofer-0", [0, 2]),
        ("contractor=roofer-0&state=failed", [2]),
        ("error=auth", [2]),
        ("offload=lead-photos", [0, 1, 2]),
        ("offload=other", []),
        ("request=req-lead-0", [0]),
        ("since=2027-01-15&until=2027-01-15", [0, 1, 2]),
        ("until=2027-01-14", []),
        ("since=2027-01-16", []),
        ("text=K42", [2]),
        ("text=lead-1", [1]),
        ("text=%25", []),
        ("text=roof+leaks", []),
    ],
)
async def test_jobs_are_found_by_what_is_known_of_them(home: House, query: str, found: list[int]) -> None:
    known = await made(home)
    async with house.client(app(home), headers=HTML) as client:
        page = await client.get(f"/jobs?{query}")
    assert sorted(listed(page)) == sorted(known[n].job_id for n in found)


async def test_what_leads_say_is_searched_by_those_who_may_see_it(home: House) -> None:
    job = await house.add_job(home.outbox, "a", text='die Dächer "lecken" 100%')
    await house.add_job(home.outbox, "b", text="dry")
    async with house.client(app(home, WordsShown.OPERATOR), headers=HTML) as client:
        for text in ("Dächer", '"lecken" 100%', "photos.example.com"):
            found = listed(await client.get("/jobs", params={"text": text}))
            assert job.job_id in found, text
        assert len(listed(await client.get("/jobs", params={"text": "Dächer"}))) == 1


@pytest.mark.parametrize(
    "query", ["state=lost", "since=yesterday", "until=9999-12-31", "after=x", "after=1.", "text=%00", "state=a&state=b"]
)
async def test_a_wrong_parameter_is_refused(home: House, query: str) -> None:
    async with house.client(app(home), headers=HTML) as client:
        assert (await client.get(f"/jobs?{query}")).status_code == 400


async def test_pages_follow_one_another_without_a_gap(home: House) -> None:
    jobs = await made(home, jobs_page.PAGE * 2 + 1)
    seen: list[str] = []
    async with house.client(app(home), headers=HTML) as client:
        path = "/jobs?offload=lead-photos"
        while path:
            page = await client.get(path)
            seen += listed(page)
            older = re.search(r'href="([^"]+)" rel="next"', page.text)
            path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == len(jobs)


async def test_a_search_says_where_it_stopped(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scopegate.stores.jobs.MOST_SEARCHED", 2)
    jobs = await made(home, 5)
    order = [job.job_id for job in await home.jobs.list(JobFilter())]
    oldest = next(job for job in jobs if job.job_id == order[-1])
    async with house.client(app(home), headers=HTML) as client:
        path, looked = f"/jobs?text={oldest.lead.lead_id}", 0
        while not listed(page := await client.get(path)):
            assert "has looked through" in page.text
            [older] = re.findall(r'href="([^"]+)" rel="next"', page.text)
            path, looked = older.replace("&amp;", "&"), looked + 1
    assert listed(page) == [oldest.job_id]
    assert looked == 2


async def act(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    token = form_token((await client.get("/jobs")).text)
    return await client.post("/jobs/act", data={"form": token, **fields}, headers=SAME)


async def test_a_bulk_replay_asks_with_count_and_cost_first(home: House) -> None:
    jobs = await made(home)
    await house.book(home.ledger, jobs[2], 1_500_000)
    async with house.client(app(home), headers=HTML) as client:
        asked = await act(client, action="replay", job=[job.job_id for job in jobs])
        said = Reader(asked.text).text
        assert "Replay 1 job?" in said
        assert "Of 3 selected, 1 can be replayed." in said
        assert "$1.5000" in said
        assert (await home.jobs.counts())["queued"] == 2, "nothing has happened yet"
        done = await act(client, action="replay", job=[job.job_id for job in jobs], sure="yes")
        assert done.headers["location"] == "/jobs?did=replay&count=1"
        assert "1 job is replayed." in (await client.get(done.headers["location"])).text
    assert (await home.jobs.counts())["queued"] == 3
    [action] = await home.jobs.actions()
    assert (action.actor, action.name, action.detail) == ("this machine", "replay", f"of {jobs[2].job_id}")


async def test_all_that_fit_the_filter_are_cancelled(home: House) -> None:
    await made(home, 60)
    async with house.client(app(home), headers=HTML) as client:
        asked = await act(client, action="cancel-all", contractor="roofer-0")
        assert "Cancel 30 jobs?" in Reader(asked.text).text
        done = await act(client, action="cancel-all", contractor="roofer-0", sure="yes")
        assert done.headers["location"] == "/jobs?contractor=roofer-0&did=cancel&count=30"
    left = await home.jobs.list(JobFilter(state=JobState.QUEUED, limit=100))
    assert {job.lead.contractor for job in left} == {"roofer-1"}


@pytest.mark.parametrize(
    "fields", [{"action": "replay"}, {"action": "delete", "job": "a"}, {"action": "replay-x", "job": "a"}, {"job": "a"}]
)
async def test_an_action_that_is_none_is_refused(home: House, fields: dict[str, str]) -> None:
    await made(home)
    async with house.client(app(home), headers=HTML) as client:
        assert (await act(client, **fields)).status_code == 400


async def test_a_form_of_somebody_else_does_nothing(home: House) -> None:
    jobs = await made(home)
    async with house.client(app(home), headers=HTML) as client:
        fields = {"form": "0" * 64, "action": "cancel", "job": jobs[0].job_id, "sure": "yes"}
        assert (await client.post("/jobs/act", data=fields, headers=SAME)).status_code == 403
        assert (await client.post("/jobs/act", data=fields)).status_code == 403
    assert (await home.jobs.counts())["queued"] == 2


async def test_an_empty_house_has_a_page(home: House) -> None:
    async with house.client(app(home), headers=HTML) as client:
        assert "No lead has come in yet." in (await client.get("/jobs")).text
        assert "No job fits." in (await client.get("/jobs?state=dead")).text
        assert (await client.get("/")).headers["location"] == "/jobs"


async def test_a_paused_offload_is_told(home: House) -> None:
    await home.jobs.pause("lead-photos", house.NOW_MS, "anna")
    async with house.client(app(home), headers=HTML) as client:
        assert "lead-photos is paused since 2027-01-15" in Reader((await client.get("/jobs")).text).text
