"""The ledger held against an export of whole days: what agrees, what can be put right, what nobody can explain.

Pure. Tokens are compared, never rounded dollars: the same tokens at the same price are the same money. A call whose
cost nobody learnt stands in the ledger at its worst case; what the export has besides the known calls is its share.
Nothing is put right in a group that does not come out even.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction

from scopegate.bills import tokens
from scopegate.bills.statement import BilledCost, BilledUsage, Reckoning, Statement, plain_model
from scopegate.bills.tokens import Correction, Tokens
from scopegate.leads.job import SENT, CallRecord, is_estimate
from scopegate.limits.pricing import ModelPrice, PriceTable, price

_DAY_MS = 86_400_000
_AT_MIDNIGHT_MS = 60_000
"""A call that began so shortly before a UTC day's end may have been billed on the next."""


@dataclass(slots=True)
class _Group:
    """What both sides say of one model on some days."""

    days: list[str]
    model: str
    rows: list[CallRecord]
    usages: list[BilledUsage]
    costs: list[BilledCost]

    def known(self) -> list[CallRecord]:
        return [row for row in self.rows if row.outcome != SENT and not is_estimate(row)]

    def estimates(self) -> list[CallRecord]:
        return [row for row in self.rows if row.outcome != SENT and is_estimate(row)]

    def in_flight(self) -> int:
        return sum(row.outcome == SENT for row in self.rows)

    def span(self) -> str:
        return self.days[0] if len(self.days) == 1 else f"{self.days[0]}..{self.days[-1]}"


@dataclass(frozen=True, slots=True)
class _Verdict:
    corrections: tuple[Correction, ...] = ()
    unexplained_usd_micros: int = 0
    reasons: tuple[str, ...] = ()


def match_days(statement: Statement, rows: Sequence[CallRecord], table: PriceTable) -> Iterable[Reckoning]:
    """One for each model and the days that belong together; `rows` are the ledger's calls."""
    for group in _groups(statement, rows):
        verdict = _by_cost(group) if statement.costs else _by_usage(group, table)
        yield _reckoned(group, verdict, table)


# ── days and models ─────────────────────────────────────────────────────────────────────────────────────────────────


def _groups(statement: Statement, rows: Sequence[CallRecord]) -> list[_Group]:
    """By model and day; days are taken together where a call may have been billed on the one or the other."""
    by_model: dict[str, dict[str, _Group]] = defaultdict(dict)

    def of(model: str, day: str) -> _Group:
        return by_model[model].setdefault(day, _Group([day], model, [], [], []))

    for row in rows:
        if row.day in statement.days:
            of(plain_model(row.model), row.day).rows.append(row)
    for usage in statement.usages:
        of(usage.model, usage.day).usages.append(usage)
    for cost in statement.costs:
        of(cost.model, cost.day).costs.append(cost)
    return [group for _, days in sorted(by_model.items()) for group in _joined(days)]


def _joined(days: Mapping[str, _Group]) -> Iterable[_Group]:
    current: _Group | None = None
    for day, group in sorted(days.items()):
        if current is not None and _follows(day, current.days[-1]) and any(map(_meets_midnight, current.rows)):
            current.days.append(day)
            current.rows += group.rows
            current.usages += group.usages
            current.costs += group.costs
            continue
        if current is not None:
            yield current
        current = group
    if current is not None:
        yield current


def _follows(day: str, other: str) -> bool:
    return date.fromisoformat(other) + timedelta(days=1) == date.fromisoformat(day)


def _meets_midnight(row: CallRecord) -> bool:
    return row.started_ms % _DAY_MS + row.duration_ms + _AT_MIDNIGHT_MS >= _DAY_MS


def _reckoned(group: _Group, verdict: _Verdict, table: PriceTable) -> Reckoning:
    booked = sum(row.cost_usd_micros for row in group.rows if row.outcome != SENT)
    billed = (
        _cost_of(group.usages, table) if group.usages else _up(sum((c.usd_micros for c in group.costs), Fraction()))
    )
    return Reckoning(
        days=group.span(),
        model=group.model,
        calls=len(group.rows),
        ledger_usd_micros=booked + sum(one.usd_micros for one in verdict.corrections),
        provider_usd_micros=billed,
        corrections=verdict.corrections,
        unexplained_usd_micros=verdict.unexplained_usd_micros,
        reasons=verdict.reasons,
    )


