"""The simulated Claude by itself, over a real socket and without the SDK: checks, answers, faults, own endpoints."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from scopegate.demo.claude import FAULTS, Injected
from scopegate.leads import findings, prompts
from scopegate.leads.findings import Broken, Finding
from scopegate.leads.questions import estimate as estimating
from scopegate.leads.questions import photo_analysis
from scopegate.leads.questions import scope as scoping
from scopegate.leads.questions.estimate import Estimate
from scopegate.leads.questions.photo_analysis import PhotoAnalysis
from scopegate.leads.questions.scope import ScopeOfWork
from scopegate.worker.call import Image
from tests.simulated import KEY, SimulatedClaude, _running_claude, picture, simulated_claude

__all__ = ["_running_claude", "simulated_claude"]

NONCE = "0" * 32
VERSION = {"anthropic-version": "2026-10-21"}
SIGHTS = {
    "black": ((20, 20, 20), "scorched surface"),
    "grey": ((128, 128, 128), "worn shingles"),
    "white": ((240, 240, 240), "cracked plaster"),
    "red": ((180, 50, 40), "broken brickwork"),
    "brown": ((120, 80, 45), "water stain"),
    "yellow": ((220, 200, 80), "wet insulation"),
    "green": ((70, 130, 70), "mould growth"),
    "blue": ((60, 100, 180), "leaking pipe"),
}


@pytest.fixture
def api(simulated_claude: SimulatedClaude) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulated_claude.url, headers={**VERSION, "x-api-key": KEY}, timeout=5) as client:
        yield client


def block(image: Image) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": data}}


def body(text: str = "Hello", *images: Image, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    content = [*map(block, images), {"type": "text", "text": text}]
    asked: dict[str, Any] = {
        "model": "claude-haiku-5-5",
        "max_tokens": 2048,
        "system": "Answer.",
        "messages": [{"role": "user", "content": content}],
    }
    if schema is not None:
        asked["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return asked | more


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["content"][0]["text"])


def ask(api: httpx.Client, prompt: prompts.Prompt, shape: type[Finding], *images: Image) -> str:
    asked = body(prompt.text, *images, schema=findings.schema(shape), system=prompt.system)
    return said(api.post("/v1/messages", json=asked))


# ── what it says ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_says_what_it_is(api: httpx.Client) -> None:
    home = api.get("/")
    assert home.json()["simulated"] is True
    assert home.json()["faults"] == FAULTS
    assert home.headers["x-simulated-claude"] == "1"
    assert api.post("/v1/messages", json=body()).headers["x-simulated-claude"] == "1"


def test_a_message_has_the_shape_of_the_api(api: httpx.Client) -> None:
    response = api.post("/v1/messages", json=body())
    message = response.json()
    assert (message["type"], message["role"], message["model"], message["stop_reason"]) == (
        "message", "assistant", "claude-haiku-5-5", "end_turn",
    )  # fmt: skip
    assert message["usage"]["input_tokens"] > 0
    assert message["usage"]["output_tokens"] > 0
    assert response.headers["request-id"].startswith("req_sim_")
    assert int(response.headers["anthropic-ratelimit-requests-remaining"]) > 0


@pytest.mark.parametrize("colour", SIGHTS)
def test_it_looks_at_the_pictures(api: httpx.Client, colour: str) -> None:
    rgb, kind = SIGHTS[colour]
    images = [picture(rgb, (120, 80)), picture(SIGHTS["blue"][0], (33, 44))]
    prompt = photo_analysis.prompt("Please look.", 2, NONCE)
    analysis = photo_analysis.parse(ask(api, prompt, PhotoAnalysis, *images), photos=2)
    assert isinstance(analysis, PhotoAnalysis)
    assert analysis.damages[0].kind == kind
    assert "120 by 80" in analysis.photos[0].shows
    assert "33 by 44" in analysis.photos[1].shows


def test_the_whole_way_of_a_lead(api: httpx.Client) -> None:
    """Three steps, each fed with the one before, every answer valid by every rule."""
    images = [picture(rgb, (64 + n, 48)) for n, (rgb, _) in enumerate(SIGHTS.values())]
    first = ask(api, photo_analysis.prompt("Storm.", len(images), NONCE), PhotoAnalysis, *images)
    analysis = photo_analysis.parse(first, photos=len(images))
    assert isinstance(analysis, PhotoAnalysis)
    scope = scoping.parse(ask(api, scoping.prompt("Storm.", analysis, NONCE), ScopeOfWork))
    assert isinstance(scope, ScopeOfWork)
    assert len(scope.items) == len(analysis.damages) + 1
    estimate = estimating.parse(ask(api, estimating.prompt(scope, NONCE), Estimate), scope)
    assert isinstance(estimate, Estimate)
    assert estimate.total_cents > 0


def test_a_lead_without_photos(api: httpx.Client) -> None:
    analysis = photo_analysis.parse(ask(api, photo_analysis.prompt("x", 0, NONCE), PhotoAnalysis), photos=0)
    assert isinstance(analysis, PhotoAnalysis)
    scope = scoping.parse(ask(api, scoping.prompt("x", analysis, NONCE), ScopeOfWork))
    assert isinstance(scope, ScopeOfWork)


def test_the_same_question_has_the_same_answer(api: httpx.Client) -> None:
    asked = body("Look.", picture(), schema=findings.schema(PhotoAnalysis))
    answers = {said(api.post("/v1/messages", json=asked)) for _ in range(3)}
    other = said(api.post("/v1/messages", json=body("Look.", picture("blue"), schema=findings.schema(PhotoAnalysis))))
    assert len(answers) == 1
    assert other not in answers


def test_any_schema_is_answered_by_its_own_rules(api: httpx.Client) -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/Kind"},
            "b": {"type": "array", "items": {"type": "integer"}},
            "c": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "d": {"const": "fixed"},
            "e": {"type": "boolean"},
            "f": {"type": "string"},
            "g": {"type": "array"},
        },
        "$defs": {"Kind": {"enum": ["one", "two"]}},
    }
    answer = json.loads(said(api.post("/v1/messages", json=body(schema=schema))))
    assert answer == {"a": "one", "b": [1], "c": None, "d": "fixed", "e": True, "f": "simulated", "g": []}


def test_more_words_than_max_tokens_are_cut(api: httpx.Client) -> None:
    asked = body("Look.", picture(), schema=findings.schema(PhotoAnalysis), max_tokens=5)
    message = api.post("/v1/messages", json=asked).json()
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] <= 5


# ── what it refuses ─────────────────────────────────────────────────────────────────────────────────────────────────

NOT_A_PICTURE = Image("image/jpeg", b"\xff\xd8\xff not really", 1, 1, "Photo 1")
WRONG_TYPE = Image("image/png", picture().data, 96, 64, "Photo 1")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (body(model="gpt-4"), 404),
        (body(model=""), 404),
        (body(max_tokens=0), 400),
        (body(max_tokens="many"), 400),
        (body(messages=[]), 400),
        (body(messages=[{"role": "user"}]), 400),
        (body(messages="hello"), 400),
        ({}, 400),
        ([], 400),
        (body("x", NOT_A_PICTURE), 400),
        (body("x", WRONG_TYPE), 400),
        (body("x", output_config=7), 400),
        (body(messages=[{"role": "user", "content": [{"type": "image", "source": {"data": "%%"}}]}]), 400),
    ],
)
def test_a_wrong_request_is_refused(api: httpx.Client, asked: Any, status: int) -> None:
    response = api.post("/v1/messages", json=asked)
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.headers["request-id"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({**VERSION}, 401),
        ({**VERSION, "x-api-key": "wrong"}, 401),
        ({**VERSION, "authorization": "Bearer wrong"}, 401),
        ({**VERSION, "authorization": f"Bearer {KEY}"}, 200),
        ({"x-api-key": KEY}, 400),
    ],
)
def test_key_and_version(simulated_claude: SimulatedClaude, headers: dict[str, str], status: int) -> None:
    response = httpx.post(f"{simulated_claude.url}/v1/messages", json=body(), headers=headers)
    assert response.status_code == status
    assert response.json()["type"] == ("message" if status == 200 else "error")


def test_not_json(api: httpx.Client) -> None:
    assert api.post("/v1/messages", content=b"{").status_code == 400


def test_plain_text_content_is_taken(api: httpx.Client) -> None:
    assert said(api.post("/v1/messages", json=body(messages=[{"role": "user", "content": "Hi"}]))).startswith("I see 0")


# ── its own endpoints ───────────────────────────────────────────────────────────────────────────────────────────────


def test_faults_come_in_the_order_asked(api: httpx.Client) -> None:
    wanted = [
        {"kind": "error", "status": 429, "retry_after": "3"},
        {"kind": "none"},
        {"kind": "error", "status": 529, "error_code": "compaction_unavailable"},
    ]
    assert api.post("/_sim/faults", json=wanted).json() == {"queued": 3}
    answers = [api.post("/v1/messages", json=body()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [429, 200, 529, 200]
    assert answers[0].headers["retry-after"] == "3"
    assert answers[2].json()["error"]["details"] == {"error_code": "compaction_unavailable"}


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        3,
        [{"kind": "explode"}],
        [{"status": 500}],
        [{"kind": "error", "colour": "red"}],
        ["error"],
        [{"kind": "error", "status": "500"}],
    ],
)
def test_a_wrong_order_is_refused(api: httpx.Client, wanted: Any) -> None:
    assert api.post("/_sim/faults", json=wanted).status_code == 400
    assert api.get("/_sim/calls").json()["faults_left"] == 0


def test_calls_are_counted_and_listed_without_secrets(api: httpx.Client, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.fail(Injected("error", 500))
    api.post("/v1/messages", json=body("secret words", picture()))
    api.post("/v1/messages", json=body(schema=findings.schema(Estimate)))
    api.post("/v1/messages", json=body(), headers={"x-api-key": "wrong"})
    seen = api.get("/_sim/calls")
    assert seen.json()["requests"] == 3
    assert [(call["fault"], call["status"], call["schema"]) for call in seen.json()["calls"]] == [
        ("error", 500, ""),
        ("none", 200, "Estimate"),
    ]
    assert seen.json()["calls"][0]["pictures"][0]["colours"][0] == "brown"
    assert KEY not in seen.text
    assert "secret words" not in seen.text
    assert api.post("/_sim/reset").json() == {"requests": 0}
    empty = api.get("/_sim/calls").json()
    assert {name: empty[name] for name in ("requests", "faults_left", "calls")} == {
        "requests": 0,
        "faults_left": 0,
        "calls": [],
    }
    assert seen.json()["until_ms"] <= empty["since_ms"] <= empty["until_ms"], "the list tells of the time since then"
    assert all(seen.json()["since_ms"] <= call["at_ms"] <= seen.json()["until_ms"] for call in seen.json()["calls"])


def test_the_key_can_be_broken_and_restored(api: httpx.Client) -> None:
    settings = {"latency_s": 0.0, "batch_s": 0.0, "api_key_required": True}
    assert api.post("/_sim/settings", json={"api_key": "other"}).json() == settings
    assert api.post("/v1/messages", json=body()).status_code == 401
    assert api.post("/_sim/settings", json={"api_key": None}).status_code == 200
    assert api.post("/v1/messages", json=body(), headers={"x-api-key": "anything"}).status_code == 200


@pytest.mark.parametrize(
    "wanted", [3, {"latency_s": -1}, {"latency_s": "x"}, {"batch_s": -1}, {"api_key": 5}, {"speed": 1}, "x"]
)
def test_wrong_settings_are_refused(api: httpx.Client, wanted: Any) -> None:
    assert api.post("/_sim/settings", json=wanted).status_code == 400


def test_latency(api: httpx.Client) -> None:
    api.post("/_sim/settings", json={"latency_s": 0.2})
    response = api.post("/v1/messages", json=body())
    assert response.elapsed.total_seconds() >= 0.2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Injected("reset"), httpx.TransportError),
        (Injected("cut_body"), httpx.RemoteProtocolError),
        (Injected("hang"), httpx.ReadTimeout),
    ],
)
def test_faults_of_the_connection(
    api: httpx.Client, simulated_claude: SimulatedClaude, fault: Injected, error: type[Exception]
) -> None:
    simulated_claude.fail(fault)
    with pytest.raises(error):
        api.post("/v1/messages", json=body(), timeout=0.3)
    assert api.post("/v1/messages", json=body()).status_code == 200, "only the one call is spoiled"


def test_a_reset_is_a_reset(simulated_claude: SimulatedClaude) -> None:
    simulated_claude.fail(Injected("reset"))
    content = json.dumps(body()).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nanthropic-version: 1\r\n"
    host, port = simulated_claude.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        with pytest.raises(ConnectionResetError):
            wire.recv(1)


@pytest.mark.parametrize("kind", ["html", "cut_json", "no_usage", "wrong_schema", "refusal", "truncated", "drip"])
def test_faults_of_the_answer_have_status_200(api: httpx.Client, simulated_claude: SimulatedClaude, kind: str) -> None:
    simulated_claude.fail(Injected(kind, seconds=0.0))
    response = api.post("/v1/messages", json=body("Look.", picture(), schema=findings.schema(PhotoAnalysis)))
    assert response.status_code == 200
    good = kind == "drip"
    try:
        text = response.json()["content"][0]["text"]
        whole = "usage" in response.json()
    except (ValueError, IndexError):
        text, whole = "", False
    assert (whole and not isinstance(photo_analysis.parse(text, photos=1), Broken)) is good


def test_an_error_inside_a_200(api: httpx.Client, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.fail(Injected("error_in_200"))
    response = api.post("/v1/messages", json=body())
    assert (response.status_code, response.json()["error"]["type"]) == (200, "overloaded_error")


def test_it_runs_alone() -> None:
    command = [sys.executable, "-m", "scopegate.demo.claude", "--port", "0", "--api-key", "k"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            started = json.loads(process.stdout.readline())
            assert started["simulated"] == "claude"
            response = httpx.post(
                f"{started['url']}/v1/messages", json=body(), headers={**VERSION, "x-api-key": "k"}, timeout=10
            )
            assert response.status_code == 200
        finally:
            process.terminate()
        assert process.wait(10) in (0, -15)
        assert process.stderr.read() == ""
