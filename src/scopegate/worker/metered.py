"""The metered client: drives a CallPlan through breaker, reservation, call, settlement, validation and wait.

Every try that may reach the API is a row in the ledger before it is sent, and its end is written before its answer is
used; a try that was not sent leaves no row. No library of the API is named here, and no answer leaves unvalidated.
Called by the worker's steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, NoReturn, TypeVar, assert_never
from uuid import uuid4

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import AIBudgetError, AICircuitBreakerError, AIError, AIOutputError, StoreUnavailable
from scopegate.leads.findings import Broken
from scopegate.leads.job import SENT
from scopegate.leads.prompts import repair
from scopegate.limits.attempts import Call, CallPlan, GiveUp, Wait
from scopegate.limits.breaker import CallOutcome, Denied, Permit
from scopegate.limits.budget import Account, NoRoom, Reservation, accounts, crossed
from scopegate.limits.pricing import PriceTable, Usage, price, worst_case
from scopegate.limits.steps import StepName
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import AI
from scopegate.stores.ports import BreakerStore, Ledger
from scopegate.worker.call import Image, ModelClient, ModelReply, ModelRequest
from scopegate.worker.tries import Bug, Purpose, Try, call_record, fault, health, judge, observe, outcome_word

__all__ = ["BREAKER", "Completion", "MeteredClaude", "Purpose"]

log = logs.get("ai")

BREAKER: Final = "claude"
"""The breaker's name: one for the API, whatever the step."""

_RESERVATION_SLACK_S: Final = 60.0
"""A reservation outlives its call's time-out by this: only a dead holder's may expire."""

ROOM_WAIT_S: Final = 30.0
"""How long a call waits for money that is set aside for others; then its job comes again a little later."""
_ROOM_POLL_S: Final = 0.25

_SETTLE_TRIES: Final = 3
_SETTLE_DELAY_S: Final = 0.2

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Completion(Generic[T]):
    """A validated finding, the tries it took, and what they were booked at together."""

    value: T
    calls: int
    cost_usd_micros: int


@dataclass(frozen=True, slots=True)
class _Task(Generic[T]):
    """One logical call: what is asked, for whom, how the answer is judged, and the most that one try can cost."""

    purpose: Purpose
    request: ModelRequest
    parse: Callable[[str], T | Broken]
    worst_usd_micros: int