def _up(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


# ── by tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_usage(group: _Group, table: PriceTable) -> _Verdict:
    known, estimates = group.known(), group.estimates()
    booked = tokens.total(map(tokens.booked, known))
    rest = tokens.less(tokens.total(tokens.billed(line.usage) for line in group.usages), booked)
    surplus = tokens.positive(tokens.less(tokens.NONE, rest))
    if any(surplus):
        return _open(group, surplus, table, f"the ledger has {tokens.said(surplus)} that the provider has not")
    if group.in_flight() and (any(rest) or estimates):
        return _open(group, rest, table, f"{group.in_flight()} calls are in flight: ask again later")
    if any(rest) and not estimates:
        return _open(group, rest, table, f"the provider billed {tokens.said(rest)} that the ledger has not")
    corrections = _shared_out(estimates, rest, _terms_of(group.usages), table)
    if corrections is None:
        return _open(group, rest, table, f"{tokens.said(rest)} are more than {len(estimates)} lost calls can be")
    return _held_to_dollars(group, corrections, table)


def _open(group: _Group, unexplained: Tokens, table: PriceTable, why: str) -> _Verdict:
    return _Verdict((), tokens.worth(group.model, unexplained, table), (why,))


def _shared_out(
    estimates: Sequence[CallRecord], rest: Tokens, terms: tuple[tuple[str, str], ...], table: PriceTable
) -> tuple[Correction, ...] | None:
    """Each lost call with its share of the rest, by its worst case: exact for one, and in the sum for several. None
    where one would cost more than it can."""
    weights = [row.cost_usd_micros for row in estimates]
    shares = [_split(count, weights) for count in rest] if estimates else []
    corrections: list[Correction] = []
    for n, row in enumerate(estimates):
        made = tokens.corrected(row, (shares[0][n], shares[1][n], shares[2][n], shares[3][n]), terms, table)
        if made is None:
            return None
        corrections.append(made)
    return tuple(corrections)


def _split(count: int, weights: Sequence[int]) -> list[int]:
    """In whole parts that add up to `count`, the largest remainders first."""
    total = sum(weights)
    parts = [count * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: (-(count * weights[n] % total), n))
    for n in by_remainder[: count - sum(parts)]:
        parts[n] += 1
    return parts


def _terms_of(lines: Sequence[BilledUsage]) -> tuple[tuple[str, str], ...]:
    """Those that all lines share: a lost call was made as the others were."""
    found = {line.usage.terms for line in lines}
    return found.pop() if len(found) == 1 else ()


def _held_to_dollars(group: _Group, corrections: tuple[Correction, ...], table: PriceTable) -> _Verdict:
    """The tokens agree. Terms and prices may still differ, which shows where all calls are of one price list: each was
    rounded up once, and so is each line here."""
    unread = sorted({name for line in group.usages for name in line.usage.unread})
    if unread:
        return _Verdict((), 1, (f"the provider counts what the ledger does not: {', '.join(unread)}",))
    unpriced = sorted({name for line in group.usages for name in table.unpriced(line.usage)})
    if unpriced:
        return _Verdict((), 1, (f"no price is known for {', '.join(unpriced)}",))
    entry = table.price_of(group.model)
    rows = [*group.known(), *(one.after for one in corrections)]
    if entry is None or any(row.price_version != table.version or _is_long(row, entry) for row in rows):
        return _Verdict(corrections)
    booked, billed = sum(row.cost_usd_micros for row in rows), _cost_of(group.usages, table)
    if -len(group.usages) <= booked - billed <= len(rows):
        return _Verdict(corrections)
    return _Verdict((), abs(booked - billed), ("the tokens agree, the dollars do not: other terms or prices",))


def _is_long(row: CallRecord, entry: ModelPrice) -> bool:
    return entry.rates(sum(tokens.booked(row)) - row.output_tokens) != entry.base


def _cost_of(lines: Sequence[BilledUsage], table: PriceTable) -> int:
    """At the rates of short prompts: nobody knows how long those were that a line sums up."""
    short = replace(table, models={name: ModelPrice(entry.base) for name, entry in table.models.items()})
    return sum(price(line.usage, line.model, short) or 0 for line in lines)


# ── by dollars ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_cost(group: _Group) -> _Verdict:
    """Dollars are rounded where they are written, so they only prove; what a lost call cost, its tokens say."""
    estimates = group.estimates()
    if estimates or group.in_flight():
        open_usd_micros = max(1, sum(row.cost_usd_micros for row in estimates))
        how = "ask again later" if group.in_flight() else "the usage export tells"
        return _Verdict((), open_usd_micros, (f"{len(estimates) + group.in_flight()} calls have no known cost: {how}",))
    booked = sum(row.cost_usd_micros for row in group.known())
    billed = sum((line.usd_micros for line in group.costs), Fraction())
    rounding = sum((line.rounding_usd_micros for line in group.costs), Fraction())
    if billed - rounding <= booked <= billed + rounding + len(group.known()):
        return _Verdict()
    return _Verdict((), max(1, _up(abs(booked - billed))), ("the dollars do not agree",))
