"""Text with a unit -> a number in the unit the code counts in: limits, sizes, durations, money, shares.

Pure; one spelling per idea. Each function raises ValueError with a sentence that says what to write and never repeats
the text it was given: that text may come from the environment. Called by the sections and
`kinds`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from types import MappingProxyType

from scopegate.limits.barriers import BanRule
from scopegate.limits.budget import Period, Rolling
from scopegate.limits.window import Quota

MAX_QUOTA_LIMIT = 100_000
"""The exact window remembers each admission, so a limit is also a memory bound per key."""
MAX_PACED_LIMIT = 10_000_000
MAX_STRIKES = 10_000
MAX_QUOTA_SPAN_MS = 24 * 3_600_000
MAX_SIZE_BYTES = 64 * 1024**3
MAX_DURATION_MS = 24 * 3_600_000
MAX_KEEP_MS = 36_500 * 86_400_000
MAX_HSTS_AGE_S = 1000 * 86_400
MAX_MONEY_USD = 1_000_000
MAX_REUSE_MS = 30 * 86_400_000
MIN_BUDGET_SPAN_MS = 60_000
MAX_BUDGET_SPAN_MS = 366 * 86_400_000

QUOTA_PATTERN = r"^[1-9][0-9]* per [1-9][0-9]*(ms|s|m|h|d)$"
KEEP_PATTERN = r"^(0|[1-9][0-9]*(m|h|d))$"
AGE_PATTERN = r"^(0|[1-9][0-9]*)(s|m|h|d)$"
BAN_PATTERN = r"^[1-9][0-9]*(ms|s|m|h|d) after [1-9][0-9]* refusals? in [1-9][0-9]*(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[1-9][0-9]*(B|KiB|MiB|GiB)$"
DURATION_PATTERN = r"^[1-9][0-9]*(ms|s|m|h|d)$"
MONEY_PATTERN = r"^[0-9]+(\.[0-9]{1,6})? USD (in total|per (day|month|[1-9][0-9]*(m|h|d)))$"
PRICE_PATTERN = r"^[0-9]{1,4}(\.[0-9]{1,6})? USD per MTok$"
SHARE_PATTERN = r"^[0-9]+(\.[0-9]{1,2})?%$"

_SIZE_UNITS = MappingProxyType({"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3})
_DURATION_UNITS_MS = MappingProxyType({"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000})
_KEEP_UNITS_MS = MappingProxyType({"m": 60_000, "h": 3_600_000, "d": 86_400_000})
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15})([A-Za-zµ]*)", re.ASCII)
_QUOTA = re.compile(r"([0-9]{1,15}) per ([0-9]{1,15}[a-z]*)", re.ASCII)
_BAN = re.compile(r"([0-9]{1,15}[a-z]*) after ([0-9]{1,15}) refusals? in ([0-9]{1,15}[a-z]*)", re.ASCII)
_MONEY = re.compile(
    r"([0-9]{1,12}(?:\.[0-9]{1,6})?) USD (?:in (total)|per (day|month)|per ([0-9]{1,9})(m|h|d))", re.ASCII
)
_PRICE = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,6})?) USD per MTok", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,2})?)%", re.ASCII)


def parse_quota(text: str, most: int = MAX_QUOTA_LIMIT) -> Quota:
    """`10 per 10s`: at most 10 in any span of 10 seconds. Limit 1 to `most`, span up to one day."""
    match = _QUOTA.fullmatch(text)
    if match is None:
        raise ValueError("is not a limit, write it like `10 per 10s`")
    limit = int(match[1])
    if not 1 <= limit <= most:
        raise ValueError(f"has a limit outside 1 to {most}")
    try:
        span_ms = parse_duration_ms(match[2])
    except ValueError as error:
        raise ValueError(f"has a span that {error}") from None
    return Quota(limit, span_ms)


def parse_ban(text: str) -> BanRule:
    """`15m after 5 refusals in 1m`: 1 to 10,000 refusals, each span up to one day."""
    match = _BAN.fullmatch(text)
    if match is None:
        raise ValueError("is not a ban, write it like `15m after 5 refusals in 1m`")
    strikes = int(match[2])
    if not 1 <= strikes <= MAX_STRIKES:
        raise ValueError(f"has a number of refusals outside 1 to {MAX_STRIKES}")
    try:
        return BanRule(strikes, parse_duration_ms(match[3]), parse_duration_ms(match[1]))
    except ValueError as error:
        raise ValueError(f"has a span that {error}") from None


def parse_size(text: str) -> int:
    """`256KiB` -> bytes. Units B, KiB, MiB, GiB (powers of 1024); positive, at most 64GiB."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise ValueError("is not a size, write it like `256KiB`")
    number, unit = int(match[1]), match[2]
    if unit not in _SIZE_UNITS:
        raise ValueError(_unit_fault("a size", unit, _SIZE_UNITS, "256KiB"))
    return _bounded(number * _SIZE_UNITS[unit], MAX_SIZE_BYTES, "64GiB")


