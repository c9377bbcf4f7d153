"""One try of a model call: what it came to, what it tells the breaker, how it is booked and told."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from scopegate.errors import AIError, AIOutputError, AITimeoutError
from scopegate.leads.findings import Broken
from scopegate.limits.attempts import TryFailure
from scopegate.limits.breaker import CallOutcome
from scopegate.limits.pricing import Usage
from scopegate.limits.steps import StepName
from scopegate.worker import tries
from scopegate.worker.call import ModelReply
from scopegate.worker.tries import Bug, Purpose, Try

PURPOSE = Purpose("job-1", "lead-1", "roofers", StepName.SCOPE, 2)
MADE = Try("call-1", 3, 1_800_000_000_999, 1.2345, "ok", Usage(10, 5, 2, 1), 1234, 200, "req_1", "asked-1", "model-1")


def reply(text: str = "7", stop_reason: str = "end_turn") -> ModelReply:
    return ModelReply(text, Usage(10, 5, 0, 0), stop_reason, "req_1", "model-1")


def read(text: str) -> int | Broken:
    return int(text) if text != "broken" else Broken(("schema", "total_sum"))


def test_a_good_answer_is_its_value() -> None:
    assert tries.judge(reply(), read) == 7


def test_an_error_stays_what_it_is() -> None:
    error = AIError("auth", retryable=False)
    assert tries.judge(error, read) is error


@pytest.mark.parametrize(
    ("given", "code", "retryable"),
    [
        (reply(stop_reason="refusal"), "refused", False),
        (reply(stop_reason="max_tokens"), "truncated", True),
        (reply(stop_reason="model_context_window_exceeded"), "truncated", True),
        (reply("broken"), "invalid_output", True),
    ],
)
def test_an_answer_that_cannot_be_used(given: ModelReply, code: str, retryable: bool) -> None:
    found = tries.judge(given, read)
    assert isinstance(found, AIError)
    assert (found.code, found.retryable, found.request_id) == (code, retryable, "req_1")
    assert tries.outcome_word(found) == code


def test_the_broken_rules_are_named() -> None:
    found = tries.judge(reply("broken"), read)
    assert isinstance(found, AIOutputError)
    assert found.rules == ("schema", "total_sum")


def test_a_parser_that_raises_is_our_fault_and_the_answer_is_booked_all_the_same() -> None:
    found = tries.judge(reply("no number"), read)
    assert isinstance(found, Bug)
    assert isinstance(found.error, ValueError)
    assert tries.outcome_word(found) == "invalid_output"


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (reply("broken", "refusal"), CallOutcome.SUCCESS),
        (AIError("overloaded", retryable=True), CallOutcome.FAILURE),
        (AIError("rate_limited", retryable=True), CallOutcome.FAILURE),
        (AITimeoutError("timeout", retryable=True), CallOutcome.FAILURE),
        (AIError("server_error", retryable=True), CallOutcome.FAILURE),
        (AIError("connection", retryable=True), CallOutcome.FAILURE),
        (AIError("auth", retryable=False), CallOutcome.IGNORED),
        (AIError("spend_limit", retryable=False), CallOutcome.IGNORED),
        (AIError("bad_request", retryable=False), CallOutcome.IGNORED),
    ],
)
def test_the_breaker_hears_of_the_apis_health_only(given: ModelReply | AIError, outcome: CallOutcome) -> None:
    assert tries.health(given) is outcome


def test_an_error_as_the_call_plan_sees_it() -> None:
    assert tries.fault(AIError("rate_limited", retryable=True, retry_after_s=7)) == TryFailure(True, 7, answered=False)
    assert tries.fault(AIOutputError("truncated", ())) == TryFailure(True, None, answered=True)


def test_a_row_of_the_ledger_has_all_of_it() -> None:
    row = tries.call_record(PURPOSE, MADE, "2026-11-01")
    assert (row.call_id, row.call_n, row.step, row.step_attempt) == ("call-1", 3, "scope", 2)
    assert (row.job_id, row.lead_id, row.contractor) == ("job-1", "lead-1", "roofers")
    assert (row.model, row.outcome, row.status, row.api_request_id) == ("model-1", "ok", 200, "req_1")
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens) == (10, 5, 2, 1)
    assert (row.duration_ms, row.cost_usd_micros, row.price_version) == (1234, 1234, "2026-11-01")
    assert row.day == "2027-01-15", "the UTC day it was started"


def test_a_try_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    labels = {"model": "asked-1", "step": "scope"}

    def counted(name: str, **more: str) -> float:
        return REGISTRY.get_sample_value(name, labels | more) or 0.0

    before = [
        counted("scopegate_ai_calls_total", outcome="ok"),
        counted("scopegate_ai_cost_usd_total"),
        counted("scopegate_ai_call_seconds_sum"),
        *[counted("scopegate_ai_tokens_total", kind=kind) for kind in ("input", "output", "cache_read", "cache_write")],
    ]
    with caplog.at_level(logging.INFO):
        tries.observe(PURPOSE, MADE)
    after = [
        counted("scopegate_ai_calls_total", outcome="ok"),
        counted("scopegate_ai_cost_usd_total"),
        counted("scopegate_ai_call_seconds_sum"),
        *[counted("scopegate_ai_tokens_total", kind=kind) for kind in ("input", "output", "cache_read", "cache_write")],
    ]
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([1, 0.001234, 1.2345, 10, 5, 2, 1])
    [line] = caplog.records
    assert (line.getMessage(), line.levelname) == ("ai.call", "INFO")


def test_what_failed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tries.observe(PURPOSE, Try("c", 1, 0, 0.1, "overloaded", Usage(0, 0, 0, 0), 0, 529, None, "m", "m"))
    assert [line.levelname for line in caplog.records] == ["WARNING"]
