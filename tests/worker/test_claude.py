"""The real SDK against the simulated Claude over real sockets: every kind of answer has one name."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from scopegate.demo.claude import Injected
from scopegate.errors import AIError, AIRateLimitError, AITimeoutError
from scopegate.leads import findings
from scopegate.leads.questions import photo_analysis
from scopegate.limits.pricing import Usage
from scopegate.worker.call import ModelRequest
from scopegate.worker.claude import ClaudeCaller
from tests.simulated import KEY, SimulatedClaude, _running_claude, picture, simulated_claude

__all__ = ["_running_claude", "simulated_claude"]


def request(timeout_s: float = 5.0, model: str = "claude-haiku-5-5", max_tokens: int = 2048) -> ModelRequest:
    return ModelRequest(
        model=model,
        system="Describe.",
        text="What is this?",
        schema=findings.schema(photo_analysis.PhotoAnalysis),
        max_tokens=max_tokens,
        timeout_s=timeout_s,
        images=(picture("blue"), picture()),
    )


@pytest.fixture
async def caller(simulated_claude: SimulatedClaude) -> AsyncIterator[ClaudeCaller]:
    made = ClaudeCaller(SecretStr(KEY), simulated_claude.url)
    yield made
    await made.close()


async def failure(caller: ClaudeCaller, asked: ModelRequest) -> AIError:
    with pytest.raises(AIError) as caught:
        await caller.call(asked)
    return caught.value


async def test_an_answer_comes_with_its_bill(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    reply = await caller.call(request())
    (seen,) = simulated_claude.calls
    terms = (("service_tier", "standard"),)
    assert reply.usage == Usage(seen.input_tokens, seen.output_tokens, terms=terms)
    assert reply.usage.output_tokens > 0
    assert (reply.stop_reason, reply.model, reply.api_request_id) == (
        "end_turn",
        "claude-haiku-5-5",
        "req_sim_00000001",
    )
    found = photo_analysis.parse(reply.text, photos=2)
    assert isinstance(found, photo_analysis.PhotoAnalysis)
    assert [damage.kind for damage in found.damages] == ["leaking pipe", "water stain"]
    assert [seen_picture.width_px for seen_picture in seen.pictures] == [96, 96]


async def test_the_bill_stays_below_the_bound(caller: ClaudeCaller) -> None:
    asked = request()
    reply = await caller.call(asked)
    assert reply.usage.prompt_tokens <= asked.input_tokens_upper()


async def test_the_api_counts_the_input_as_it_bills_it(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    counted = await caller.count_input(request())
    assert simulated_claude.requests == 0
    assert (await caller.call(request())).usage.prompt_tokens == counted


async def test_a_count_fails_by_the_names_of_calls(caller: ClaudeCaller) -> None:
    with pytest.raises(AIError) as caught:
        await caller.count_input(request(model="claude-nobody"))
    assert (caught.value.code, caught.value.status) == ("bad_request", 404)


@pytest.mark.parametrize(
    ("said", "terms", "unread"),
    [
        ({"inference_geo": "us", "service_tier": "batch"}, {"inference_geo": "us", "service_tier": "batch"}, ()),
        ({"inference_geo": None, "speed": None, "server_tool_use": {"web_search_requests": 0}}, {}, ()),
        ({"server_tool_use": {"web_search_requests": 2}}, {}, ("server_tool_use",)),
        ({"audio_tokens": 7, "images": [], "video": 0}, {}, ("audio_tokens",)),
        ({"cache_creation": {"ephemeral_24h_input_tokens": 9}}, {}, ("cache_creation_ephemeral_24h_input_tokens",)),
        ({"service_tier": "<b>", "Ünknown": 1}, {"service_tier": "unreadable"}, ("unreadable",)),
        ({"output_tokens_details": {"thinking_tokens": 5}}, {}, ()),
    ],
)
async def test_what_a_bill_says_besides(
    caller: ClaudeCaller,
    simulated_claude: SimulatedClaude,
    said: dict[str, object],
    terms: dict[str, str],
    unread: tuple[str, ...],
) -> None:
    simulated_claude.fail(Injected("usage", usage=said))
    usage = (await caller.call(request())).usage
    assert dict(usage.terms) == {"service_tier": "standard"} | terms
    assert usage.unread == unread


RETRY, NEVER = True, False
BILLED, FREE = True, False


NO_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."


def error(status: int, error_code: str | None = None, message: str = "simulated") -> Injected:
    return Injected("error", status, error_code=error_code, message=message)


ERROR_TABLE: list[tuple[str, Injected, str, type[AIError], int | None, bool, bool]] = [
    ("400", error(400), "bad_request", AIError, 400, NEVER, FREE),
    ("400 image too large", error(400, "image_dimensions_too_large"), "bad_request", AIError, 400, NEVER, FREE),
    ("400 no credit", error(400, message=NO_CREDIT), "spend_limit", AIError, 400, NEVER, FREE),
    ("401", error(401), "auth", AIError, 401, NEVER, FREE),
    ("402", error(402), "spend_limit", AIError, 402, NEVER, FREE),
    ("402 linked", error(402, "linked_organization_spend_limit_reached"), "spend_limit", AIError, 402, NEVER, FREE),
    ("403", error(403), "auth", AIError, 403, NEVER, FREE),
    ("404", error(404), "bad_request", AIError, 404, NEVER, FREE),
    ("408", error(408), "timeout", AITimeoutError, 408, RETRY, FREE),
    ("409", error(409), "server_error", AIError, 409, RETRY, FREE),
    ("412", error(412), "bad_request", AIError, 412, NEVER, FREE),
    ("413", error(413), "bad_request", AIError, 413, NEVER, FREE),
    ("422", error(422), "bad_request", AIError, 422, NEVER, FREE),
    ("429", Injected("error", 429, retry_after="7"), "rate_limited", AIRateLimitError, 429, RETRY, FREE),
    ("429 ramp", error(429, "ramp_limit_exceeded"), "rate_limited", AIRateLimitError, 429, RETRY, FREE),
    ("429 enforced spend", error(429, "enforced_spend_limit_reached"), "spend_limit", AIError, 429, NEVER, FREE),
    ("429 contract spend", error(429, "contract_spend_limit_reached"), "spend_limit", AIError, 429, NEVER, FREE),
    ("431", error(431), "bad_request", AIError, 431, NEVER, FREE),
    ("500", error(500), "server_error", AIError, 500, RETRY, FREE),
    ("501", error(501), "server_error", AIError, 501, RETRY, FREE),
    ("502", error(502), "server_error", AIError, 502, RETRY, FREE),
    ("503", error(503), "server_error", AIError, 503, RETRY, FREE),
    ("504", error(504), "timeout", AITimeoutError, 504, RETRY, FREE),
    ("529", error(529), "overloaded", AIError, 529, RETRY, FREE),
    ("599", error(599), "server_error", AIError, 599, RETRY, FREE),
    ("overloaded in a 200", Injected("error_in_200", type="overloaded_error"), "overloaded", AIError, 529, RETRY, FREE),
    ("429, 200", Injected("error_in_200", type="rate_limit_error"), "rate_limited", AIRateLimitError, 429, RETRY, FREE),
    ("wrong key in a 200", Injected("error_in_200", type="authentication_error"), "auth", AIError, 401, NEVER, FREE),
    ("unknown error in a 200", Injected("error_in_200", type="new_error"), "server_error", AIError, 500, RETRY, FREE),
    ("redirect", Injected("redirect"), "bad_request", AIError, 307, NEVER, FREE),
    ("reset", Injected("reset"), "connection", AIError, None, RETRY, BILLED),
    ("cut body", Injected("cut_body"), "connection", AIError, None, RETRY, BILLED),
    ("too large", Injected("huge"), "connection", AIError, None, RETRY, BILLED),
    ("cut JSON", Injected("cut_json"), "server_error", AIError, 200, RETRY, BILLED),
    ("HTML", Injected("html"), "server_error", AIError, 200, RETRY, BILLED),
    ("no usage", Injected("no_usage"), "server_error", AIError, 200, RETRY, BILLED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "code", "kind", "status", "retryable", "maybe_billed"),
    [row[1:] for row in ERROR_TABLE],
    ids=[row[0] for row in ERROR_TABLE],
)
async def test_error_table(
    caller: ClaudeCaller,
    simulated_claude: SimulatedClaude,
    fault: Injected,
    code: str,
    kind: type[AIError],
    status: int | None,
    retryable: bool,
    maybe_billed: bool,
) -> None:
    simulated_claude.fail(fault)
    error = await failure(caller, request())
    assert (error.code, type(error), error.status) == (code, kind, status)
    assert (error.retryable, error.maybe_billed) == (retryable, maybe_billed)
    assert simulated_claude.requests == 1, "the SDK's own retries are off"
    assert KEY not in str(error)


@pytest.mark.parametrize("fault", [Injected("hang"), Injected("drip", seconds=0.03)], ids=["hang", "drip"])
async def test_the_deadline_is_hard(caller: ClaudeCaller, simulated_claude: SimulatedClaude, fault: Injected) -> None:
    simulated_claude.fail(fault)
    error = await failure(caller, request(timeout_s=0.3))
    assert (type(error), error.code, error.retryable, error.maybe_billed) == (AITimeoutError, "timeout", True, True)


async def test_nobody_listens(caller: ClaudeCaller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    lonely = ClaudeCaller(SecretStr(KEY), f"http://127.0.0.1:{port}")
    error = await failure(lonely, request())
    await lonely.close()
    assert (error.code, error.retryable, error.maybe_billed) == ("connection", True, False)


async def test_a_wrong_key_is_named_and_not_shown(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.simulation.api_key = "another"
    error = await failure(caller, request())
    assert (error.code, error.status, error.retryable) == ("auth", 401, False)
    assert KEY not in repr(error.args)


@pytest.mark.parametrize(
    ("fault", "stop_reason"), [(Injected("refusal"), "refusal"), (Injected("truncated"), "max_tokens")]
)
async def test_an_unusable_answer_keeps_its_bill(
    caller: ClaudeCaller, simulated_claude: SimulatedClaude, fault: Injected, stop_reason: str
) -> None:
    simulated_claude.fail(fault)
    reply = await caller.call(request())
    assert reply.stop_reason == stop_reason
    assert reply.usage.input_tokens > 0


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("7", 7.0),
        ("0.25", 0.25),
        ("4000000", 4_000_000.0),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
    ],
)
async def test_retry_after(
    caller: ClaudeCaller, simulated_claude: SimulatedClaude, retry_after: str, expected: float | None
) -> None:
    simulated_claude.fail(Injected("error", 429, retry_after=retry_after))
    assert (await failure(caller, request())).retry_after_s == expected


async def test_retry_after_as_a_coming_date(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.fail(Injected("error", 529, retry_after="Fri, 31 Dec 9999 23:59:59 GMT"))
    retry_after_s = (await failure(caller, request())).retry_after_s
    assert retry_after_s is not None
    assert retry_after_s > 3600


async def test_cancelling_is_not_an_error(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    simulated_claude.fail(Injected("hang"))
    task = asyncio.create_task(caller.call(request()))
    while simulated_claude.requests == 0:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_at_once(caller: ClaudeCaller, simulated_claude: SimulatedClaude) -> None:
    replies = await asyncio.gather(*(caller.call(request()) for _ in range(20)))
    assert len({reply.api_request_id for reply in replies}) == 20
    assert simulated_claude.requests == 20


async def test_the_library_logs_no_key(
    caller: ClaudeCaller, caplog: pytest.LogCaptureFixture, simulated_claude: SimulatedClaude
) -> None:
    caplog.set_level(logging.DEBUG)
    await caller.call(request())
    assert KEY not in caplog.text


def test_the_documents_have_every_row_of_the_error_table() -> None:
    said = [
        f"| {name} | `{code}` | {'yes' if retryable else 'no'} | {'worst case' if billed else 'nothing'} |"
        for name, _, code, _, _, retryable, billed in ERROR_TABLE
    ]
    lines = (Path(__file__).parents[2] / "docs" / "money.md").read_text("utf-8").splitlines()
    assert [line for line in said if line not in lines] == []
