from __future__ import annotations

from scopegate.bills import tokens
from scopegate.limits.pricing import Usage
from tests.bills.exports import MODEL, PRICES, lost, row


def test_a_lost_call_becomes_what_it_was() -> None:
    made = tokens.corrected(lost("c1", 5_000), (1_000, 100, 0, 0), (), PRICES)
    assert made is not None
    assert made.after.outcome == "reconciled"
    assert (made.after.input_tokens, made.after.output_tokens) == (1_000, 100)
    assert (made.after.cost_usd_micros, made.usd_micros) == (150, -4_850)


def test_one_that_failed_by_a_name_keeps_it() -> None:
    made = tokens.corrected(lost("c1", outcome="timeout"), tokens.NONE, (), PRICES)
    assert made is not None
    assert (made.after.outcome, made.after.cost_usd_micros) == ("timeout", 0)


def test_terms_are_part_of_the_price() -> None:
    made = tokens.corrected(lost("c1"), (1_000, 100, 0, 0), (("service_tier", "batch"),), PRICES)
    assert made is not None
    assert made.after.cost_usd_micros == 75


def test_more_than_its_worst_case_is_none() -> None:
    assert tokens.corrected(lost("c1", 149), (1_000, 100, 0, 0), (), PRICES) is None
    assert tokens.corrected(lost("c1", 150), (1_000, 100, 0, 0), (), PRICES) is not None
    assert tokens.corrected(lost("c1"), (1, 1, 0, 0), (("service_tier", "gold"),), PRICES) is None


def test_what_is_not_explained_is_never_worth_nothing() -> None:
    assert tokens.worth(MODEL, (1_000, 100, 0, 0), PRICES) == 150
    assert tokens.worth(MODEL, (1, 0, 0, 0), PRICES) == 1
    assert tokens.worth("nobody-knows-it", (1, 0, 0, 0), PRICES) == 1
    assert tokens.worth(MODEL, tokens.NONE, PRICES) == 0


def test_tokens_are_counted_by_kind_and_said_by_name() -> None:
    assert tokens.billed(Usage(1, 2, 3, 4, 5)) == (1, 2, 3, 9)
    assert tokens.booked(row("c1", (7, 8))) == (7, 8, 0, 0)
    assert tokens.total([(1, 2, 3, 4), (10, 20, 30, 40)]) == (11, 22, 33, 44)
    assert tokens.positive(tokens.less((1, 2, 3, 4), (2, 1, 3, 0))) == (0, 1, 0, 4)
    assert tokens.said((1_000, 0, 0, 5)) == "1,000 input, 5 cache write tokens"
