"""`scopegate jobs`: lists, shows and replays; says clearly what it cannot do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from scopegate.cli.main import main
from scopegate.leads.job import JobState, LeadJob, LeadOrder, OrderRecord, OrderState, Unreadable
from scopegate.stores.database import Database
from scopegate.stores.jobs import SqlJobs
from scopegate.stores.outbox import SqlOutbox
from scopegate.types import Json
from tests.cli.records import HOSTILE, put_job, within

POLICY = """\
version: 1
server: {listen: "127.0.0.1:8080"}
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
tiers: {strict: {limit: 10 per 10s, key: client_ip, on_store_error: local}}
routes:
  - name: submit-lead
    match: POST /api/leads
    tier: strict
    body: {max: 256KiB, types: [application/json]}
    offload: lead-photos
  - {name: everything-else, match: ANY /**, tier: strict}
offloads:
  lead-photos:
    when: {status: [201]}
    lead_id: response.id
    photos: request.photos
    text: request.text
    photo_hosts: ["photos.example"]
    deliver: {url: "http://127.0.0.1:3000/hook", secret: "${SCOPEGATE_WEBHOOK_SECRET}"}
ai:
  model: claude-haiku-5-5
  steps:
    photo_analysis: {timeout: 45s, retries: 3, max_tokens: 2048}
    scope: {timeout: 60s, retries: 3, max_tokens: 4096}
    estimate: {timeout: 60s, retries: 3, max_tokens: 4096}
  breaker: {failures: 5, cooldown: 60s}
  budgets:
    - {name: day, limit: 20 USD per day, when_spent: hold}
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOPEGATE_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def failed(state: Path) -> LeadJob:
    return within(state, partial(put_job, lead_id="lead-1", fails=True))


def test_list_shows_jobs_newest_first(state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    queued = within(state, partial(put_job, lead_id="lead-2", fails=False, at_ms=1_800_000_100_000))
    assert main(["jobs", "list"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["JOB", "STATE", "LEAD", "OFFLOAD", "CREATED", "SCORE", "ERROR"]
    assert first.split() == [queued.job_id, "queued", "lead-2", "lead-photos", "2027-01-15T08:01:40.000Z", "-", "-"]
    assert second.split() == [failed.job_id, "failed", "lead-1", "lead-photos", "2027-01-15T08:00:00.000Z", "-", "auth"]


@pytest.mark.parametrize(
    ("words", "leads"),
    [
        ([], ["lead-2", "lead-1"]),
        (["--state", "failed"], ["lead-1"]),
        (["--state", "done"], []),
        (["--lead", "lead-2"], ["lead-2"]),
        (["--lead", "lead-9"], []),
        (["--limit", "1"], ["lead-2"]),
    ],
)
def test_list_filters(
    state: Path, failed: LeadJob, words: list[str], leads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    within(state, partial(put_job, lead_id="lead-2", fails=False, at_ms=1_800_000_100_000))
    assert main(["jobs", "list", "--json", *words]) == 0
    assert [job["lead_id"] for job in json.loads(capsys.readouterr().out)["jobs"]] == leads
    assert main(["jobs", "list", *words]) == 0
    assert (capsys.readouterr().out == "no jobs\n") is (leads == [])


def test_show_tells_the_whole_story(failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", failed.job_id]) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert ["state", "failed"] in lines
    assert ["error", "auth"] in lines
    assert ["photo_analysis", "done", "1", "done", "2027-01-15T08:00:00.000Z", "1.500", "$0.001234"] in lines
    assert ["scope", "failed", "1", "auth", "2027-01-15T08:00:01.500Z", "0.200", "$0.000000"] in lines
    assert ["estimate", "waiting", "-", "-", "-", "-", "-"] in lines
    assert "1 model calls, $0.001234 in all" in text
    assert "PLANTED" not in text


def test_show_as_json_is_what_the_admin_port_says(failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", failed.job_id, "--json"]) == 0
    out = capsys.readouterr().out
    job = json.loads(out)
    assert [step["state"] for step in job["steps"]] == ["done", "failed", "waiting", "waiting", "waiting"]
    assert job["cost_usd_micros"] == sum(call["cost_usd_micros"] for call in job["calls"]) == 1234
    assert job["steps"][1]["attempts"][0]["error_detail"] == HOSTILE.replace("\x00", "\x00")
    assert out.isascii()
    assert "PLANTED" not in out


def test_a_visitors_words_cannot_move_the_cursor(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    within(state, partial(put_job, lead_id=HOSTILE, fails=False))
    assert main(["jobs", "list"]) == 0
    text = capsys.readouterr().out
    assert "x\\x1b[2J\\x0d\\x0a\\u202eroof" in text
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize("action", ["show", "replay"])
def test_an_unknown_job_is_said(state: Path, failed: LeadJob, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", action, "job_\x1bnone"]) == 1
    assert capsys.readouterr().err == "scopegate: there is no job job_\\x1bnone\n"


# ── no database ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("words", [["jobs", "list"], ["jobs", "show", "x"], ["jobs", "replay", "x"], ["usage"]])
def test_without_a_database_one_line_says_so_and_none_is_made(
    state: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"scopegate: there is no database at {state}/scopegate.db")
    assert said.err.count("\n") == 1
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("words", [["jobs", "list"], ["usage"]])
def test_a_database_out_of_reach_is_one_line(
    state: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:PLANTED@127.0.0.1:1/leads")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("scopegate: the database cannot be used now: connect")
    assert said.count("\n") == 1
    assert "PLANTED" not in said


def test_a_file_that_is_no_database_is_one_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "scopegate.db").write_bytes(b"not a database" * 100)
    assert main(["jobs", "list"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("scopegate: ")
    assert said.count("\n") == 1


def test_a_bad_environment_is_78(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://app@db/leads")
    assert main(["jobs", "list"]) == 78
    assert "DATABASE_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["jobs"], ["jobs", "lost"], ["jobs", "show"], ["jobs", "list", "--state", "x"], ["jobs", "list", "--limit", "0"]],
)
def test_wrong_usage_is_2(state: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage: scopegate jobs" in capsys.readouterr().err


def test_orders_lists_those_that_gave_no_job(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def put(database: Database) -> None:
        outbox = SqlOutbox(database)
        await outbox.put(
            LeadOrder("ord_1", "lead-photos", "submit-lead", "r-1", 1_800_000_000_000, {"text": "PLANTED"})
        )
        await outbox.overdue(1_900_000_000_000)

    within(state, put)
    assert main(["jobs", "orders"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ORDER", "STATE", "OFFLOAD", "ROUTE", "RECEIVED", "STATUS", "REQUEST"]
    assert row.split() == ["ord_1", "unknown", "lead-photos", "submit-lead", "2027-01-15T08:00:00.000Z", "-", "r-1"]
    assert main(["jobs", "orders", "--json"]) == 0
    [order] = json.loads(capsys.readouterr().out)["orders"]
    assert (order["order_id"], order["state"], "request" in order) == ("ord_1", "unknown", False)


def test_no_orders_is_said(state: Path, failed: LeadJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "orders"]) == 0
    assert capsys.readouterr().out == "no open orders\n"


def put_orders(state: Path, *ids: str, request: Json | Unreadable = None) -> None:
    async def put(database: Database) -> None:
        outbox = SqlOutbox(database)
        for name in ids:
            await outbox.put(LeadOrder(name, "lead-photos", "submit-lead", "r-1", 1_800_000_000_000, request))
        await outbox.overdue(1_900_000_000_000)

    within(state, put)


def record(state: Path, order_id: str) -> OrderRecord:
    found = within(state, lambda database: SqlOutbox(database).get(order_id))
    assert found is not None
    return found


@pytest.fixture
def policy_file(tmp_path: Path) -> str:
    path = tmp_path / "gateway.yaml"
    path.write_text(POLICY)
    return str(path)


@pytest.mark.parametrize("lead_id", ["lead-7", "7", 'a`b\\`"c\\', "Ä 💧"])
def test_confirm_makes_the_job_from_the_kept_request(
    state: Path, policy_file: str, lead_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_orders(state, "ord_1", request={"text": "The roof leaks", "photos": ["https://photos.example/1.jpg"]})
    words = ["jobs", "confirm", "ord_1", "--lead", lead_id, "-c", policy_file]
    assert main(words) == 0
    job_id = capsys.readouterr().out.strip()
    job = within(state, lambda database: SqlJobs(database).get(job_id))
    assert job is not None
    assert (job.state, job.lead.lead_id, job.lead.text) == (JobState.QUEUED, lead_id, "The roof leaks")
    assert job.lead.photos == ("https://photos.example/1.jpg",)
    assert (record(state, "ord_1").state, record(state, "ord_1").job_id) == (OrderState.ACCEPTED, job_id)
    assert main(words) == 1
    assert capsys.readouterr().err == f"scopegate: order ord_1 has a job already: {job_id}\n"


@pytest.mark.parametrize(
    ("request_body", "order_id", "lead_id", "said"),
    [
        (None, "ord_1", "x", "order ord_1 gives no lead: neither words nor photos"),
        (Unreadable("why", b"{"), "ord_1", "x", "order ord_1 gives no lead: the request cannot be read: why"),
        ({"text": 5}, "ord_1", "x", "order ord_1 gives no lead: text is not a string"),
        ({"text": "t"}, "ord_1", "", "order ord_1 gives no lead: lead id is empty"),
        ({"text": "t"}, "ord_2", "x", "there is no order ord_2"),
    ],
)
def test_confirm_says_why_it_cannot(
    state: Path,
    policy_file: str,
    request_body: Json | Unreadable,
    order_id: str,
    lead_id: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_orders(state, "ord_1", request=request_body)
    assert main(["jobs", "confirm", order_id, "--lead", lead_id, "-c", policy_file]) == 1
    assert capsys.readouterr().err.startswith(f"scopegate: {said}")
    assert record(state, "ord_1").state is OrderState.UNKNOWN


def test_a_person_reads_what_we_could_not(
    state: Path, policy_file: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    put_orders(state, "ord_1", request=Unreadable("it is not JSON in UTF-8", b"text=The+roof\xff"))
    assert main(["jobs", "body", "ord_1"]) == 0
    said = capsysbinary.readouterr()
    assert (said.out, said.err) == (b"text=The+roof\xff", b"scopegate: it could not be read: it is not JSON in UTF-8\n")
    read = tmp_path / "read.json"
    words = ["jobs", "confirm", "ord_1", "--lead", "7", "-c", policy_file, "--request", str(read)]
    assert main(words) == 1
    assert b"No such file" in capsysbinary.readouterr().err
    read.write_text('{"text": "The roof"}')
    assert main(words) == 0
    job_id = capsysbinary.readouterr().out.decode().strip()
    job = within(state, lambda database: SqlJobs(database).get(job_id))
    assert job is not None
    assert job.lead.text == "The roof"


def test_confirm_does_not_take_an_answer_that_was_not_kept_for_none(
    state: Path, policy_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contractor of the answer: without it the job would leave that contractor's budget."""
    policy = Path(policy_file)
    policy.write_text(policy.read_text().replace("    text: ", "    contractor: response.contractor\n    text: "))
    put_orders(state, "ord_1", request={"text": "The roof leaks"})
    words = ["jobs", "confirm", "ord_1", "--lead", "7", "-c", policy_file]
    assert main(words) == 1
    assert "the response cannot be read: it was not kept (--answer FILE)" in capsys.readouterr().err
    answer = tmp_path / "answer.json"
    answer.write_text('{"contractor": "roofers"}')
    assert main([*words, "--answer", str(answer)]) == 0


def test_all_orders_that_fit_are_discarded_after_it_was_said_how_many(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_orders(state, "ord_1", "ord_2")
    assert main(["jobs", "discard", "--all", "--offload", "another"]) == 0
    assert main(["jobs", "discard", "--all", "--state", "unreadable", "--yes"]) == 0
    assert main(["jobs", "discard", "--all"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "order" in line] == [
        "0 orders would be discarded",
        "0 orders are discarded",
        "2 orders would be discarded",
    ]
    assert record(state, "ord_1").state is OrderState.UNKNOWN
    assert main(["jobs", "discard", "--all", "--yes"]) == 0
    assert {record(state, name).state for name in ("ord_1", "ord_2")} == {OrderState.REFUSED}


def test_discard_closes_an_unknown_order_and_forgets_its_words(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_orders(state, "ord_1", request={"text": "PLANTED"})
    assert main(["jobs", "discard", "ord_1"]) == 0
    assert (record(state, "ord_1").state, record(state, "ord_1").order.request) == (OrderState.REFUSED, None)
    assert main(["jobs", "discard", "ord_1"]) == 1
    assert main(["jobs", "discard", "ord_2"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("scopegate: order ord_1 is refused")
    assert said[1] == "scopegate: there is no order ord_2"
