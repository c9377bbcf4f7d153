"""The same question is paid once: its answer is kept for as long as the policy says (`ai.reuse`), and taken again.

The same question is all that the model is asked, byte for byte: words and schema, the visitor's text, every picture as
it is sent, the model. So no answer ever rests on what another visitor wrote. It is never taken across contractors or
offloads: not even that somebody else asked the same is told. Two who ask at once pay once: the second waits for the
first, who says every five seconds that it is still asking. A kept answer is held to the rules again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import StoreUnavailable
from scopegate.leads.findings import Broken
from scopegate.leads.job import REUSED
from scopegate.limits.budget import Reservation
from scopegate.limits.pricing import Usage
from scopegate.stores.ports import Ledger, PaidAnswer, PaidAnswers
from scopegate.tasks import finish, first_of
from scopegate.worker.call import ModelRequest
from scopegate.worker.tries import Completion, Purpose, Try, call_record, observe

log = logs.get("ai")

CLAIM_S: Final = 15.0
"""So long another one waits for a worker that was killed while it asked."""
_RENEW_S: Final = 5.0
_POLL_S: Final = 0.25

T = TypeVar("T")
Parse = Callable[[str], T | Broken]


class Reuse:
    """One instance serves any number of questions at once."""

    def __init__(
        self,
        kept: PaidAnswers,
        ledger: Ledger,
        lifetime_ms: int,
        price_version: str,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._kept = kept
        self._ledger = ledger
        self._lifetime_ms = lifetime_ms
        self._price_version = price_version
        self._clock = clock
        self._new_id = new_id

    async def answer(
        self, key: str, purpose: Purpose, parse: Parse[T], ask: Callable[[Parse[T]], Awaitable[Completion[T]]]
    ) -> Completion[T]:
        """The kept answer, or that of `ask`, which is kept then. Raises what `ask` raises, and StoreUnavailable."""
        began_s, owner = self._clock.monotonic_s(), self._new_id()
        while True:
            now_ms = self._clock.now_ms()
            found = await self._kept.take(key, owner, now_ms, now_ms + round(CLAIM_S * 1000))
            if found is True:
                return await self._ask(key, owner, purpose, parse, ask)
            if isinstance(found, PaidAnswer):
                value = parse(found.text)
                if not isinstance(value, Broken):
                    waited_s = self._clock.monotonic_s() - began_s
                    if waited_s:
                        log.info("ai.waited", reason="asked_already", seconds=waited_s, **purpose.fields())
                    await self._book(purpose, found, waited_s)
                    return Completion(value, 0, 0)
                await self._kept.drop(key)  # the rules have changed since
                continue
            await self._clock.sleep(_POLL_S)

    async def _ask(
        self,
        key: str,
        owner: str,
        purpose: Purpose,
        parse: Parse[T],
        ask: Callable[[Parse[T]], Awaitable[Completion[T]]],
    ) -> Completion[T]:
        texts: list[str] = []

        def remember(text: str) -> T | Broken:
            texts.append(text)
            return parse(text)

        async def asking() -> Completion[T]:
            return await ask(remember)

        try:
            asked, _ = await first_of(asking(), self._hold(key, owner))
            completion: Completion[T] = asked.result()
        except BaseException:
            with suppress(StoreUnavailable):  # then the claim runs out
                await finish(self._kept.drop(key, owner))
            raise
        answer = PaidAnswer(texts[-1], completion.model, completion.cost_usd_micros, purpose.lead_id)
        try:
            await self._kept.keep(key, owner, answer, self._clock.now_ms() + self._lifetime_ms)
        except StoreUnavailable as outage:  # it is paid and booked: the next one pays once more
            log.warning("ai.answer_not_kept", kind=outage.kind, **purpose.fields())
        return completion

    async def _hold(self, key: str, owner: str) -> None:
        while True:
            await self._clock.sleep(_RENEW_S)
            with suppress(StoreUnavailable):
                await self._kept.hold(key, owner, self._clock.now_ms() + round(CLAIM_S * 1000))

    async def _book(self, purpose: Purpose, found: PaidAnswer, seconds: float) -> None:
        """A row that cost nothing, and says what was not paid."""
        made = Try(
            call_id=self._new_id(),
            n=1,
            started_ms=self._clock.now_ms(),
            duration_s=seconds,
            outcome=REUSED,
            usage=Usage(),
            cost_usd_micros=0,
            status=None,
            api_request_id=None,
            asked=found.model or "",
            model=found.model or "",
        )
        record = replace(call_record(purpose, made, self._price_version), saved_usd_micros=found.cost_usd_micros)
        await self._ledger.settle(Reservation(made.call_id, (), 0), record)
        observe(purpose, made)


def question(purpose: Purpose, request: ModelRequest, content: str) -> str:
    """The key of a question. `content` names what its text says, whatever the fence around it is called."""
    parts = [
        purpose.offload,
        purpose.contractor,
        purpose.step,
        request.model,
        request.system,
        content,
        request.schema,
        request.max_tokens,
        [(image.label, image.media_type, hashlib.sha256(image.data).hexdigest()) for image in request.images],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
