"""What a provider says it billed, however its export was spelt. Values: `export` reads, `matching` compares them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction

from scopegate.bills.tokens import Correction
from scopegate.limits.pricing import Usage

_COMPLETE_AFTER_MS = 3_600_000
_DATED = re.compile(r"-\d{8}\Z")


class BadExport(ValueError):
    """A file that is no whole export. `place` is where: `usage.csv, line 7`; nothing of the file's text is quoted."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")


@dataclass(frozen=True, slots=True)
class BilledCall:
    """One call; its key is the API's request id. `at_ms` is when it was answered (Unix milliseconds)."""

    place: str
    key: tuple[str, ...]
    at_ms: int
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """Tokens of one model on one UTC day, or of a part of them: `key` says which part. `unread` of the usage names what
    else was counted."""

    place: str
    key: tuple[str, ...]
    day: str
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class BilledCost:
    """Dollars of one model on one UTC day, or of a part of them; `model` is empty for what is no model's.
    `rounding_usd_micros` is half of the last digit that was written."""

    place: str
    key: tuple[str, ...]
    day: str
    model: str
    usd_micros: Fraction
    rounding_usd_micros: Fraction


@dataclass(frozen=True, slots=True)
class Statement:
    """One export, or the pages of one. Either `calls`, each by itself, between `since_ms` and `until_ms`; or `usages`
    or `costs` of whole `days`, also of those on which nothing was billed."""

    kind: str
    calls: tuple[BilledCall, ...] = ()
    usages: tuple[BilledUsage, ...] = ()
    costs: tuple[BilledCost, ...] = ()
    days: frozenset[str] = frozenset()
    since_ms: int = 0
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reckoning:
    """One model on the days that belong together, or in the time of a list of calls. Of the ledger as it is once the
    corrections are made; `provider_usd_micros` is rounded up. `unexplained_usd_micros` is zero exactly where there are
    no `reasons`."""

    days: str
    model: str
    calls: int
    ledger_usd_micros: int
    provider_usd_micros: int
    corrections: tuple[Correction, ...]
    unexplained_usd_micros: int
    reasons: tuple[str, ...]


def whole_days(statement: Statement, now_ms: int) -> Statement:
    """Without the days that are not over: a provider's reports are complete an hour later."""
    last = datetime.fromtimestamp((now_ms - _COMPLETE_AFTER_MS) / 1000, UTC).date().isoformat()
    return replace(
        statement,
        usages=tuple(line for line in statement.usages if line.day < last),
        costs=tuple(line for line in statement.costs if line.day < last),
        days=frozenset(day for day in statement.days if day < last),
    )


def plain_model(name: str) -> str:
    """`Claude Haiku 4.5`, `claude-haiku-4-5` and `claude-haiku-4-5-20251001` are one."""
    return _DATED.sub("", name.strip().lower().replace(" ", "-").replace(".", "-"))
