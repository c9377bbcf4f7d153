"""Tells that a threshold of a budget is reached: a log line, and a signed webhook where the policy names one.

Who tells one has claimed it for a while; where it was killed in the middle, the next one tells it again, under the same
id (Standard Webhooks: the receiver takes an id once). Runs in every worker process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from scopegate import logs
from scopegate.clock import Clock
from scopegate.errors import DeliveryError, StoreUnavailable
from scopegate.leads.webhook import message
from scopegate.policy.policy import Deliver
from scopegate.stores.ports import Threshold, Thresholds
from scopegate.tasks import first_of
from scopegate.types import Json
from scopegate.worker.deliver import Courier

log = logs.get("ai")

REACHED: Final = "budget.threshold.reached"
LOOK_S: Final = 2.0
_CLAIM_MS: Final = 60_000
_AT_ONCE: Final = 20
_FIRST_DELAY_MS: Final = 10_000
_LONGEST_DELAY_MS: Final = 3_600_000


class Warnings:
    """`to` gives the receiver of the policy in force, None where it names none."""

    def __init__(
        self, thresholds: Thresholds, courier: Courier, to: Callable[[], Deliver | None], clock: Clock
    ) -> None:
        self._thresholds = thresholds
        self._courier = courier
        self._to = to
        self._clock = clock

    async def serve(self, stop: asyncio.Event) -> None:
        """Look every two seconds until `stop` is set. While the database is away there is nothing to tell."""
        for ended in await first_of(self._look_on(), stop.wait()):
            if not ended.cancelled():
                ended.result()

    async def _look_on(self) -> None:
        while True:
            try:
                await self.tell()
            except StoreUnavailable as outage:
                log.warning("ai.budget_thresholds_unread", kind=outage.kind)
            await self._clock.sleep(LOOK_S)

    async def tell(self) -> int:
        """How many were told."""
        now_ms = self._clock.now_ms()
        claimed = await self._thresholds.claim(now_ms, now_ms + _CLAIM_MS, _AT_ONCE)
        return sum([await self._tell(one) for one in claimed])

    async def _tell(self, one: Threshold) -> bool:
        to = self._to()
        if to is not None:
            try:
                await self._courier.deliver(to, message_id(one), self._body(one))
            except DeliveryError as fault:
                now_ms = self._clock.now_ms()
                if fault.retryable and now_ms < one.reached_ms + to.retry_for_s * 1000:
                    await self._thresholds.postpone(one.threshold_id, now_ms + _delay_ms(one.tries, fault))
                    log.warning("ai.budget_threshold_undelivered", code=fault.code, tries=one.tries, **_fields(one))
                    return False
                log.error("ai.budget_threshold_untold", code=fault.code, tries=one.tries, **_fields(one))
        if await self._thresholds.close(one.threshold_id):
            log.warning("ai.budget_threshold", **_fields(one))
        return True

    def _body(self, one: Threshold) -> bytes:
        ends = None if one.ends_ms is None else logs.timestamp(one.ends_ms / 1000)
        data: dict[str, Json] = {**_fields(one), "period_ends": ends}
        return json.dumps(message(REACHED, logs.timestamp(one.reached_ms / 1000), data)).encode()


def message_id(one: Threshold) -> str:
    return f"msg_budget_{one.threshold_id}"


def _fields(one: Threshold) -> dict[str, Any]:
    return {
        "budget": one.name,
        "scope": one.scope,
        "share": one.share,
        "spent_usd_micros": one.spent_usd_micros,
        "limit_usd_micros": one.cap_usd_micros,
    }


def _delay_ms(tries: int, fault: DeliveryError) -> int:
    own_ms = _FIRST_DELAY_MS << min(tries - 1, 20)
    return min(_LONGEST_DELAY_MS, max(own_ms, round((fault.retry_after_s or 0.0) * 1000)))
