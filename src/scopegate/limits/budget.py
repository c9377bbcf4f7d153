"""Budgets: what a rule means at a moment, and which thresholds a settlement crossed.

Pure arithmetic in integer micro-dollars; `stores/ledger` reserves and settles in one SQL statement each.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Protocol

_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_CONTRACTOR = "~none"


class BudgetTerms(Protocol):
    """The part of the policy's `BudgetRule` that is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def limit_usd_micros(self) -> int: ...
    @property
    def period(self) -> str: ...
    @property
    def per(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """One budget in one period for one key: what `BudgetRule` means at a moment. `scope` is the row's identity,
    e.g. `contractor-day|2026-11-24|roofers-inc`; `ends_ms` is when the period ends (Unix milliseconds)."""

    scope: str
    name: str
    cap_usd_micros: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one call attempt, in every account at once. When its holder dies it expires and counts as
    spent."""

    call_id: str
    accounts: tuple[Account, ...]
    amount_usd_micros: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """`account` has no room for the amount; nothing was reserved anywhere. `is_spent`: not even once everything that is
    set aside in it is given back."""

    account: Account
    is_spent: bool


def account(rule: BudgetTerms, now_ms: int, contractor: str | None = None) -> Account:
    """The account that `rule` means at `now_ms` for a lead of this contractor. Periods are calendar days and months,
    UTC. Leads without a contractor share one account of a per-contractor rule."""
    label, ends_ms = _period(rule.period, now_ms)
    parts = [rule.name, label] if rule.per is None else [rule.name, label, _key(contractor)]
    return Account("|".join(parts), rule.name, rule.limit_usd_micros, ends_ms)


def accounts(rules: Sequence[BudgetTerms], now_ms: int, contractor: str | None = None) -> tuple[Account, ...]:
    """One account per rule, in the rules' order."""
    return tuple(account(rule, now_ms, contractor) for rule in rules)


def crossed(warn_at: Sequence[float], cap_usd_micros: int, before: int, after: int) -> tuple[float, ...]:
    """The shares of the cap that spending reached by going from `before` to `after`, lowest first. A share is reached
    once: at the settlement that touches or passes it."""
    return tuple(share for share in sorted(warn_at) if before < _threshold(share, cap_usd_micros) <= after)


def _threshold(share: float, cap_usd_micros: int) -> int:
    return math.ceil(Fraction(str(share)) * cap_usd_micros)


def _period(period: str, now_ms: int) -> tuple[str, int]:
    day = datetime.fromtimestamp(now_ms // 1000, UTC).replace(hour=0, minute=0, second=0)
    if period == "day":
        return day.strftime("%Y-%m-%d"), _unix_ms(day + timedelta(days=1))
    assert period == "month", f"unknown period {period}"
    first = day.replace(day=1)
    return first.strftime("%Y-%m"), _unix_ms((first + timedelta(days=32)).replace(day=1))


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _key(contractor: str | None) -> str:
    """A contractor's name comes from a request: anything but a short plain word is replaced by its digest. `~` cannot
    start a plain word, so no name can imitate another key."""
    if contractor is None:
        return _NO_CONTRACTOR
    if _PLAIN_KEY.fullmatch(contractor):
        return contractor
    return "~" + hashlib.sha256(contractor.encode("utf-8", "surrogatepass")).hexdigest()[:32]