def parse_duration_ms(text: str) -> int:
    """`500ms`, `10s`, `1m`, `1h`, `1d` -> milliseconds; positive, at most one day."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise ValueError("is not a duration, write it like `10s`")
    number, unit = int(match[1]), match[2]
    if unit not in _DURATION_UNITS_MS:
        raise ValueError(_unit_fault("a duration", unit, _DURATION_UNITS_MS, "10s"))
    return _bounded(number * _DURATION_UNITS_MS[unit], MAX_DURATION_MS, "1d")


def parse_hsts_age_s(text: str) -> int:
    """`365d` -> seconds; whole ones, at most 1000d. Zero tells browsers to forget (RFC 6797 6.1.1)."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] == "ms":
        raise ValueError("is not a time in whole seconds, write it like `365d`")
    number, unit = int(match[1]), match[2]
    if unit not in _DURATION_UNITS_MS:
        raise ValueError(_unit_fault("a duration", unit, _DURATION_UNITS_MS, "365d"))
    seconds = number * _DURATION_UNITS_MS[unit] // 1000
    return _bounded(seconds, MAX_HSTS_AGE_S, "1000d") if seconds else 0


def parse_keep_ms(text: str) -> int:
    """`90d`, `36h`, `30m` -> milliseconds, at most 36500d; `0` for not at all."""
    if text == "0":
        return 0
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] in ("ms", "s"):  # pruning comes round every few minutes
        raise ValueError("is no time to keep something for, write it like `90d`, or 0")
    number, unit = int(match[1]), match[2]
    if unit not in _KEEP_UNITS_MS:
        raise ValueError(_unit_fault("a time", unit, _KEEP_UNITS_MS, "90d"))
    return _bounded(number * _KEEP_UNITS_MS[unit], MAX_KEEP_MS, "36500d")


def parse_money(text: str) -> tuple[int, Period]:
    """`20 USD per day` -> micro-dollars and a day or month of the calendar; `5 USD per 24h`: in any span so long, one
    minute to 366 days; `0.5 USD in total`: once and for all. Exact; positive, at most 1,000,000 USD."""
    match = _MONEY.fullmatch(text)
    if match is None:
        raise ValueError(
            "is not a budget, write it like `20 USD per day`, `300 USD per month`, `5 USD per 24h` or "
            "`0.5 USD in total`"
        )
    dollars = Decimal(match[1])
    if not 0 < dollars <= MAX_MONEY_USD:
        raise ValueError(f"is outside 0.000001 to {MAX_MONEY_USD} USD")
    return int(dollars * 1_000_000), _budget_period(match)


def _budget_period(match: re.Match[str]) -> Period:
    if match[2]:
        return "total"
    if match[3]:
        return "day" if match[3] == "day" else "month"
    span_ms = int(match[4]) * _DURATION_UNITS_MS[match[5]]
    if not MIN_BUDGET_SPAN_MS <= span_ms <= MAX_BUDGET_SPAN_MS:
        raise ValueError("has a span outside 1m to 366d")
    return Rolling(span_ms)


def parse_reuse_ms(text: str) -> int:
    """`7d` -> milliseconds; one minute to 30 days."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] not in ("m", "h", "d"):
        raise ValueError("is no lifetime, write it like `7d`")
    span_ms = int(match[1]) * _DURATION_UNITS_MS[match[2]]
    if not MIN_BUDGET_SPAN_MS <= span_ms <= MAX_REUSE_MS:
        raise ValueError("is outside 1m to 30d")
    return span_ms


def parse_price(text: str) -> int:
    """`2.5 USD per MTok` -> micro-dollars per million tokens, exact; positive, below 10,000 USD."""
    match = _PRICE.fullmatch(text)
    if match is None:
        raise ValueError("is not a price, write it like `2.5 USD per MTok` (a million tokens)")
    dollars = Decimal(match[1])
    if not dollars:
        raise ValueError("must be more than zero")
    return int(dollars * 1_000_000)


def parse_share(text: str) -> float:
    """`50%` -> 0.5; above 0, at most 100 %, two decimals."""
    match = _SHARE.fullmatch(text)
    if match is None:
        raise ValueError("is not a percentage, write it like `50%`")
    percent = Decimal(match[1])
    if not 0 < percent <= 100:
        raise ValueError("is outside 0.01% to 100%")
    return float(percent / 100)


def _bounded(value: int, most: int, most_text: str) -> int:
    if value == 0:
        raise ValueError("must be more than zero")
    if value > most:
        raise ValueError(f"is more than {most_text}")
    return value


def _unit_fault(kind: str, unit: str, units: MappingProxyType[str, int], example: str) -> str:
    if not unit:
        return f"has no unit, write it like `{example}`"
    close = next((known for known in units if unit.lower() in {known.lower(), (known[0] + known[-1]).lower()}), None)
    meant = f" (did you mean {close})" if close else ""
    return f"is not {kind} in {', '.join(units)}{meant}"
