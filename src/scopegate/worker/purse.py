"""Money for tries: set aside before one is sent, booked when it has ended.

A try's worst case is what is set aside. Where it does not fit, the try is narrowed to a worst case that it still cannot
pass: the API counts its input, and its answer may be no longer than twice the longest that this step has had. What is
only set aside for others is waited for, a while and in order of arrival. Called by `worker/metered`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NoReturn, TypeVar

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import AIBudgetError, AIError, StoreUnavailable
from scopegate.leads.job import SENT
from scopegate.limits.budget import NoRoom, Reservation, accounts
from scopegate.limits.pricing import PriceTable, Usage, worst_case
from scopegate.metrics import catalogue as metrics
from scopegate.policy.policy import AI, WhenSpent
from scopegate.stores.ports import Ledger
from scopegate.tasks import finish
from scopegate.worker.call import BATCH, ModelClient, ModelRequest, input_tokens_bound
from scopegate.worker.tries import Purpose, Try, call_record, observe

log = logs.get("ai")

_RESERVATION_SLACK_S: Final = 60.0
"""A reservation outlives its call's time-out by this: only a dead holder's may expire."""

ROOM_WAIT_S: Final = 30.0
"""How long a call waits for money that is set aside for others; then its job comes again a little later."""
_ROOM_POLL_S: Final = 0.25

_KNOWN_ANSWERS: Final = 10
"""So many answers of a step have to be known before the longest of them says anything."""
_ROOM_TO_GROW: Final = 2
_SHORTEST_LIMIT: Final = 256

_SETTLE_TRIES: Final = 3
_SETTLE_DELAY_S: Final = 0.2

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Batched:
    """A try in a batch: its id is known before, and its money is set aside for as long as a batch may take."""

    call_id: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one try asks, for whom, and the most that it can cost. `whole`: its answer needs all the room that the step
    has, since a shorter one was cut. `batched`: it is asked in a batch, at the price of that tier."""

    purpose: Purpose
    request: ModelRequest
    worst_usd_micros: int
    whole: bool = False
    batched: Batched | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """A try that may be sent: its row in the ledger, and the money set aside for it."""

    wanted: Wanted
    intent: Try
    reservation: Reservation


