"""The ledger held against a provider's list of single calls. Pure.

Calls meet by the API's request id. One that no row names was answered after its caller had gone: it belongs to the lost
call of its model that began last before it. A lost call that no call is left for was never billed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from scopegate.bills import tokens
from scopegate.bills.statement import BilledCall, Reckoning, Statement, plain_model
from scopegate.bills.tokens import NONE, Correction, Tokens
from scopegate.leads.job import SENT, CallRecord, is_estimate
from scopegate.limits.pricing import PriceTable, price

_CLOCKS_MS: Final = 5_000
"""Two clocks may be apart by this."""
_LONGEST_CALL_MS: Final = 15 * 60_000


def match_calls(statement: Statement, rows: Sequence[CallRecord], table: PriceTable) -> Iterable[Reckoning]:
    """One for each model; of the rows those count that began in the time that the list tells of."""
    ours = [row for row in rows if statement.since_ms - _CLOCKS_MS <= row.started_ms <= statement.until_ms]
    for model in sorted({plain_model(row.model) for row in ours} | {call.model for call in statement.calls}):
        calls = [call for call in statement.calls if call.model == model and any(tokens.billed(call.usage))]
        yield _reckoned(model, calls, [row for row in ours if plain_model(row.model) == model], table)


def _reckoned(model: str, calls: Sequence[BilledCall], rows: Sequence[CallRecord], table: PriceTable) -> Reckoning:
    corrections: list[Correction] = []
    unexplained, reasons = 0, list[str]()
    for call, row in _pairs(calls, rows):
        match _judge(call, row, table):
            case Correction() as correction:
                corrections.append(correction)
            case (of, why):
                unexplained += tokens.worth(model, of, table)
                reasons.append(why)
            case None:
                pass
    booked = sum(row.cost_usd_micros for row in rows if row.outcome != SENT)
    return Reckoning(
        days="",
        model=model,
        calls=len(rows),
        ledger_usd_micros=booked + sum(one.usd_micros for one in corrections),
        provider_usd_micros=sum(price(call.usage, call.model, table) or 0 for call in calls),
        corrections=tuple(corrections),
        unexplained_usd_micros=unexplained,
        reasons=tuple(reasons),
    )


def _pairs(
    calls: Sequence[BilledCall], rows: Sequence[CallRecord]
) -> Iterable[tuple[BilledCall | None, CallRecord | None]]:
    """Each call and each row once."""
    left = {row.call_id: row for row in rows}
    by_id = {row.api_request_id: row for row in rows if row.api_request_id is not None}
    nameless: list[BilledCall] = []
    for call in calls:
        named = by_id.get(call.key[0])
        if named is None:
            nameless.append(call)
        elif left.pop(named.call_id, None) is not None:
            yield call, named
    for call in sorted(nameless, key=lambda call: call.at_ms):
        lost = _lost_before(call, left.values())
        if lost is not None:
            del left[lost.call_id]
        yield call, lost
    for row in left.values():
        yield None, row


def _lost_before(call: BilledCall, rows: Iterable[CallRecord]) -> CallRecord | None:
    lost = [
        row
        for row in rows
        if row.api_request_id is None
        and (row.outcome == SENT or is_estimate(row))
        and row.started_ms - _CLOCKS_MS <= call.at_ms <= row.started_ms + _LONGEST_CALL_MS
    ]
    return max(lost, key=lambda row: row.started_ms, default=None)


def _judge(
    call: BilledCall | None, row: CallRecord | None, table: PriceTable
) -> Correction | tuple[Tokens, str] | None:
    """None where both sides agree; else what can be put right, or so many tokens that nobody explains."""
    billed = NONE if call is None else tokens.billed(call.usage)
    if row is None:
        return billed, f"{_at(call)}: the ledger has no such call"
    if row.outcome == SENT:
        return (billed, f"{row.call_id}: is in flight, ask again later") if any(billed) else None
    if is_estimate(row):
        made = tokens.corrected(row, billed, () if call is None else call.usage.terms, table)
        return made or (billed, f"{_at(call)}: is more than {row.call_id} can have cost")
    booked = tokens.booked(row)
    apart = tokens.positive(tokens.less(max(billed, booked), min(billed, booked)))
    if billed == booked:
        return None
    why = "the provider has no such call" if call is None else f"has other tokens than {call.place}"
    return (apart if any(apart) else billed), f"{row.call_id}: {why}"


def _at(call: BilledCall | None) -> str:
    return "no call" if call is None else call.place
