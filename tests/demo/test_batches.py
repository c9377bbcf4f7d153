"""The simulated Claude's batches, over HTTP as the API has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scopegate.clock import ManualClock
from scopegate.demo.claude import Injected
from tests.simulated import KEY, SimulatedClaude, _running_claude, simulated_claude

__all__ = ["_running_claude", "simulated_claude"]

PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
URL = "/v1/messages/batches"


@pytest.fixture
def api(simulated_claude: SimulatedClaude) -> Iterator[httpx.Client]:
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=simulated_claude.url, headers=headers) as client:
        yield client


def made(api: httpx.Client, *ids: str) -> dict[str, Any]:
    answer = api.post(URL, json={"requests": [{"custom_id": one, "params": PARAMS} for one in ids]})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def results(api: httpx.Client, batch_id: str) -> dict[str, Any]:
    lines = api.get(f"{URL}/{batch_id}/results").text.splitlines()
    return {one["custom_id"]: one["result"] for one in map(json.loads, lines)}


def test_each_request_has_its_result_under_its_id(api: httpx.Client, simulated_claude: SimulatedClaude) -> None:
    batch = made(api, "a", "b", "c")
    assert (batch["processing_status"], batch["request_counts"]["processing"]) == ("in_progress", 3)
    simulated_claude.fail(Injected("expired"), Injected("error", 529))
    found = results(api, batch["id"])
    assert {one: result["type"] for one, result in found.items()} == {"c": "expired", "b": "errored", "a": "succeeded"}
    assert found["a"]["message"]["usage"]["service_tier"] == "batch"
    assert found["b"]["error"]["error"]["type"] == "overloaded_error"
    ended = api.get(f"{URL}/{batch['id']}").json()
    assert ended["processing_status"] == "ended"
    assert ended["request_counts"] == {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 1}


def test_it_takes_as_long_as_it_is_told(api: httpx.Client, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.simulation.clock = clock = ManualClock()
    assert api.post("/_sim/settings", json={"batch_s": 60}).status_code == 200
    batch = made(api, "a")
    assert api.get(f"{URL}/{batch['id']}/results").status_code == 404
    clock.advance(60)
    assert results(api, batch["id"])["a"]["type"] == "succeeded"


def test_a_cancelled_one_answers_nothing_more(api: httpx.Client, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.simulation.batches.lasts_s = 3600
    batch = made(api, "a", "b")
    assert api.post(f"{URL}/{batch['id']}/cancel").json()["processing_status"] == "canceling"
    assert {result["type"] for result in results(api, batch["id"]).values()} == {"canceled"}
    assert simulated_claude.calls == []


def test_they_are_listed_newest_first(api: httpx.Client) -> None:
    ids = [made(api, "a")["id"] for _ in range(3)]
    first = api.get(URL, params={"limit": 2}).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
    rest = api.get(URL, params={"limit": 2, "after_id": first["last_id"]}).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([ids[0]], False)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"requests": [{"custom_id": "a"}]},
        {"requests": [{"custom_id": "a b", "params": PARAMS}]},
        {"requests": [{"custom_id": "a" * 65, "params": PARAMS}]},
        {"requests": [{"custom_id": "a", "params": PARAMS}] * 2},
    ],
)
def test_what_is_no_batch_is_refused(api: httpx.Client, body: Any) -> None:
    assert api.post(URL, json=body).status_code == 400


def test_what_is_no_request_has_an_error_of_its_own(api: httpx.Client) -> None:
    wrong = {"requests": [{"custom_id": "a", "params": {"model": "gpt-4"}}, {"custom_id": "b", "params": PARAMS}]}
    found = results(api, api.post(URL, json=wrong).json()["id"])
    assert (found["a"]["type"], found["b"]["type"]) == ("errored", "succeeded")


@pytest.mark.parametrize("path", ["", "/x", "/x/results"])
def test_strangers_see_nothing(simulated_claude: SimulatedClaude, path: str) -> None:
    assert httpx.get(f"{simulated_claude.url}{URL}{path}").status_code == 401


@pytest.mark.parametrize("path", ["/none", "/none/results"])
def test_one_that_nobody_made(api: httpx.Client, path: str) -> None:
    assert api.get(URL + path).status_code == 404
    assert api.post(f"{URL}/none/cancel").status_code == 404
