"""Budgets: what a rule means at a moment for whoever asks, and which thresholds of it are reached.

Pure arithmetic in integer micro-dollars; `stores/accounts` does it under the database's row locks.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from fractions import Fraction
from typing import Literal, Protocol, TypeAlias

from scopegate.limits.calendar import day_of, month_of

_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_KEY = "~none"


class Per(StrEnum):
    """What there is one such budget for, each."""

    CONTRACTOR = "contractor"
    OFFLOAD = "offload"
    LEAD = "lead"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Rolling:
    """Any span of so many milliseconds: money leaves the account that long after it was spent."""

    span_ms: int


Period: TypeAlias = Literal["day", "month", "total"] | Rolling
"""`day` and `month` are the calendar's; `total` never ends."""

Payer: TypeAlias = Mapping[Per, str | None]
"""Whom a call is for, by everything that there can be a budget for."""


class BudgetTerms(Protocol):
    """The part of the policy's `BudgetRule` that is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def limit_usd_micros(self) -> int: ...
    @property
    def period(self) -> Period: ...
    @property
    def per(self) -> Per | None: ...
    @property
    def warn_at(self) -> tuple[float, ...]: ...
    @property
    def zone(self) -> tzinfo: ...


@dataclass(frozen=True, slots=True)
class Account:
    """One budget in one period for one key: what `BudgetRule` means at a moment. `scope` is the row's identity,
    e.g. `contractor-day|2026-11-24|roofers-inc`; `ends_ms` is when there is room again at the latest (Unix
    milliseconds), None for never. `window_ms`: of a rolling one, how long money stays in it. `warn_at`: shares of the
    cap in 0..1, lowest first."""

    scope: str
    name: str
    cap_usd_micros: int
    ends_ms: int | None
    window_ms: int | None = None
    warn_at: tuple[float, ...] = ()


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


def account(rule: BudgetTerms, now_ms: int, payer: Payer) -> Account:
    """The account that `rule` means at `now_ms` for a call of this payer. Those without a key share one account of a
    rule that asks for it."""
    label, ends_ms, window_ms = _period(rule, now_ms)
    parts = [rule.name, label] if rule.per is None else [rule.name, label, key_of(payer.get(rule.per))]
    return Account("|".join(parts), rule.name, rule.limit_usd_micros, ends_ms, window_ms, rule.warn_at)


def accounts(rules: Sequence[BudgetTerms], now_ms: int, payer: Payer) -> tuple[Account, ...]:
    """One account per rule, in the rules' order."""
    return tuple(account(rule, now_ms, payer) for rule in rules)


def reached(warn_at: Sequence[float], cap_usd_micros: int, spent_usd_micros: int, told: float) -> tuple[float, ...]:
    """The shares of the cap that spending has reached, above the one that was `told` last, lowest first."""
    return tuple(
        share for share in sorted(warn_at) if share > told and spent_usd_micros >= threshold(share, cap_usd_micros)
    )


def threshold(share: float, cap_usd_micros: int) -> int:
    """The least that reaches this share of the cap."""
    return math.ceil(Fraction(str(share)) * cap_usd_micros)


def _period(rule: BudgetTerms, now_ms: int) -> tuple[str, int | None, int | None]:
    """(label, when it ends, how long money stays)."""
    match rule.period:
        case "day":
            span = day_of(now_ms, rule.zone)
            return span.label, span.ends_ms, None
        case "month":
            span = month_of(now_ms, rule.zone)
            return span.label, span.ends_ms, None
        case "total":
            return "total", None, None
        case Rolling(span_ms):
            return f"{span_ms // 1000}s", now_ms + span_ms, span_ms


def key_of(name: str | None) -> str:
    """A contractor's name comes from a request: anything but a short plain word is replaced by its digest. `~` cannot
    start a plain word, so no name can imitate another key."""
    if name is None:
        return _NO_KEY
    if _PLAIN_KEY.fullmatch(name):
        return name
    return "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
