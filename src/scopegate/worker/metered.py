"""The metered client: drives a CallPlan through breaker, reservation, call, settlement, validation and wait.

Every try that may reach the API is a row in the ledger before it is sent, and its end is written before its answer is
used; a try that was not sent leaves no row. No library of the API is named here, and no answer leaves unvalidated.
Called by the worker's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar, assert_never
from uuid import uuid4

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import AICircuitBreakerError, AIError, AIOutputError, StoreUnavailable
from scopegate.leads.findings import Broken
from scopegate.leads.prompts import repair
from scopegate.limits.attempts import Call, CallPlan, GiveUp, Wait
from scopegate.limits.breaker import CallOutcome, Denied, Permit
from scopegate.limits.pricing import PriceTable
from scopegate.limits.retries import RetryBudget
from scopegate.limits.steps import StepName
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import AI
from scopegate.stores.ports import BreakerStore, Ledger, PaidAnswers
from scopegate.tasks import finish
from scopegate.worker.bill import Bill
from scopegate.worker.call import Image, ModelClient, ModelReply, ModelRequest
from scopegate.worker.purse import Granted, Purse, Wanted
from scopegate.worker.reuse import Reuse, question
from scopegate.worker.tries import Bug, Completion, Purpose, Try, fault, health, judge, outcome_word

__all__ = ["BREAKER", "Completion", "MeteredClaude", "Purpose"]

log = logs.get("ai")

RETRY_PAUSE_S: Final = 15.0
"""When a job comes again that the worker's retry budget had no room for; up to twice as long, not all at once."""

