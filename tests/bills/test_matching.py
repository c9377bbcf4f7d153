from __future__ import annotations

from scopegate.bills.matching import match
from scopegate.bills.statement import Statement
from tests.bills.exports import PRICES, row


def test_of_nothing_nothing_is_said() -> None:
    assert match(Statement("usage export", days=frozenset({"2026-11-23"})), [row("c1")], PRICES) == ()
    assert match(Statement("list of calls", since_ms=0, until_ms=1), [row("c1")], PRICES) == ()
