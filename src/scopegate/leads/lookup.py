"""An order that nobody settled: when the app is asked what became of it, and what its answer means.

Pure. The answer to a look-up is read like the app's own answer to the lead. That there is no such lead is believed only
of an old order: of a young one the app may still be at work. Called by `worker/lookups`.
"""

from __future__ import annotations

from typing import Final

from scopegate.leads.intake import read_lead
from scopegate.leads.job import Lead, OrderRecord, OrderState, Settlement, Unreadable
from scopegate.leads.reading import read_body
from scopegate.leads.repeats import kept
from scopegate.policy.policy import Lookup, Offload
from scopegate.types import Json

FIRST_MS: Final = 10_000
"""After its arrival an order may be asked about: a visitor may send it again meanwhile."""
ABSENT_MS: Final = 120_000
"""After its arrival the app is done with a request, one way or another."""
MAX_ASKED: Final = 14
"""Then the order waits for a person."""
_FIRST_PAUSE_MS: Final = 5_000
_LONGEST_PAUSE_MS: Final = 600_000


def pause_ms(asked: int) -> int:
    """How long after the look-up of this number, from 1, the next may be made: 5 s, 10 s, and so on to 10 minutes."""
    return int(min(_FIRST_PAUSE_MS * 2 ** (asked - 1), _LONGEST_PAUSE_MS))


def question(record: OrderRecord) -> dict[str, Json]:
    """What the app is told of the order. `order_id` was in the request's `x-scopegate-order`."""
    order = record.order
    request = None if isinstance(order.request, Unreadable) else order.request
    return {
        "order_id": order.order_id,
        "request_id": order.request_id,
        "offload": order.offload,
        "route": order.route,
        "request": request,
    }


def judge(
    offload: Offload, lookup: Lookup, record: OrderRecord, status: int, body: bytes, coding: str, now_ms: int
) -> Settlement | None:
    """What the app's answer makes of the order; None while nothing is known, and it is asked again."""
    order = record.order
    if status in lookup.found:
        lead = read_lead(offload, order.request, read_body(body, coding=coding))
        answer = kept(status, [b"content-type: application/json\r\n"], body)
        if isinstance(lead, Lead):
            return Settlement(order, OrderState.ACCEPTED, status, lead, answer)
        return Settlement(order, OrderState.UNREADABLE, status, None, answer)
    if status in lookup.absent and now_ms - order.received_ms >= ABSENT_MS:
        return Settlement(order, OrderState.REFUSED, status)
    return None