BREAKER: Final = "claude"
"""The breaker's name: one for the API, whatever the step."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Task(Generic[T]):
    """One logical call: what is asked, for whom, and how the answer is judged."""

    purpose: Purpose
    request: ModelRequest
    parse: Callable[[str], T | Broken]


class MeteredClaude:
    """`jitter` gives shares in 0..1; `new_id` names tries; `retry_budget` is one for the whole worker. One instance
    serves any number of concurrent jobs."""

    def __init__(
        self,
        caller: ModelClient,
        ledger: Ledger,
        breakers: BreakerStore,
        prices: PriceTable,
        ai: AI,
        clock: Clock,
        jitter: Callable[[], float],
        new_id: Callable[[], str] = lambda: f"call_{uuid4().hex}",
        retry_budget: RetryBudget | None = None,
        kept: PaidAnswers | None = None,
    ) -> None:
        self._reuse: Reuse | None = None
        if kept is not None and ai.reuse_ms is not None:
            self._reuse = Reuse(kept, ledger, ai.reuse_ms, prices.version, clock, new_id)
        self._retry_budget = retry_budget or RetryBudget()
        self._caller = caller
        self._breakers = breakers
        self._ai = ai
        self._clock = clock
        self._jitter = jitter
        self._purse = Purse(caller, ledger, prices, ai, clock, new_id)
        self._bill = Bill(prices)

    def request(
        self, step: StepName, system: str, text: str, schema: Mapping[str, Any], images: Sequence[Image] = ()
    ) -> ModelRequest:
        """A request to the step's model under the policy's limits for this step."""
        limits = self._ai.steps[step]
        model = self._ai.model_of(step)
        return ModelRequest(model, system, text, schema, limits.max_tokens, limits.timeout_s, tuple(images))

    async def run(
        self,
        purpose: Purpose,
        request: ModelRequest,
        parse: Callable[[str], T | Broken],
        *,
        deadline_s: float | None = None,
        content: str | None = None,
        after: AIOutputError | None = None,
    ) -> Completion[T]:
        """Wanted until an answer passes `parse` or the plan gives up. `deadline_s` is on the clock's monotonic scale.
        `content` names what the request's text says: where the policy reuses answers, the same question is paid once.
        `after`: how an answer out of a batch broke the rules, which counts as this call's first one.

        Raises AIError (the last try's, with the cost of all tries), AICircuitBreakerError and AIBudgetError when
        nothing may be sent, StoreUnavailable when money cannot be reserved or booked.
        """
        ask = partial(self._run, purpose, request, deadline_s=deadline_s, after=after)
        if self._reuse is None or content is None:
            return await ask(parse)
        return await self._reuse.answer(question(purpose, request, content), purpose, parse, ask)

    async def _run(
        self,
        purpose: Purpose,
        request: ModelRequest,
        parse: Callable[[str], T | Broken],
        *,
        deadline_s: float | None,
        after: AIOutputError | None,
    ) -> Completion[T]:
        task = _Task(purpose, request, parse)
        self._retry_budget.called(self._clock.monotonic_s())
        plan, spent = CallPlan(self._ai.steps[purpose.step].retries), 0
        error: AIError = AIError("timeout", "no time left for a first try", retryable=True)
        if after is not None:
            error, plan = after, plan.after_fault(fault(after))
        while True:
            left_s = None if deadline_s is None else deadline_s - self._clock.monotonic_s()
            match plan.next(self._jitter(), left_s):
                case Wait(seconds):
                    self._take_retry(task, error, plan.tries)
                    metrics.AI_RETRIES.labels(purpose.step, error.code).inc()
                    log.info("ai.waiting", reason=error.code, seconds=seconds, call_n=plan.tries, **purpose.fields())
                    await self._clock.sleep(seconds)
                    plan = plan.after_wait()
                case Call(n):
                    result = await self._try(self._fitted(task, error, left_s), task.parse, n, spent)
                    if isinstance(result, Completion):
                        return result
                    error, spent = result, result.cost_usd_micros
                    plan = plan.after_fault(fault(error))
                case GiveUp(reason):
                    log.warning("ai.gave_up", reason=reason, code=error.code, tries=plan.tries, **purpose.fields())
                    raise error
                case other:
                    assert_never(other)

    def _take_retry(self, task: _Task[T], error: AIError, tries: int) -> None:
        """Raises where the worker repeats enough already: the job comes again, and it is nobody's fault. A paid answer
        is always asked for again."""
        if isinstance(error, AIOutputError) or self._retry_budget.take(self._clock.monotonic_s()):
            return
        seconds = RETRY_PAUSE_S * (1 + self._jitter())
        log.warning("ai.no_retries", code=error.code, seconds=seconds, tries=tries, **task.purpose.fields())
        refused = AIError("no_retries", error.code, retryable=True, retry_after_s=seconds)
        refused.cost_usd_micros = error.cost_usd_micros
        raise refused

    def _fitted(self, task: _Task[T], error: AIError, left_s: float | None) -> Wanted:
        """The next try: no longer than the time left, and told which rules the last answer broke."""
        request = task.request
        if left_s is not None and left_s < request.timeout_s:
            request = replace(request, timeout_s=left_s)
        if error.code == "overloaded" and self._ai.cheaper_model is not None:
            log.info("ai.cheaper_model", reason="overloaded", model=self._ai.cheaper_model, **task.purpose.fields())
            request = replace(request, model=self._ai.cheaper_model)
        if isinstance(error, AIOutputError):
            request = replace(request, text=repair(request.text, error.rules))
        return self._purse.want(task.purpose, request, whole=error.code == "truncated")

    # ── one try ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _try(
        self, wanted: Wanted, parse: Callable[[str], T | Broken], n: int, spent: int
    ) -> Completion[T] | AIError:
        """The finding or why there is none, with what all tries so far were booked at. What stops the whole call is
        raised."""
        permit = await self._admit(spent)
        outcome = CallOutcome.IGNORED
        try:
            granted = await self._purse.make_room(wanted, n, spent)
            began_s = self._clock.monotonic_s()
            try:
                reply = await self._call(granted.wanted.request)
            except BaseException:  # cancelled: nobody knows what it cost, so it is booked at the worst case
                lost = replace(granted.intent, outcome="cancelled", duration_s=self._clock.monotonic_s() - began_s)
                with suppress(StoreUnavailable):  # logged; the reservation expires and counts as spent
                    await finish(self._purse.book(granted, lost))
                raise
            # No await between the answer and its booking.
            outcome, verdict = health(reply), judge(reply, parse)
            made = self._answered(granted, reply, outcome_word(verdict), began_s)
            await finish(self._purse.book(granted, made))
            if isinstance(verdict, Bug):
                raise verdict.error
            if isinstance(verdict, AIError):
                verdict.cost_usd_micros = spent + made.cost_usd_micros
                return verdict
            return Completion(verdict, n, spent + made.cost_usd_micros, made.model)
        finally:
            await finish(self._record(permit, outcome))

    async def _call(self, request: ModelRequest) -> ModelReply | AIError:
        try:
            return await self._caller.call(request)
        except AIError as error:
            return error

    def _answered(self, granted: Granted, reply: ModelReply | AIError, outcome: str, began_s: float) -> Try:
        made = replace(
            granted.intent,
            outcome=outcome,
            duration_s=self._clock.monotonic_s() - began_s,
            cost_usd_micros=self._bill.cost(reply, granted.wanted.request.model, granted.wanted.worst_usd_micros),
        )
        if isinstance(reply, AIError):
            return replace(made, status=reply.status, api_request_id=reply.request_id)
        return replace(made, usage=reply.usage, status=200, api_request_id=reply.api_request_id, model=reply.model)

    # ── breaker ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _admit(self, spent: int) -> Permit | None:
        """Leave to call; None while the breaker's store is unusable: an outage of Redis must not become one of the
        API, and each call is still bounded by its plan."""
        try:
            admitted = await self._breakers.admit(BREAKER, self._ai.breaker)
        except StoreUnavailable as outage:
            log.warning("ai.breaker_unavailable", kind=outage.kind)
            return None
        match admitted:
            case Permit(probe=probe):
                metrics.BREAKER_OPEN.labels(BREAKER).set(0.5 if probe else 0)
                return admitted
            case Denied(retry_after_s):
                metrics.BREAKER_OPEN.labels(BREAKER).set(1)
                error = AICircuitBreakerError("breaker_open", retryable=True, retry_after_s=retry_after_s)
                error.cost_usd_micros = spent
                raise error
            case never:
                assert_never(never)

    async def _record(self, permit: Permit | None, outcome: CallOutcome) -> None:
        if permit is None:
            return
        try:
            await self._breakers.record(BREAKER, self._ai.breaker, permit, outcome)
            if permit.probe or outcome is CallOutcome.FAILURE:
                state = await self._breakers.state(BREAKER, self._ai.breaker)
                metrics.BREAKER_OPEN.labels(BREAKER).set({"closed": 0, "half_open": 0.5}.get(state, 1))
        except StoreUnavailable as outage:
            log.warning("ai.breaker_unavailable", kind=outage.kind)