class Purse:
    """One instance serves any number of concurrent tries. `new_id` names them."""

    def __init__(
        self, client: ModelClient, ledger: Ledger, prices: PriceTable, ai: AI, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._prices = prices
        self._ai = ai
        self._clock = clock
        self._new_id = new_id
        self._turn = asyncio.Lock()

    def want(
        self, purpose: Purpose, request: ModelRequest, *, whole: bool = False, batched: Batched | None = None
    ) -> Wanted:
        """Raises AIError for a model without a price."""
        worst = self._worst(request, request.input_tokens_upper(), batched)
        return Wanted(purpose, request, worst, whole, batched)

    def _worst(self, request: ModelRequest, input_tokens: int, batched: Batched | None) -> int:
        tier = None if batched is None else BATCH
        worst = worst_case(request.model, input_tokens, request.max_tokens, self._prices, tier)
        if worst is None:
            raise AIError("unknown_price", request.model, retryable=False)
        return worst

    # ── before ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def make_room(self, wanted: Wanted, n: int, spent: int) -> Granted:
        """The try as it is about to be sent, booked as such. Raises AIBudgetError, which costs `spent`."""
        async with self._turn:
            reserved = await self._reserve(wanted, n)
            if isinstance(reserved, NoRoom):
                reserved = await self._find_room(wanted, n, reserved)
        if isinstance(reserved, NoRoom):
            self._refuse(wanted, reserved, spent)
        return reserved

    async def _find_room(self, wanted: Wanted, n: int, no_room: NoRoom) -> Granted | NoRoom:
        reserved = await self._wait_for_room(await self._narrowed(wanted), n, no_room)
        cheaper = self._cheaper(wanted, reserved) if isinstance(reserved, NoRoom) else None
        if cheaper is None:
            return reserved
        return await self._wait_for_room(await self._narrowed(cheaper), n, no_room)

    def _cheaper(self, wanted: Wanted, no_room: NoRoom) -> Wanted | None:
        """The same question to the cheaper model, where the budget that is spent says so."""
        model = self._ai.cheaper_model
        if model is None or model == wanted.request.model or not no_room.is_spent:
            return None
        rule = next(rule for rule in self._ai.budgets if rule.name == no_room.account.name)
        if rule.when_spent is not WhenSpent.CHEAPER_MODEL:
            return None
        log.info("ai.cheaper_model", reason=rule.name, model=model, **wanted.purpose.fields())
        request = replace(wanted.request, model=model)
        return self.want(wanted.purpose, request, whole=wanted.whole, batched=wanted.batched)

    async def _wait_for_room(self, wanted: Wanted, n: int, no_room: NoRoom) -> Granted | NoRoom:
        began_s = self._clock.monotonic_s()
        while True:
            reserved = await self._reserve(wanted, n)
            waited_s = self._clock.monotonic_s() - began_s
            if isinstance(reserved, Granted) or reserved.is_spent or waited_s >= ROOM_WAIT_S:
                if waited_s:
                    budget = no_room.account.name
                    log.info(
                        "ai.waited", reason="set_aside", budget=budget, seconds=waited_s, **wanted.purpose.fields()
                    )
                return reserved
            await self._clock.sleep(_ROOM_POLL_S)

    async def _narrowed(self, wanted: Wanted) -> Wanted:
        """The same question with a smaller worst case, as far as one is known."""
        request = (
            wanted.request if wanted.whole else replace(wanted.request, max_tokens=await self._longest_answer(wanted))
        )
        bound = request.input_tokens_upper()
        try:
            bound = min(bound, input_tokens_bound(await self._client.count_input(request)))
        except AIError as error:
            log.warning("ai.not_counted", code=error.code, **wanted.purpose.fields())
        return replace(wanted, request=request, worst_usd_micros=self._worst(request, bound, wanted.batched))

    async def _longest_answer(self, wanted: Wanted) -> int:
        limit = wanted.request.max_tokens
        known, longest = await self._ledger.longest_answer(wanted.purpose.step)
        return limit if known < _KNOWN_ANSWERS else min(limit, max(_SHORTEST_LIMIT, longest * _ROOM_TO_GROW))

    async def _reserve(self, wanted: Wanted, n: int) -> Granted | NoRoom:
        """Book the try as sent, and set its worst case aside in every budget. A caller cancelled meanwhile withdraws
        both before it leaves."""
        intent = self._intent(wanted, n)
        lasts_s = wanted.request.timeout_s if wanted.batched is None else wanted.batched.lasts_s
        expires_ms = intent.started_ms + int((lasts_s + _RESERVATION_SLACK_S) * 1000)
        budgets = accounts(self._ai.budgets, intent.started_ms, wanted.purpose.payer())
        record = call_record(wanted.purpose, intent, self._prices.version)
        reserving = asyncio.ensure_future(self._ledger.reserve(budgets, record, expires_ms))
        try:
            reserved = await asyncio.shield(reserving)
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):  # then it is found lost, at its worst case
                await finish(self._withdraw(reserving))
            raise
        return reserved if isinstance(reserved, NoRoom) else Granted(wanted, intent, reserved)

    def _intent(self, wanted: Wanted, n: int) -> Try:
        return Try(
            call_id=self._new_id() if wanted.batched is None else wanted.batched.call_id,
            n=n,
            started_ms=self._clock.now_ms(),
            duration_s=0.0,
            outcome=SENT,
            usage=Usage(),
            cost_usd_micros=wanted.worst_usd_micros,
            status=None,
            api_request_id=None,
            asked=wanted.request.model,
            model=wanted.request.model,
        )

    def _refuse(self, wanted: Wanted, no_room: NoRoom, spent: int) -> NoReturn:
        account = no_room.account
        metrics.BUDGET_REFUSALS.labels(account.name).inc()
        log.warning(
            "ai.no_budget",
            budget=account.name,
            wanted_usd_micros=wanted.worst_usd_micros,
            is_spent=no_room.is_spent,
            **wanted.purpose.fields(),
        )
        error = AIBudgetError(account.name, account.ends_ms, is_spent=no_room.is_spent)
        error.cost_usd_micros = spent
        raise error

    async def _withdraw(self, reserving: Awaitable[Reservation | NoRoom]) -> None:
        """Nothing was sent."""
        reserved = await reserving
        if isinstance(reserved, Reservation):
            await self._persist(partial(self._ledger.withdraw, reserved), reserved.call_id)

    async def withdraw(self, granted: Granted) -> None:
        """Nothing was sent."""
        await self._persist(partial(self._ledger.withdraw, granted.reservation), granted.reservation.call_id)

    # ── after ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def book(self, granted: Granted, made: Try) -> None:
        """Log line, metrics, ledger. Raises StoreUnavailable when the ledger cannot be written: an answer that is not
        booked is not used, and its reservation expires as spent."""
        observe(granted.wanted.purpose, made)
        record = call_record(granted.wanted.purpose, made, self._prices.version)
        await self._persist(partial(self._ledger.settle, granted.reservation, record), made.call_id)

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
