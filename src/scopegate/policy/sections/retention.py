"""`retention`: how long the database keeps what leads leave behind.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

from pydantic import WithJsonSchema

from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Shape, option, parsed
from scopegate.policy.quantities import KEEP_PATTERN, parse_keep_ms
from scopegate.policy.tree import Fault

# Values


class Kept(StrEnum):
    """What is kept for a time of its own, in the order in which it is deleted."""

    PHOTOS = "photos"
    LEADS = "leads"
    ORDERS = "orders"
    CALLS = "calls"


@dataclass(frozen=True, slots=True)
class Retention:
    """Milliseconds from the end of a thing to its deletion; None keeps it for ever.

    `leads_ms`: a job with its lead's words, results and attempts, from its end, and a lead order that waits for a
    person, from its arrival. `photos_ms`: the photos' addresses of a done job. `orders_ms`: a lead order that is
    closed, from its arrival. `calls_ms`: a row of the ledger, from its call, and the accounts of budgets that ended
    before."""

    leads_ms: int | None = None
    photos_ms: int | None = None
    orders_ms: int | None = None
    calls_ms: int | None = None

    def ends(self, now_ms: int) -> Mapping[Kept, int]:
        """Unix milliseconds: what is older is to be deleted. Only what is not kept for ever."""
        kept = {
            Kept.PHOTOS: self.photos_ms,
            Kept.LEADS: self.leads_ms,
            Kept.ORDERS: self.orders_ms,
            Kept.CALLS: self.calls_ms,
        }
        return {what: now_ms - for_ms for what, for_ms in kept.items() if for_ms is not None}


FOR_EVER = Retention()

# Shapes

Keep: TypeAlias = Annotated[
    int,
    parsed(parse_keep_ms),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": KEEP_PATTERN}, {"const": 0}], "examples": ["90d", 0]}),
]


class RetentionShape(Shape):
    leads: Keep | None = option(
        None, "A job with its lead's words, results and attempts, from its end. Left out, like the others: for ever."
    )
    photos: Keep | None = option(
        None, "The addresses of a done job's photos, which often open them to anybody; 0 forgets them at its end."
    )
    orders: Keep | None = option(None, "A closed lead order. One that waits for a person is kept as long as a lead.")
    calls: Keep | None = option(None, "A model call in the ledger, and budgets that ended so long ago.")

    def build(self) -> Retention:
        return Retention(self.leads, self.photos, self.orders, self.calls)


# Checks


def checks(draft: Draft) -> Iterator[Fault]:
    kept = draft.one("retention", RetentionShape)
    if kept is None or not draft.has("retention"):
        return
    for name, other in (("photos", kept.photos), ("orders", kept.orders)):
        if kept.leads is not None and other is not None and other > kept.leads:
            yield draft.warning(("retention", name), "never comes to that: it goes with the lead")
