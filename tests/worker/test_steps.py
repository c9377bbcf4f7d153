"""What each step makes of what the steps before it stored: photos, messages, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from scopegate.errors import DeliveryError
from scopegate.leads.findings import restore
from scopegate.leads.job import JobState
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.limits.steps import StepName
from scopegate.worker.steps import Work, from_text_alone
from tests.simulated import SimulatedClaude, _running_claude, simulated_claude  # noqa: F401 - fixtures for `home`
from tests.worker.app import Asked, answer
from tests.worker.house import JPEGS, House, house


@pytest.fixture
async def home(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    claude: SimulatedClaude = request.getfixturevalue("simulated_claude")
    async with house(tmp_path, claude) as built:
        yield built


# ── photos ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_lead_without_photos_asks_the_model_for_text_only(home: House) -> None:
    job = await home.walk((await home.order(photos=[])).job_id)
    assert job.state is JobState.DONE
    assert [call.schema for call in home.claude.calls] == ["ScopeOfWork", "Estimate"]
    data = home.app.messages[0]["data"]
    assert (data["outcome"], data["photos"], data["photo_analysis"]["confidence"]) == ("no_photos", [], 0)


async def test_a_bad_photo_is_recorded_and_the_others_go_on(home: House) -> None:
    first, second = home.app.photos(2)
    urls = [
        first,
        f"{home.app.origin}/missing.jpg",
        "https://elsewhere.test/x.jpg",
        first + "?again",
        second,
        "nonsense",
    ]

    async def photo(asked: Asked) -> bytes:
        found = JPEGS.get(asked.target.partition("?")[0])
        return answer(200, found) if found else answer(404)

    home.app.photo = photo
    job = await home.walk((await home.order(photos=urls)).job_id)
    assert job.state is JobState.DONE
    words = [photo["outcome"] for photo in home.app.messages[0]["data"]["photos"]]
    assert words == ["used", "bad_status", "forbidden_host", "duplicate", "used", "bad_url"]
    assert len(home.claude.calls[0].pictures) == 2


async def test_every_photo_of_a_lead_has_an_outcome(home: House) -> None:
    job = await home.walk((await home.order(home.app.photos(25))).job_id)
    photos = home.app.messages[0]["data"]["photos"]
    assert job.state is JobState.DONE
    assert [photo["photo"] for photo in photos] == list(range(1, 26))
    assert Counter(photo["outcome"] for photo in photos) == {"used": 3, "bad_status": 9, "too_many": 13}


async def test_when_no_photo_is_usable_the_text_has_to_do(home: House) -> None:
    async def photo(asked: Asked) -> bytes:
        return answer(200, b"<svg/>")

    home.app.photo = photo
    job = await home.walk((await home.order()).job_id)
    assert job.state is JobState.DONE
    assert home.app.messages[0]["data"]["outcome"] == "no_usable_photos"
    assert {photo["outcome"] for photo in home.app.messages[0]["data"]["photos"]} == {"not_a_picture"}
    assert [call.schema for call in home.claude.calls] == ["ScopeOfWork", "Estimate"]


async def test_a_passing_fault_of_a_photo_is_waited_for(home: House) -> None:
    answers = [answer(503), answer(503)]

    async def photo(asked: Asked) -> bytes:
        return answers.pop() if answers and asked.target.endswith("2.jpg") else answer(200, JPEGS[asked.target])

    home.app.photo = photo
    job = await home.walk((await home.order(home.app.photos(2))).job_id)
    assert (job.state, job.due_ms - home.clock.now_ms(), job.error_code) == (JobState.QUEUED, 2000, "bad_status")
    assert home.claude.requests == 0
    job = await home.walk_to_end(job.job_id)
    analysis = next(step for step in job.steps if step.name is StepName.PHOTO_ANALYSIS)
    assert [attempt.error_code for attempt in analysis.attempts] == ["bad_status", "bad_status", None]
    assert len(home.claude.calls[0].pictures) == 2


async def test_on_the_last_try_the_job_goes_on_with_what_there_is(home: House) -> None:
    async def photo(asked: Asked) -> bytes:
        return answer(503) if asked.target.endswith("2.jpg") else answer(200, JPEGS[asked.target])

    home.app.photo = photo
    job = await home.walk_to_end((await home.order(home.app.photos(2))).job_id)
    assert job.state is JobState.DONE
    assert [photo["outcome"] for photo in home.app.messages[0]["data"]["photos"]] == ["used", "bad_status"]


# ── what is stored ──────────────────────────────────────────────────────────────────────────────────────────────────
async def test_each_step_stores_what_the_next_one_reads(home: House) -> None:
    job = await home.walk((await home.order(home.app.photos(2), text="The roof leaks.")).job_id)
    stored = {name: result for name, result in job.results().items() if isinstance(result, Mapping)}
    assert {name: sorted(result) for name, result in stored.items()} == {
        StepName.PHOTO_ANALYSIS: ["analysis", "outcome", "photos", "prompt"],
        StepName.SCOPE: ["prompt", "scope"],
        StepName.ESTIMATE: ["estimate", "prompt"],
        StepName.SAVE: ["message_id", "status"],
        StepName.SCORE: ["message_id", "parts", "score", "status"],
    }
    sent = home.app.messages[0]["data"]
    for step, kept, name in (
        (StepName.PHOTO_ANALYSIS, "analysis", "photo_analysis"),
        (StepName.SCOPE, "scope", "scope"),
        (StepName.ESTIMATE, "estimate", "estimate"),
    ):
        assert sent[name] == stored[step][kept]
    assert (home.app.messages[1]["data"]["score"], stored[StepName.SAVE]["status"]) == (
        stored[StepName.SCORE]["score"],
        200,
    )


@pytest.mark.parametrize("step", [StepName.SAVE, StepName.SCORE])
async def test_a_message_sent_again_has_the_id_it_had(home: House, step: StepName) -> None:
    job = await home.walk((await home.order(photos=[])).job_id)
    again = await home.steps.perform(Work(job, home.app.offload(), step, attempt_n=2, is_last_try=False))
    assert again == job.results()[step]
    assert home.app.ids.count(f"msg_{job.job_id}_{step}") == 2


async def test_a_message_that_the_app_does_not_take_is_an_error_and_counted(home: House) -> None:
    job = await home.walk((await home.order(photos=[])).job_id)
    labels = {"offload": "lead-photos", "outcome": "rejected"}
    before = REGISTRY.get_sample_value("scopegate_deliveries_total", labels) or 0

    async def refused(asked: Asked) -> bytes:
        return answer(422)

    home.app.hook = refused
    with pytest.raises(DeliveryError, match="rejected"):
        await home.steps.perform(Work(job, home.app.offload(), StepName.SAVE, attempt_n=1, is_last_try=True))
    assert REGISTRY.get_sample_value("scopegate_deliveries_total", labels) == before + 1


def test_from_the_text_alone_nothing_is_claimed() -> None:
    analysis = from_text_alone()
    assert [analysis.photos, analysis.damages, analysis.confidence] == [[], [], Decimal(0)]
    assert restore(PhotoAnalysis, analysis.to_json()) == analysis
