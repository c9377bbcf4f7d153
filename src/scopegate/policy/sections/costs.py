"""What a request counts for, and after which answers it does not: `cost`, `refund_on` and `count_only` of a tier.

Pure. Called by `tiers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator

from scopegate.policy.kinds import as_list, parsed, written
from scopegate.policy.quantities import MAX_QUOTA_LIMIT, parse_size
from scopegate.policy.spelling import parse_field_name

MAX_COSTLY_LIMIT = 10_000
"""Of an exact limit with costs: one request may write so many admissions in one step of the store."""

_ALL = frozenset(range(100, 600))
_ANSWER = "answer:"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request counts for: `fixed`, unless its body tells, one for every `per_bytes` begun, or the app's answer,
    by the number in its `field` (lower case)."""

    fixed: int = 1
    per_bytes: int = 0
    field: str = ""


ONE = Cost()


def parse_cost(text: str) -> Cost:
    if text.startswith(_ANSWER):
        try:
            return Cost(field=parse_field_name(text.removeprefix(_ANSWER)).lower())
        except ValueError:
            raise ValueError("names no field of the answer, write it like answer:X-Cost") from None
    if text.startswith("1 per "):
        try:
            return Cost(per_bytes=parse_size(text.removeprefix("1 per ")))
        except ValueError as error:
            raise ValueError(f"has a size that {error}") from None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= MAX_QUOTA_LIMIT:
        raise ValueError(f"is no cost: write a number from 1 to {MAX_QUOTA_LIMIT}, `1 per 64KiB` or answer:FIELD")
    return Cost(int(text))


def parse_status(text: str) -> frozenset[int]:
    """`401`, or `5xx` for all of them."""
    match = re.fullmatch(r"([1-5])(xx|[0-9]{2})", text, re.ASCII)
    if match is None:
        raise ValueError("is no status, write it like 401 or 5xx")
    return frozenset(each for each in _ALL if each // 100 == int(match[1]) and match[2] in ("xx", f"{each % 100:02d}"))


CostWord: TypeAlias = Annotated[Cost, parsed(parse_cost), written("1 per 64KiB")]
Status: TypeAlias = Annotated[frozenset[int], parsed(parse_status), written("5xx", r"^[1-5](xx|[0-9]{2})$")]
Statuses: TypeAlias = Annotated[
    list[Status], BeforeValidator(as_list, json_schema_input_type=Status | int | list[Status | int])
]


def given_back(refund_on: Iterable[frozenset[int]], count_only: Iterable[frozenset[int]]) -> frozenset[int]:
    """The statuses after which a request counts no longer; one of the two says nothing."""
    counted = frozenset[int]().union(*count_only)
    return _ALL - counted if counted else frozenset[int]().union(*refund_on)
