"""Budgets: what fits, what a settlement gives back, which thresholds were crossed.

Pure arithmetic in integer micro-dollars; `stores/ledger` does the same in one SQL statement.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    """Money set aside for one call, in every account at once. When its holder dies it expires and counts as spent."""

    reservation_id: str
    accounts: tuple[Account, ...]
    amount_usd_micros: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """`account` has no room for the amount; nothing was reserved anywhere."""

    account: Account