class MeteredClaude:
    """`jitter` gives shares in 0..1; `new_id` names tries. One instance serves any number of concurrent jobs."""

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
    ) -> None:
        self._caller = caller
        self._ledger = ledger
        self._breakers = breakers
        self._prices = prices
        self._ai = ai
        self._clock = clock
        self._jitter = jitter
        self._new_id = new_id
        self._turn = asyncio.Lock()

    def request(
        self, step: StepName, system: str, text: str, schema: Mapping[str, Any], images: Sequence[Image] = ()
    ) -> ModelRequest:
        """A request to the policy's model under the policy's limits for this step."""
        limits = self._ai.steps[step]
        return ModelRequest(self._ai.model, system, text, schema, limits.max_tokens, limits.timeout_s, tuple(images))

    async def run(
        self,
        purpose: Purpose,
        request: ModelRequest,
        parse: Callable[[str], T | Broken],
        *,
        deadline_s: float | None = None,
    ) -> Completion[T]:
        """Ask until an answer passes `parse` or the plan gives up. `deadline_s` is on the clock's monotonic scale.

        Raises AIError (the last try's, with the cost of all tries), AICircuitBreakerError and AIBudgetError when
        nothing may be sent, StoreUnavailable when money cannot be reserved or booked.
        """
        task = _Task(purpose, request, parse, self._worst(request))
        plan, spent = CallPlan(self._ai.steps[purpose.step].retries), 0
        error = AIError("timeout", "no time left for a first try", retryable=True)
        while True:
            left_s = None if deadline_s is None else deadline_s - self._clock.monotonic_s()
            match plan.next(self._jitter(), left_s):
                case Wait(seconds):
                    metrics.AI_RETRIES.labels(purpose.step, error.code).inc()
                    await self._clock.sleep(seconds)
                    plan = plan.after_wait()
                case Call(n):
                    result = await self._try(self._fitted(task, error, left_s), n, spent)
                    if isinstance(result, Completion):
                        return result
                    error, spent = result, result.cost_usd_micros
                    plan = plan.after_fault(fault(error))
                case GiveUp(reason):
                    log.warning("ai.gave_up", reason=reason, code=error.code, tries=plan.tries, **purpose.fields())
                    raise error
                case other:
                    assert_never(other)

    def _worst(self, request: ModelRequest) -> int:
        worst = worst_case(request.model, request.input_tokens_upper(), request.max_tokens, self._prices)
        if worst is None:
            raise AIError("unknown_price", request.model, retryable=False)
        return worst

    def _fitted(self, task: _Task[T], error: AIError, left_s: float | None) -> _Task[T]:
        """The next try: no longer than the time left, and told which rules the last answer broke."""
        request = task.request
        if left_s is not None and left_s < request.timeout_s:
            request = replace(request, timeout_s=left_s)
        if isinstance(error, AIOutputError):
            request = replace(request, text=repair(request.text, error.rules))
        return replace(task, request=request, worst_usd_micros=self._worst(request))

    # ── one try ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _try(self, task: _Task[T], n: int, spent: int) -> Completion[T] | AIError:
        """The finding or why there is none, with what all tries so far were booked at. What stops the whole call is
        raised."""
        permit = await self._admit(spent)
        outcome = CallOutcome.IGNORED
        try:
            intent, reservation = await self._make_room(task, n, spent)
            began_s = self._clock.monotonic_s()
            try:
                reply = await self._call(task.request)
            except BaseException:  # cancelled: nobody knows what it cost, so it is booked at the worst case
                lost = replace(intent, outcome="cancelled", duration_s=self._clock.monotonic_s() - began_s)
                with suppress(StoreUnavailable):  # logged; the reservation expires and counts as spent
                    await _finish(self._book(task, reservation, lost))
                raise
            # No await between the answer and its booking.
            outcome, verdict = health(reply), judge(reply, task.parse)
            made = self._answered(task, intent, reply, outcome_word(verdict), began_s)
            await _finish(self._book(task, reservation, made))
            if isinstance(verdict, Bug):
                raise verdict.error
            if isinstance(verdict, AIError):
                verdict.cost_usd_micros = spent + made.cost_usd_micros
                return verdict
            return Completion(verdict, n, spent + made.cost_usd_micros)
        finally:
            await _finish(self._record(permit, outcome))

    async def _call(self, request: ModelRequest) -> ModelReply | AIError:
        try:
            return await self._caller.call(request)
        except AIError as error:
            return error

    def _intent(self, task: _Task[T], n: int) -> Try:
        return Try(
            call_id=self._new_id(),
            n=n,
            started_ms=self._clock.now_ms(),
            duration_s=0.0,
            outcome=SENT,
            usage=Usage(),
            cost_usd_micros=task.worst_usd_micros,
            status=None,
            api_request_id=None,
            asked=task.request.model,
            model=task.request.model,
        )

    def _answered(self, task: _Task[T], intent: Try, reply: ModelReply | AIError, outcome: str, began_s: float) -> Try:
        made = replace(
            intent,
            outcome=outcome,
            duration_s=self._clock.monotonic_s() - began_s,
            cost_usd_micros=self._cost(task, reply),
        )
        if isinstance(reply, AIError):
            return replace(made, status=reply.status, api_request_id=reply.request_id)
        return replace(made, usage=reply.usage, status=200, api_request_id=reply.api_request_id, model=reply.model)

    def _cost(self, task: _Task[T], reply: ModelReply | AIError) -> int:
        """A reply costs its usage, at the asked model's price when the one that answered has none. An error costs
        nothing when the API refused in its own words or nothing was sent; else the worst case: the request went out
        and no usage came back."""
        if isinstance(reply, AIError):
            return task.worst_usd_micros if reply.maybe_billed else 0
        cost = price(reply.usage, reply.model, self._prices)
        if cost is None:
            log.warning("ai.unpriced_model", model=reply.model, asked=task.request.model)
            cost = price(reply.usage, task.request.model, self._prices)
        assert cost is not None, "the asked model's price was checked before the call"
        return cost

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

    # ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _make_room(self, task: _Task[T], n: int, spent: int) -> tuple[Try, Reservation]:
        """A try as it is about to be sent. What is only set aside is waited for, for a while and in order of arrival: a
        budget is not spent before its money is."""
        async with self._turn:
            until_s = self._clock.monotonic_s() + ROOM_WAIT_S
            while True:
                intent = self._intent(task, n)
                reserved = await self._reserve(task, intent)
                if isinstance(reserved, Reservation):
                    return intent, reserved
                if reserved.is_spent or self._clock.monotonic_s() >= until_s:
                    self._refuse(task, reserved, spent)
                await self._clock.sleep(_ROOM_POLL_S)

    async def _reserve(self, task: _Task[T], intent: Try) -> Reservation | NoRoom:
        """Book the try as sent, and set its worst case aside in every budget. A caller cancelled meanwhile withdraws
        both before it leaves."""
        expires_ms = intent.started_ms + int((task.request.timeout_s + _RESERVATION_SLACK_S) * 1000)
        wanted = accounts(self._ai.budgets, intent.started_ms, task.purpose.contractor)
        record = call_record(task.purpose, intent, self._prices.version)
        reserving = asyncio.ensure_future(self._ledger.reserve(wanted, record, expires_ms))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):  # then it is found lost, at its worst case
                await _finish(self._withdraw(reserving))
            raise

    def _refuse(self, task: _Task[T], no_room: NoRoom, spent: int) -> NoReturn:
        account = no_room.account
        metrics.BUDGET_REFUSALS.labels(account.name).inc()
        worst = task.worst_usd_micros
        log.warning(
            "ai.no_budget",
            budget=account.name,
            wanted_usd_micros=worst,
            is_spent=no_room.is_spent,
            **task.purpose.fields(),
        )
        error = AIBudgetError(account.name, account.ends_ms, is_spent=no_room.is_spent)
        error.cost_usd_micros = spent
        raise error

    async def _withdraw(self, reserving: Awaitable[Reservation | NoRoom]) -> None:
        """Nothing was sent."""
        reserved = await reserving
        if isinstance(reserved, Reservation):
            await self._persist(partial(self._ledger.withdraw, reserved), reserved.call_id)

    async def _book(self, task: _Task[T], reservation: Reservation, made: Try) -> None:
        """Log line, metrics, ledger, thresholds. Raises StoreUnavailable when the ledger cannot be written: an answer
        that is not booked is not used, and its reservation expires as spent."""
        observe(task.purpose, made)
        for account, before, after in await self._settle(task, reservation, made):
            self._tell_thresholds(account, before, after)

    async def _settle(self, task: _Task[T], reservation: Reservation, made: Try) -> Sequence[tuple[Account, int, int]]:
        record = call_record(task.purpose, made, self._prices.version)
        return await self._persist(partial(self._ledger.settle, reservation, record), made.call_id)

    async def _persist(self, write: Callable[[], Awaitable[W]], call_id: str) -> W:
        """Idempotent by the try's id, so a write whose answer was lost may be repeated."""
        for tries_left in reversed(range(_SETTLE_TRIES)):
            try:
                return await write()
            except StoreUnavailable as outage:
                if not tries_left:
                    log.error("ai.unbooked", exc=outage, call_id=call_id)
                    raise
                await self._clock.sleep(_SETTLE_DELAY_S)
        raise AssertionError("unreachable")

    def _tell_thresholds(self, account: Account, before: int, after: int) -> None:
        rule = next(rule for rule in self._ai.budgets if rule.name == account.name)
        for share in crossed(rule.warn_at, account.cap_usd_micros, before, after):
            log.warning(
                "ai.budget_threshold",
                budget=account.name,
                scope=account.scope,
                share=share,
                spent_usd_micros=after,
                limit_usd_micros=account.cap_usd_micros,
            )


async def _finish(work: Awaitable[None]) -> None:
    """Run to the end even when the caller is cancelled meanwhile; the cancellation follows."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as again:
            cancelled = again
        except Exception:  # noqa: S110  # raised below, once, from the task itself
            pass
    if cancelled is not None:
        raise cancelled
    task.result()
