"""One try of a model call as values: what it came to, how healthy the API looks, how it is booked and told.

No waiting and no store: `worker/metered` walks the tries and calls these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

from scopegate import logs
from scopegate.errors import AIError, AIOutputError
from scopegate.leads.findings import Broken
from scopegate.leads.job import REUSED, CallRecord
from scopegate.limits.attempts import TryFailure
from scopegate.limits.breaker import CallOutcome
from scopegate.limits.budget import Payer, Per
from scopegate.limits.pricing import Usage
from scopegate.limits.steps import StepName
from scopegate.metrics import catalogue as metrics
from scopegate.metrics.labels import TokenKind
from scopegate.worker.call import ModelReply

log = logs.get("ai")

_PROVIDER_FAILED: Final = frozenset({"rate_limited", "overloaded", "timeout", "server_error", "connection"})
"""Codes that say something about the API's health. The others are about us, our money or the answer."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Purpose:
    """Whom a call is for: written on its ledger row and log line. `step_attempt` is the attempt's number."""

    job_id: str | None
    lead_id: str | None
    contractor: str | None
    step: StepName
    step_attempt: int
    offload: str | None = None

    def payer(self) -> Payer:
        """Whose budgets it is taken from."""
        return {
            Per.CONTRACTOR: self.contractor,
            Per.OFFLOAD: self.offload,
            Per.LEAD: self.lead_id,
            Per.STEP: self.step,
        }

    def fields(self) -> dict[str, object]:
        """For log lines."""
        return {
            "job_id": self.job_id,
            "lead_id": self.lead_id,
            "step": self.step,
            "step_attempt": self.step_attempt,
        }


@dataclass(frozen=True, slots=True)
class Completion(Generic[T]):
    """A validated finding, the tries it took, what they were booked at together, and who answered at last. No tries:
    its answer was kept."""

    value: T
    calls: int
    cost_usd_micros: int
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Try:
    """One try as it is booked. `outcome` is `ok`, an AIError code, or `cancelled`; `asked` is the policy's model,
    `model` the one that answered; tokens are zero when no usage came back, whatever the cost."""

    call_id: str
    n: int
    started_ms: int
    duration_s: float
    outcome: str
    usage: Usage
    cost_usd_micros: int
    status: int | None
    api_request_id: str | None
    asked: str
    model: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A parser that raised. It is our fault, and the answer is still paid: booked first, raised after."""

    error: Exception


def judge(reply: ModelReply | AIError, parse: Callable[[str], T | Broken]) -> T | AIError | Bug:
    """What a try came to. Total, so that every try is booked after it."""
    match reply:
        case AIError():
            return reply
        case ModelReply(stop_reason="refusal"):
            return AIError("refused", "by the model", retryable=False, status=200, request_id=reply.api_request_id)
        case ModelReply(stop_reason="max_tokens" | "model_context_window_exceeded"):
            return AIOutputError("truncated", ("truncated",), request_id=reply.api_request_id)
        case ModelReply():
            return _read(reply, parse)


def _read(reply: ModelReply, parse: Callable[[str], T | Broken]) -> T | AIError | Bug:
    try:
        found = parse(reply.text)
    except Exception as bug:
        return Bug(bug)
    if isinstance(found, Broken):
        return AIOutputError("invalid_output", found.rules, request_id=reply.api_request_id)
    return found


def health(reply: ModelReply | AIError) -> CallOutcome:
    """What a try tells the breaker. An answer of any quality is a working API."""
    if isinstance(reply, ModelReply):
        return CallOutcome.SUCCESS
    return CallOutcome.FAILURE if reply.code in _PROVIDER_FAILED else CallOutcome.IGNORED


def outcome_word(verdict: object) -> str:
    if isinstance(verdict, AIError):
        return verdict.code
    return "invalid_output" if isinstance(verdict, Bug) else "ok"


def fault(error: AIError) -> TryFailure:
    """The error as the call plan sees it."""
    return TryFailure(error.retryable, error.retry_after_s, answered=isinstance(error, AIOutputError))


def observe(purpose: Purpose, made: Try, *, is_timed: bool = True) -> None:
    """One log line and the counters of one try. What a batch takes says nothing about how fast the API answers."""
    usage, step = made.usage, purpose.step
    metrics.AI_CALLS.labels(made.asked, step, made.outcome).inc()
    if is_timed:
        metrics.AI_CALL_SECONDS.labels(made.asked, step).observe(made.duration_s)
    metrics.AI_COST_USD.labels(made.asked, step).inc(made.cost_usd_micros / 1_000_000)
    counts: dict[TokenKind, int] = {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
    }
    for kind, count in counts.items():
        metrics.AI_TOKENS.labels(made.asked, step, kind).inc(count)
    write = log.info if made.outcome in ("ok", REUSED) else log.warning
    write(
        "ai.call",
        code=made.outcome,
        call_id=made.call_id,
        call_n=made.n,
        model=made.model,
        status=made.status,
        api_request_id=made.api_request_id,
        duration_ms=round(made.duration_s * 1000),
        cost_usd_micros=made.cost_usd_micros,
        **{f"{kind}_tokens": count for kind, count in counts.items()},
        **purpose.fields(),
    )


def call_record(purpose: Purpose, made: Try, price_version: str) -> CallRecord:
    usage = made.usage
    return CallRecord(
        call_id=made.call_id,
        job_id=purpose.job_id,
        lead_id=purpose.lead_id,
        contractor=purpose.contractor,
        offload=purpose.offload,
        step=purpose.step,
        step_attempt=purpose.step_attempt,
        call_n=made.n,
        model=made.model,
        started_ms=made.started_ms,
        duration_ms=round(made.duration_s * 1000),
        outcome=made.outcome,
        status=made.status,
        api_request_id=made.api_request_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cost_usd_micros=made.cost_usd_micros,
        price_version=price_version,
        day=datetime.fromtimestamp(made.started_ms // 1000, UTC).strftime("%Y-%m-%d"),
    )
