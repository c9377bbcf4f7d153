"""The ledger held against a provider's statement, whatever that counts in. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from scopegate.bills.calls import match_calls
from scopegate.bills.days import match_days
from scopegate.bills.statement import Reckoning, Statement
from scopegate.leads.job import CallRecord
from scopegate.limits.pricing import PriceTable


def match(statement: Statement, rows: Sequence[CallRecord], table: PriceTable) -> tuple[Reckoning, ...]:
    """`rows` are the ledger's calls of the statement's time, and may be more."""
    each = match_days if statement.days else match_calls
    return tuple(each(statement, rows, table))
