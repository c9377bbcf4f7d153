"""One scrape over real processes' files and a real database; what fails is left out and counted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from scopegate import build
from scopegate.admin.app import create_admin
from scopegate.admin.sources import Sources
from scopegate.errors import StoreUnavailable
from scopegate.metrics import catalogue as metrics
from tests.admin import house
from tests.admin.conftest import House
from tests.admin.test_app import hanging

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def scrape(sources: Sources, accept: str = "") -> str:
    async with house.client(create_admin(sources, None)) as client:
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    return answer.text


def samples(text: str, name: str) -> dict[str, float]:
    """The samples of that name, by their labels' values."""
    found = [sample for family in parse_text(text) for sample in family.samples if sample.name == name]
    return {",".join(sample.labels.values()): sample.value for sample in found}


async def test_the_database_speaks_through_the_scrape(home: House) -> None:
    first = await house.add_job(home.outbox, "a")
    await house.add_job(home.outbox, "b")
    await house.fail_job(home.jobs, first)
    await house.book(home.ledger, first, 1_500_000)
    home.clock.advance(90)
    text = await scrape(home.sources())
    assert samples(text, "scopegate_jobs") == {"queued": 1, "running": 0, "held": 0, "done": 0, "failed": 1, "dead": 0}
    assert samples(text, "scopegate_oldest_due_job_seconds")[""] > 0
    assert samples(text, "scopegate_outbox_orders")["accepted"] == 2
    assert samples(text, "scopegate_retention_behind_seconds") == {"photos": 0, "leads": 0, "orders": 0, "calls": 0}
    assert samples(text, "scopegate_budget_limit_usd") == {"day": 20, "month": 300, "contractor-day": 2}
    assert samples(text, "scopegate_budget_spent_usd") == {"day": 1.5, "month": 1.5}
    assert samples(text, "scopegate_budget_reserved_usd") == {"day": 0, "month": 0}
    [(labels, value)] = samples(text, "scopegate_build_info").items()
    assert build.kind() in labels
    assert value == 1


async def test_nothing_due_is_zero_seconds(home: House) -> None:
    assert samples(await scrape(home.sources()), "scopegate_oldest_due_job_seconds") == {"": 0}


async def test_both_formats_parse_and_name_the_catalogue_only(home: House) -> None:
    plain = {family.name for family in parse_text(await scrape(home.sources()))}
    strict = {family.name for family in parse_openmetrics(await scrape(home.sources(), OPENMETRICS))}
    assert plain == strict
    known = {family.name for family in metrics.catalogue()}
    assert {name for name in plain if name.startswith("scopegate_")} <= known


async def test_a_source_that_fails_is_left_out_and_counted(home: House) -> None:
    class Down:
        async def counts(self) -> None:
            raise StoreUnavailable("connect")

        async def due(self, now_ms: int, limit: int) -> None:
            raise StoreUnavailable("connect")

    before = metrics.SCRAPE_ERRORS.labels("jobs")._value.get()
    text = await scrape(replace(home.sources(), jobs=Down()))  # type: ignore[arg-type]
    assert samples(text, "scopegate_jobs") == {}
    assert samples(text, "scopegate_scrape_errors_total")["jobs"] == before + 1
    assert samples(text, "scopegate_budget_limit_usd") != {}


async def test_a_source_that_hangs_costs_its_own_samples(home: House) -> None:
    class Hung:
        async def count(self, state: object) -> None:
            await hanging()

    text = await scrape(replace(home.sources(), outbox=Hung()))  # type: ignore[arg-type]
    assert samples(text, "scopegate_outbox_orders") == {}
    assert samples(text, "scopegate_jobs") != {}


async def test_files_that_cannot_be_read_fail_the_scrape(home: House, tmp_path: Path) -> None:
    async with house.client(create_admin(replace(home.sources(), metrics_directory=tmp_path / "gone"), None)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 503
    assert answer.json()["code"] == "metrics_unreadable"


WRITER = """
import sys
from pathlib import Path
from scopegate.metrics import exposition
exposition.prepare(Path(sys.argv[1]), sys.argv[2])
from scopegate.metrics import catalogue as metrics
from tests.admin import house
metrics.declare(house.policy(routes=20))
metrics.REQUESTS.labels("read-api", "200").inc(3)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    return house.directory(tmp_path / "metrics")


async def test_several_processes_are_one_text(home: House, processes: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(processes), role], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for role in ("gateway", "gateway", "worker")
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    app = create_admin(replace(home.sources(), metrics_directory=processes), None)
    async with house.client(app) as client:
        text = (await client.get("/metrics")).text
    for process in started:
        process.communicate(b"")
    assert samples(text, "scopegate_requests_total")["read-api,200"] == 9
    assert samples(text, "scopegate_processes") == {"gateway": 2, "worker": 1, "admin": 0}
    assert len(text) < 1_000_000


async def test_budgets_tell_thresholds_and_what_is_expected(home: House) -> None:
    job = await house.add_job(home.outbox, "a")
    await house.book(home.ledger, job, 1_700_000)
    text = await scrape(home.sources())
    assert samples(text, "scopegate_budget_thresholds_reached") == {
        "day,0.8": 0,
        "month,0.8": 0,
        "contractor-day,0.8": 1,
    }
    expected = samples(text, "scopegate_ai_forecast_usd")
    assert set(expected) == {"day", "month"}
    assert expected["day"] > 1.7
